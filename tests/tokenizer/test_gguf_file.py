"""Vocabularies in GGUF files: llama.cpp's names of the ways to cut, words found before it, rows that only pad."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from headwater.errors import InputError, MissingExtraError
from headwater.tokenizer import Tokenizer

PIECES = [*sorted(ByteLevel.alphabet()), "he", "ll", "hell", "hello", "Ġw", "12", "123", "ä¸", "ä¸Ń", "ĠĠ",
          "<|end|>", "    ", "[PAD267]", "ø~"]
KINDS = [1] * (len(PIECES) - 4) + [3, 4, 4, 4]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "1 2", "12 3", "ä ¸", "ä¸ Ń", "Ġ Ġ"]
TEXT = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["hello", " w", "'s", "1234", "    ", "中", "<|end|>"])),
                max_size=6).map("".join)


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf", reason="the package gguf is not installed")


@pytest.fixture
def put(gguf, tmp_path):
    def place(pre="gpt-2", architecture="gpt2", model="gpt2", pieces=PIECES, kinds=KINDS, merges=MERGES, eos=266):
        writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", architecture)
        writer.add_tokenizer_model(model)
        if pre is not None:
            writer.add_tokenizer_pre(pre)
        writer.add_token_list(pieces)
        writer.add_token_types(kinds)
        if merges:
            writer.add_token_merges(merges)
        if eos is not None:
            writer.add_eos_token_id(eos)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return tmp_path / "vocab.gguf"
    return place


def spelled(tokenizer, text):
    return [tokenizer.piece(index) for index in tokenizer.encode(text)]


def test_words_specials_and_padding_rows_keep_apart(put):
    tokenizer = Tokenizer.load(put())
    assert (tokenizer.eos, tokenizer.bos, tokenizer.pad, tokenizer.vocab_size) == (266, 266, 266, len(PIECES))
    assert tokenizer.specials == {"<|end|>": 266}
    assert spelled(tokenizer, "hello     w") == ["hello", "    ", "Ġw"]  # the word of four spaces comes first
    assert spelled(tokenizer, "aø~") == ["a", "ø~"]
    assert tokenizer.decode(tokenizer.encode("aø~    <|end|>[PAD268]")) == "aø~    <|end|>[PAD268]"
    assert not {266, 268} & set(tokenizer.encode("<|end|>[PAD268]"))


@pytest.mark.parametrize(("pre", "architecture", "text", "pieces"), [
    ("gpt-2", "gpt2", "hello's 1234", ["hello", "'", "s", "Ġ", "123", "4"]),
    (None, "gptneox", "e\u0301", ["Ã", "©"]),
    ("falcon", "falcon", "1234!?м", ["123", "4", "!", "?", "Ð", "¼"]),
    ("deepseek-llm", "llama", "hello 123中\n w", ["hello", "Ġ", "1", "2", "3", "ä¸Ń", "Ċ", "Ġw"])])
def test_every_known_way_to_cut(put, pre, architecture, text, pieces):
    assert spelled(Tokenizer.load(put(pre, architecture)), text) == pieces


@pytest.mark.parametrize("pre", ["gpt-2", "falcon", "deepseek-llm"])
def test_text_comes_back_and_never_as_a_special(put, pre):
    tokenizer = Tokenizer.load(put(pre))

    @settings(max_examples=100)
    @given(text=TEXT)
    def check(text):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.eos not in ids
        assert tokenizer.encode_packed([text]).ids.tolist() == ids

    check()


@pytest.mark.parametrize(("options", "words"), [
    ({"model": "llama"}, r"of the kind 'llama'(.|\n)*tokenizer\.model"), ({"pre": "other"}, "cut as 'other'"),
    ({"pre": None}, "cut as None"), ({"merges": []}, "without tokens"), ({"eos": None}, "without tokens"),
    ({"eos": 999}, "without tokens"), ({"merges": ["he"]}, "not two pieces"),
    ({"merges": ["x yz"]}, "do not fit together")])
def test_files_that_do_not_fit_are_refused(put, options, words):
    with pytest.raises(InputError, match=words):
        Tokenizer.load(put(**options))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(put, share):
    path = put()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match="GGUF file"):
        Tokenizer.load(path)


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "vocab.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"headwater\[gguf\]"):
        Tokenizer.load(tmp_path / "vocab.gguf")


def test_a_real_file_gives_the_recorded_ids(gguf, shared):
    golden = json.loads((shared / "tokenizers" / "golden_ids.json").read_text())
    tokenizer = Tokenizer.load(shared / "tokenizers" / "gguf-vocab" / "ggml-vocab-falcon.gguf")
    assert tokenizer.encode_batch(golden["strings"]) == golden["ids"]["Falcon"]
