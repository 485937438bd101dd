"""GPT-2's pair of files, under both of its names."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from headwater.errors import InputError
from headwater.folders import tokenizer_files
from headwater.tokenizer import Tokenizer

LETTERS = sorted(ByteLevel.alphabet())
PIECES = [*LETTERS, "he", "ll", "hell", "hello", "Ġw", "<|endoftext|>"]
MERGED = "#version: 0.2\nh e\nl l\nhe ll\nhell o\nĠ w\n"
TEXT = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["hello", " w", "'s", "  \n", "<|endoftext|>"])),
                max_size=6).map("".join)


@pytest.fixture
def put(tmp_path):
    def place(pieces=PIECES, merges=MERGED, names=("vocab.json", "merges.txt"), **beside):
        contents = (pieces if isinstance(pieces, str) else json.dumps({text: at for at, text in enumerate(pieces)}),
                    merges)
        for name, content in zip(names, contents):
            if content is not None:
                (tmp_path / name).write_text(content, encoding="utf-8")
        for name, values in beside.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(values))
        return tmp_path
    return place


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_both_names_and_each_file_open_the_pair(put, names):
    folder = put(names=names)
    for path in (folder, folder / names[0], folder / names[1]):
        tokenizer = Tokenizer.load(path)
        assert [tokenizer.piece(index) for index in tokenizer.encode("hello w")] == ["hello", "Ġw"]
        assert tokenizer.specials == {"<|endoftext|>": len(PIECES) - 1}
        assert tokenizer.vocab_size == len(PIECES)
    assert {path.name for path in tokenizer_files(folder)} == set(names) == {
        path.name for path in tokenizer_files(folder / names[1])}


def test_real_files_give_the_recorded_ids(shared):
    golden = json.loads((shared / "tokenizers" / "golden_ids.json").read_text())
    tokenizer = Tokenizer.load(shared / "tokenizers" / "gpt2-50257")
    assert tokenizer.encode_batch(golden["strings"]) == golden["ids"]["GPT-2"]
    assert [tokenizer.decode(row) for row in golden["ids"]["GPT-2"]] == golden["strings"]
    assert (tokenizer.eos, tokenizer.bos, tokenizer.vocab_size) == (50256, 50256, 50257)


def test_text_comes_back_and_never_as_a_special(put):
    tokenizer = Tokenizer.load(put())

    @settings(max_examples=150)
    @given(text=TEXT)
    def check(text):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.eos not in ids

    check()


def test_the_configuration_names_roles(put):
    tokenizer = Tokenizer.load(put([*PIECES, "[PAD]"], tokenizer_config={
        "tokenizer_class": "GPT2Tokenizer", "eos_token": {"content": "<|endoftext|>"}, "pad_token": "[PAD]"}))
    assert (tokenizer.eos, tokenizer.pad) == (len(PIECES) - 1, len(PIECES))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])  # the latter is what models of ours are written as
def test_a_model_folder_may_hold_the_pair(put, kind):
    assert Tokenizer.load(put(config={"model_type": kind})).encode("hello") == [PIECES.index("hello")]


@pytest.mark.parametrize(("files", "words"), [
    ({"merges": None}, r"vocab\.json and merges\.txt belong together"),
    ({"pieces": PIECES[1:]}, "lack single bytes"), ({"pieces": "{"}, "not valid JSON"),
    ({"pieces": "[]"}, "not pieces and their ids"), ({"pieces": '{"a": 1, "b": 1}'}, "share an id"),
    ({"merges": "h e\nhe\n"}, "line 2 of its merges"), ({"merges": MERGED + "x y\n"}, "do not fit together"),
    ({"pieces": PIECES[:-1]}, "which token ends a text"),
    ({"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer"}}, r"of 'Qwen2Tokenizer'(.|\n)*tokenizer\.json"),
    ({"config": {"model_type": "roberta"}}, "of 'roberta'")])
def test_pairs_that_are_none_are_refused(put, files, words):
    with pytest.raises(InputError, match=words):
        Tokenizer.load(put(**files))
