"""Breaks when tokenizer.json gives other ids than the SentencePiece model it comes from."""

from __future__ import annotations

import json

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.artifacts import write_json, write_text
from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.piece_model import read_pieces, renamed
from headwater.tokenizer.stage import generation_config, tokenizer_config

PARTS = st.sampled_from(["a", "aa", "-", "=", " ", "  ", "\t", "\n", "的", "河水", "12", "é", "<s>", "<|user|>", "😀",
                         "_", "0x", "\u3000", "return", "river", "\r\n", "<0x41>"])


@pytest.fixture(scope="module")
def exported(trained) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer.from_str(tokenizer_json(trained.to_bytes()))
    found.encode_special_tokens = True
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=40).map("".join) | st.text(st.characters(exclude_categories=["Cs"])))
@example("  a    b\n\n\n   ")
def test_ids_and_texts_are_those_of_the_model(trained, exported, text):
    if "▁" in text:
        return
    ids = exported.encode(text, add_special_tokens=False).ids
    assert ids == trained.encode(text)
    assert exported.decode(ids, skip_special_tokens=False) == text


def test_special_tokens_keep_their_ids(trained, exported):
    assert {name: exported.token_to_id(name) for name in trained.specials} == trained.specials


def test_a_folder_with_the_json_alone_gives_the_same_ids(trained, tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(trained.to_bytes()))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    again = Tokenizer.load(tmp_path)
    for text in ("The river Velna is 482 km long.\n\n    x = 1", "维尔纳河全长482公里。", "<|user|> 👩‍👧"):
        assert again.encode(text) == trained.encode(text)
        assert again.decode(again.encode(text)) == text


def test_a_model_without_bytes_is_refused(trained):
    model = renamed(trained.to_bytes(), lambda text: text)
    assert model == trained.to_bytes()
    assert len(read_pieces(model)) == trained.vocab_size
    with pytest.raises(InputError, match="no byte pieces"):
        tokenizer_json(bytes([0x0A, 3, 0x0A, 1, 0x61]))


def test_a_start_opens_a_text_where_special_tokens_are_asked_for(exported, trained):
    plain = trained.encode("a river")
    assert exported.encode("a river").ids == [trained.bos, *plain]
    assert exported.encode("a river", "12").ids == [trained.bos, *plain, trained.bos, *trained.encode("12")]
    assert exported.encode("a river", add_special_tokens=False).ids == plain


def test_transformers_gives_the_same_ids(trained, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    (tmp_path / "tokenizer.model").write_bytes(trained.to_bytes())
    write_text(tmp_path / "tokenizer.json", tokenizer_json(trained.to_bytes()))
    write_json(tmp_path / "tokenizer_config.json", tokenizer_config(trained))
    other = transformers.AutoTokenizer.from_pretrained(tmp_path, split_special_tokens=True)
    text = "The river, 482 km.\n    return x 河水 é 😀 <|user|>"
    assert other.encode(text) == [trained.bos, *trained.encode(text)]
    assert other.decode(trained.encode(text)) == text


def test_transformers_ends_answers_where_we_do(trained, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    write_json(tmp_path / "generation_config.json", generation_config(trained))
    read = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert set(read.eos_token_id) == trained.stop_ids > {trained.eos, trained.specials["<|end|>"]}
    assert (read.bos_token_id, read.pad_token_id) == (trained.bos, trained.pad)
