"""Breaks when old ids move, a text without new pieces is encoded otherwise, or new pieces are never used."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece

from headwater.errors import InputError
from headwater.tokenizer.extending import extended
from headwater.tokenizer.piece_model import Piece, read_pieces, with_pieces
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

ENGLISH = "The river rises in the hills and runs through the old town to the sea, where boats return every evening.\n"
CHINESE = "河流发源于山地，流经老城，最后注入大海，每天傍晚船只都会归来。河流的水很清。\n"


def model(folder: Path, text: str, size: int) -> bytes:
    train_bpe(count_words([(text * 9, "")]).weighted(), folder / "m.model", BpeSettings(vocab_size=size))
    return (folder / "m.model").read_bytes()


def test_old_ids_stay_and_new_pieces_follow(tmp_path):
    base, other = model(tmp_path, ENGLISH, 330), model(tmp_path, CHINESE, 345)
    larger = extended(base, other)
    old, new = read_pieces(base), read_pieces(larger.model)
    assert new[:len(old)] == old
    assert [piece.text for piece in new[len(old):]] == larger.added
    assert {"，", "。"} <= set(larger.added)
    assert all(set(text) & set(CHINESE.strip()) for text in larger.added)
    before, after = (sentencepiece.SentencePieceProcessor(model_proto=one) for one in (base, larger.model))
    assert before.Encode(ENGLISH) == after.Encode(ENGLISH)
    assert len(after.Encode(CHINESE)) < len(before.Encode(CHINESE)) / 2
    assert after.Decode(after.Encode(CHINESE)) == CHINESE


def test_real_llama_reads_chinese_shorter_and_english_alike(tmp_path, shared):
    base = (shared / "tokenizers/llama-32000/tokenizer.model").read_bytes()
    other = (shared / "tokenizers/chatglm2-3-64794/tokenizer.model").read_bytes()
    larger = extended(base, other)
    before, after = (sentencepiece.SentencePieceProcessor(model_proto=one) for one in (base, larger.model))
    assert before.Encode(ENGLISH) == after.Encode(ENGLISH)
    assert len(after.Encode(CHINESE)) < 0.6 * len(before.Encode(CHINESE))
    assert after.Decode(after.Encode(CHINESE)) == CHINESE


def test_nothing_new_is_said(tmp_path):
    base = model(tmp_path, ENGLISH, 330)
    with pytest.raises(InputError, match="no piece that this one lacks"):
        extended(base, base, "all")


def test_new_pieces_of_real_llama_have_ranks_of_their_own_and_halves(shared):
    base = (shared / "tokenizers/llama-32000/tokenizer.model").read_bytes()
    other = (shared / "tokenizers/chatglm2-3-64794/tokenizer.model").read_bytes()
    pieces = read_pieces(extended(base, other).model)
    texts = {piece.text for piece in pieces}
    new = pieces[32_000:]
    assert len({piece.score for piece in new}) == len(new)
    assert max(piece.score for piece in new) < min(piece.score for piece in pieces[:32_000] if piece.score > -1e8)
    assert all(len(text) == 1 or any(text[:cut] in texts and text[cut:] in texts for cut in range(1, len(text)))
               for text in (piece.text for piece in new))


def test_a_piece_that_nothing_makes_is_left_out(tmp_path):
    base = model(tmp_path, ENGLISH, 330)
    other = with_pieces(model(tmp_path, CHINESE, 345), [Piece("℃，", -9000.0, 1), Piece("的水", -9001.0, 1)])
    added = extended(base, other).added
    assert "的水" in added
    assert "℃，" not in added
