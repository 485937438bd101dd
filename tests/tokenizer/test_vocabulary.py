import contextlib
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from headwater.errors import InputError, SettingsError
from headwater.progress import Bar
from headwater.tokenizer import Tokenizer, training
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.training import BpeSettings, train_bpe


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("▁ spaced ▁▁\0 and \0")
@example("  <s></s><unk><0x41><|user|><|end|>\r\n\t ")
@example("臺灣 𠮷野家 👩‍👩‍👧 \u2028\ufeff")
def test_any_text_comes_back_and_never_as_a_special(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert not {trained.bos, trained.eos, trained.pad, *trained.specials.values()} & set(ids)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_a_batch_is_encoded_as_its_texts_are(trained, texts):
    assert trained.encode_batch(texts) == [trained.encode(text) for text in texts]


def test_pieces_follow_baichuan_2s_rules(trained):
    pieces = [trained.piece(index) for index in range(trained.vocab_size)]
    words = [piece for piece in pieces if not piece.startswith("<")]
    assert all(len(piece) <= 8 for piece in words)
    assert [piece for piece in words if len(piece) > 1 and any(c.isdigit() for c in piece)] == []
    assert sum(piece.startswith("<0x") for piece in pieces) == 256
    assert "▁▁▁▁" in pieces  # runs of spaces are pieces, for code
    assert [trained.piece(i) for i in trained.encode("2024")] == ["2", "0", "2", "4"]
    assert trained.encode("a")[0] != trained.encode(" a")[0]  # no dummy prefix


def test_nothing_is_normalised(trained):
    for text in ("ﬁ", "e\u0301", "é", "１２３", "Ａ", "\u3000"):
        assert trained.decode(trained.encode(text)) == text


def test_lone_surrogates_are_refused(trained):
    with pytest.raises(InputError, match="not valid Unicode"):
        trained.encode("a\ud800b")


def test_padding_ids_decode_to_nothing(trained):
    assert trained.decode([trained.bos, *trained.encode("hi"), trained.vocab_size + 5, trained.eos]) == "hi"


def test_training_is_deterministic(tmp_path):
    words = [("one", 9), (" two", 8), (" three", 8), ("一二三", 7), (" four", 7), ("四五", 7)]
    for threads, name in ((1, "a"), (2, "b")):
        train_bpe(words, tmp_path / name, BpeSettings(vocab_size=300), threads=threads)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("vocab_size", "fix"), [(5000, "lower vocab_size"), (284, "raise vocab_size")])
def test_a_vocabulary_that_does_not_fit_the_text_is_refused(tmp_path, vocab_size, fix):
    with pytest.raises(InputError, match=fix):
        train_bpe([("天地玄黄宇宙洪荒日月盈昃", 1)], tmp_path / "m",
                  BpeSettings(vocab_size=vocab_size, character_coverage=1.0))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("multiple", [64, 128])
def test_padding_pieces_fill_up_a_multiple_and_no_text_gives_them(tmp_path, multiple):
    words = [("one", 9), (" two", 8), ("天地玄黄", 7), ("<|reserved_0|>", 5)]
    train_bpe(words, tmp_path / "plain", BpeSettings(vocab_size=303))
    train_bpe(words, tmp_path / "tokenizer.model", BpeSettings(vocab_size=303, pad_to=multiple))
    (tmp_path / "tokenizer.json").write_text(tokenizer_json((tmp_path / "tokenizer.model").read_bytes()))
    padded = Tokenizer.load(tmp_path)
    assert padded.vocab_size == -(-303 // multiple) * multiple
    text = "one two 天地 <|reserved_0|>"
    assert padded.decode(padded.encode(text)) == text
    assert max(padded.encode_packed([text * 2000]).ids) < 303
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.encode_special_tokens = True
    assert library.encode(text, add_special_tokens=False).ids == padded.encode(text)
    assert padded.decode([303, padded.vocab_size - 1]) == ""
    (tmp_path / "plain").rename(tmp_path / "tokenizer.model")
    assert Tokenizer.load(tmp_path).encode(text) == padded.encode(text)


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(SettingsError, match="256 bytes"):
        BpeSettings.parse({"vocab_size": 256})


def test_training_leaves_nothing_behind_when_it_is_stopped(tmp_path, monkeypatch):
    stuck = "import sys, time; print('Merged: freq=9 merges=5 piece=a', file=sys.stderr, flush=True); time.sleep(600)"
    monkeypatch.setattr(training, "_LEARN", stuck)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bar, "advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_bpe([("a", 1)], tmp_path / "m", BpeSettings(vocab_size=300))
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_that_fails_otherwise_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_LEARN", "raise RuntimeError('INTERNAL: file.cc(1) [write] disk quota')")
    with pytest.raises(InputError, match="disk quota") as raised:
        train_bpe([("a", 1)], tmp_path / "m", BpeSettings(vocab_size=300))
    assert "vocab_size" not in str(raised.value)


def test_a_trainer_that_is_killed_tells_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_LEARN", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(InputError, match="memory was too small"):
        train_bpe([("a", 1)], tmp_path / "m", BpeSettings(vocab_size=300))


@pytest.mark.parametrize("damage", [
    lambda model: b"not a model", lambda model: b"", lambda model: model[:2000],
    lambda model: model.replace("河".encode(), b"\xe6\xff\xb3")])
def test_a_damaged_model_is_refused(trained, tmp_path, damage):
    (tmp_path / "tokenizer.model").write_bytes(damage(trained.to_bytes()))
    with pytest.raises(InputError, match="SentencePiece model"):
        Tokenizer.load(tmp_path)


def test_flipped_bits_are_told_or_harmless(trained, tmp_path):
    draw = random.Random(0)
    for _ in range(60):
        model = bytearray(trained.to_bytes())
        model[draw.randrange(len(model))] ^= 1 << draw.randrange(8)
        (tmp_path / "tokenizer.model").write_bytes(model)
        with contextlib.suppress(InputError):  # any other error fails here
            Tokenizer.load(tmp_path).encode_packed(["a river 482 km, 河 "])
