"""tiktoken's files by their names, against tiktoken and the recorded ids."""

import base64
import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.byte_pairs import from_ranks
from headwater.tokenizer.ranks import (
    CL100K_SPLIT,
    ENCODINGS,
    GPT2_SPLIT,
    O200K_SPLIT,
    QWEN_SPLIT,
    Encoding,
    read_ranks,
)

FILES = {"Qwen": "qwen-151643/qwen.tiktoken", "cl100k": "cl100k-100256/cl100k_base.tiktoken"}
SPLITS = {"gpt2": GPT2_SPLIT, "cl100k": CL100K_SPLIT, "qwen": QWEN_SPLIT, "o200k": O200K_SPLIT}
TEXT = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(
    ["hello", "HelloWorld", " world", "'ll", "'S", "'ſ", "’s", "\r\n\n", "/\n", "   ", "\u3000", "2024", "٣٤", "²Ⅷ",
     "中文", "é", "e\u0301", "ǅ", "ก็", "👩‍👩‍👧", "<|im_end|>", "<|endoftext|>"])), max_size=8).map("".join)


@pytest.fixture(scope="module")
def real(shared):
    return {name: Tokenizer.load(shared / "tokenizers" / file) for name, file in FILES.items()}


@pytest.fixture(scope="module")
def tiktoken():
    return pytest.importorskip("tiktoken", reason="tiktoken is not installed; it is the reference here")


@pytest.fixture(scope="module")
def published(tiktoken):
    """How tiktoken itself cuts; Qwen's pattern stands in no library."""
    from tiktoken_ext import openai_public

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_args, **_kwargs: {})
        return {"gpt2": openai_public.r50k_base(), "cl100k": openai_public.cl100k_base(),
                "o200k": openai_public.o200k_base(), "p50k": openai_public.p50k_base(),
                "qwen": {"pat_str": QWEN_SPLIT}}


@pytest.fixture(scope="module")
def pairs(shared, tiktoken, published):
    """Ours and tiktoken's encoder by the way to cut, of the first ranks of a real file."""
    ranks = read_ranks((shared / "tokenizers" / FILES["cl100k"]).read_bytes(), where=None)
    first = {token: rank for token, rank in ranks.items() if rank < 6000}
    return {name: (from_ranks(first, Encoding(split, {}, len(first))),
                   tiktoken.Encoding(name, pat_str=published[name]["pat_str"], mergeable_ranks=first,
                                     special_tokens={})) for name, split in SPLITS.items()}


@pytest.mark.parametrize("name", SPLITS)
@settings(max_examples=300)
@given(text=TEXT)
def test_every_way_to_cut_equals_tiktokens(pairs, name, text):
    ours, theirs = pairs[name]
    assert ours.encode_batch([text], 1) == [theirs.encode_ordinary(text)]


@pytest.mark.parametrize("name", FILES)
def test_real_files_give_the_recorded_ids(shared, real, name):
    golden = json.loads((shared / "tokenizers" / "golden_ids.json").read_text())
    assert real[name].encode_batch(golden["strings"]) == golden["ids"][name]
    assert [real[name].decode(row) for row in golden["ids"][name]] == golden["strings"]


def test_special_ids_are_the_published_ones(published):
    for name, peer in (("r50k_base", "gpt2"), ("p50k_base", "p50k"), ("cl100k_base", "cl100k"),
                       ("o200k_base", "o200k")):
        assert dict(ENCODINGS[name].specials) == published[peer]["special_tokens"]
        assert ENCODINGS[name].size == published[peer].get("explicit_n_vocab", ENCODINGS[name].size)
    qwen = ENCODINGS["qwen"]  # tokenization_qwen.py: 151,643 ranks, three marks, 205 extras
    assert [qwen.specials[mark] for mark in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>",
                                             "<|extra_204|>")] == [151643, 151644, 151645, 151646, 151850]


def test_an_unused_id_between_ranks_and_specials_is_kept(real):
    tokenizer = real["cl100k"]
    assert (tokenizer.eos, tokenizer.pieces, tokenizer.vocab_size) == (100257, 100277, 100277)
    assert (tokenizer.piece(100256), tokenizer.piece(100257)) == ("", "<|endoftext|>")
    assert tokenizer.decode([100256, *tokenizer.encode("a"), 100270, 100276]) == "a"


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150)
@given(text=TEXT)
def test_text_comes_back_and_never_as_a_special(real, name, text):
    tokenizer = real[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == (unicodedata.normalize("NFC", text) if name == "Qwen" else text)
    assert not set(ids) & set(tokenizer.specials.values())


def test_qwen_composes_its_texts(real):
    assert real["Qwen"].encode("e\u0301") == real["Qwen"].encode("é")
    assert real["cl100k"].encode("e\u0301") != real["cl100k"].encode("é")


def test_real_texts_give_tiktokens_ids(shared, real, tiktoken, published):
    files = sorted((shared / "data" / "text").glob("*/*/*"))
    lines = [line for path in random.Random(0).sample(files, min(12, len(files)))
             for line in path.read_bytes()[:20_000].decode("utf-8", "ignore").splitlines(keepends=True)]
    ranks = read_ranks((shared / "tokenizers" / FILES["cl100k"]).read_bytes(), where=None)
    peer = tiktoken.Encoding("cl100k", pat_str=published["cl100k"]["pat_str"], mergeable_ranks=ranks,
                             special_tokens={})
    texts = ["".join(lines[at : at + 20]) for at in range(0, len(lines), 20)]
    assert real["cl100k"].encode_batch(texts) == peer.encode_ordinary_batch(texts, num_threads=1)


def test_a_file_of_another_name_or_length_is_refused(tmp_path):
    lines = [base64.b64encode(bytes([byte])) + b" %d" % byte for byte in range(256)]
    for name, words in (("ours.tiktoken", r"unknown name(.|\n)*known: gpt2\.tiktoken(.|\n)*GLM-4's are in tokenizer"),
                        ("qwen.tiktoken", "the 256 ranks (.|\n)*not the 151643 that belong here")):
        (tmp_path / name).write_bytes(b"\n".join(lines))
        with pytest.raises(InputError, match=words):
            Tokenizer.load(tmp_path / name)
    with pytest.raises(InputError, match=r"several files of ranks: ours\.tiktoken, qwen\.tiktoken"):
        Tokenizer.load(tmp_path)


def test_ranks_that_leave_an_id_to_a_special_are_whole_without_it():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 257}
    encoding = Encoding(GPT2_SPLIT, {"<|endoftext|>": 256}, 258)  # as p50k_base does
    encoding.check(ranks, None)
    assert from_ranks(ranks, encoding).encode_batch(["abc"], 1) == [[257, 99]]
    for damaged in (ranks | {b"cd": 256}, ranks | {b"cd": 257}, {**ranks, b"ab": 258}):
        with pytest.raises(InputError, match="have gaps"):
            encoding.check(damaged, None)
