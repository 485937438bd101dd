"""Breaks when old tokens or logits change, new rows are not the means of their parts, or a bad request half-writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from headwater.cli.main import main
from headwater.errors import InputError
from headwater.finetune.vocabulary import ExtendSettings, extend
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

ENGLISH = "The river rises in the hills and runs through the old town to the sea, where boats return every evening.\n"
CHINESE = "河流发源于山地，流经老城，最后注入大海，每天傍晚船只都会归来。河流的水很清。\n"


def tokenizer(folder: Path, text: str, size: int) -> Path:
    folder.mkdir(exist_ok=True)
    train_bpe(count_words([(text * 9, "")]).weighted(), folder / "tokenizer.model", BpeSettings(vocab_size=size))
    return folder


def model(folder: Path, **options) -> Path:
    tokenizer(folder, ENGLISH, 330)
    config = ModelConfig(vocab_size=384, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=64, **options)
    save_model(initialise(Decoder(config), 0), folder, tokenizer_from=folder)
    return folder


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": True}, {"head": "normalized"}])
def test_old_tokens_keep_their_rows_and_new_ones_are_means(tmp_path, options):
    base, other = model(tmp_path / "m", **options), tokenizer(tmp_path / "zh", CHINESE, 345)
    (tmp_path / "text.txt").write_text(CHINESE + "\n" + ENGLISH)
    extend(base, tmp_path / "out", ExtendSettings(pieces_from=other, texts=tmp_path / "text.txt"))
    old, new = Tokenizer.load(base), Tokenizer.load(tmp_path / "out")
    before, after = load_model(base), load_model(tmp_path / "out")
    assert after.config.vocab_size % 64 == 0
    assert new.encode(ENGLISH) == old.encode(ENGLISH)
    assert new.decode(new.encode(CHINESE)) == CHINESE
    assert len(new.encode(CHINESE)) < len(old.encode(CHINESE)) / 2
    ids = torch.tensor([old.encode(ENGLISH)[:20]])
    with torch.inference_mode():
        ours, theirs = after(ids)[..., :330], before(ids)[..., :330]
    assert torch.allclose(ours, theirs, atol=1e-6)
    for index in (330, 335, new.vocab_size - 1):
        parts = old.encode(new.piece(index).replace("▁", " "))
        for rows, own in ((before.embedding.weight, after.embedding.weight), (before.head.weight, after.head.weight)):
            assert torch.allclose(own[index], rows[parts].mean(0), atol=1e-6)
    said = json.loads((tmp_path / "out/extended.json").read_text())
    assert (said["old"], said["new"]) == (330, new.vocab_size - 330)


def test_the_command_extends_real_llamas_tokenizer(tmp_path, shared, capsys):
    base = tmp_path / "m"
    base.mkdir()
    shutil.copy(shared / "tokenizers/llama-32000/tokenizer.model", base)
    config = ModelConfig(vocab_size=32_000, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=64)
    save_model(initialise(Decoder(config), 0), base, tokenizer_from=base)
    (tmp_path / "text.txt").write_text(CHINESE * 9)
    other = shared / "tokenizers/chatglm2-3-64794"
    assert main(["tokenizer", "extend", str(base), "--out", str(tmp_path / "out"), f"pieces_from={other}",
                 f"texts={tmp_path / 'text.txt'}"]) == 0
    assert "pieces added to 32,000" in (shown := capsys.readouterr().out)
    assert "Before and after" in shown
    assert load_model(tmp_path / "out").config.vocab_size > 60_000
    old, new = Tokenizer.load(base), Tokenizer.load(tmp_path / "out")
    rows, own = load_model(base).embedding.weight, load_model(tmp_path / "out").embedding.weight
    index = next(i for i in range(32_000, new.vocab_size) if new.piece(i) == "一个")
    parts = [next(i for i in range(32_000) if old.piece(i) == letter) for letter in "一个"]
    assert torch.allclose(own[index], rows[parts].mean(0), atol=1e-6)  # and no row of the space before a text


def test_a_real_model_whose_pieces_stand_in_two_files_is_extended(tmp_path, shared):
    base = shared / "checkpoints" / "stories260K-hf"
    extend(base, tmp_path / "out", ExtendSettings(pieces_from=shared / "tokenizers/chatglm2-3-64794"))
    old, new = Tokenizer.load(base), Tokenizer.load(tmp_path / "out")
    story = "Once upon a time, there was a little girl named Lily."
    assert new.encode(story) == old.encode(story)
    assert new.decode(new.encode(CHINESE)) == CHINESE
    ids = torch.tensor([[old.bos, *old.encode(story)]])
    with torch.inference_mode():
        before, after = load_model(base)(ids), load_model(tmp_path / "out")(ids)
    assert torch.allclose(after[..., :512], before[..., :512], atol=1e-5)


def test_impossible_requests_write_nothing(tmp_path, shared):
    base = model(tmp_path / "m")
    with pytest.raises(InputError, match="no piece that this one lacks"):
        extend(base, tmp_path / "out", ExtendSettings(pieces_from=base))
    with pytest.raises(InputError, match="no SentencePiece model"):
        extend(base, tmp_path / "out", ExtendSettings(pieces_from=tmp_path))
    glm = tmp_path / "glm"
    glm.mkdir()
    shutil.copy(shared / "tokenizers/chatglm2-3-64794/tokenizer.model", glm)
    (glm / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLMTokenizer", "name_or_path": "chatglm3"}')
    with pytest.raises(InputError, match="would move"):
        extend(glm, tmp_path / "out", ExtendSettings(pieces_from=base, pieces="all"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is there already"):
        extend(base, tmp_path / "file", ExtendSettings(pieces_from=tokenizer(tmp_path / "zh", CHINESE, 345)))
