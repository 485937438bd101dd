import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
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
    for name in ("a", "b"):
        train_bpe(words, tmp_path / name, BpeSettings(vocab_size=300), threads=2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("vocab_size", "fix"), [(5000, "lower vocab_size"), (270, "raise vocab_size")])
def test_a_vocabulary_that_does_not_fit_the_text_is_refused(tmp_path, vocab_size, fix):
    with pytest.raises(InputError, match=fix):
        train_bpe([("天地玄黄宇宙洪荒日月盈昃", 1)], tmp_path / "m",
                  BpeSettings(vocab_size=vocab_size, character_coverage=1.0))
    assert not (tmp_path / "m").exists()


def test_a_damaged_model_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(InputError, match="SentencePiece model"):
        Tokenizer.load(tmp_path)
