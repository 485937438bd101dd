"""Real vocabularies: the ids that the official libraries give."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.tokenizer import Tokenizer
from headwater.tokenizer.ranks import CL100K_SPLIT

FILES = {"LLaMA/LLaMA-2": "llama-32000", "ChatGLM2/3-6B": "chatglm2-3-64794", "Chinese-LLaMA": "chinese-llama-49953",
         "Chinese-LLaMA-2": "chinese-llama2-55296", "InternLM2": "internlm2-92544", "Mistral-7B": "mistral-32000"}
CL100K = "cl100k-100256/cl100k_base.tiktoken"
TEXT = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(
    ["hello", " world", "'ll", "'S", "'ſ", "\r\n\n", "   ", "\u3000", "2024", "中文", "é", "👍🏽", "<|user|>"])),
    max_size=8).map("".join)


@pytest.fixture(scope="module")
def golden(shared):
    values = json.loads((shared / "tokenizers" / "golden_ids.json").read_text())
    return values["strings"], values["ids"]


@pytest.fixture(scope="module")
def cl100k(shared, tmp_path_factory):
    """GLM-4's kind of file with another vocabulary."""
    folder = tmp_path_factory.mktemp("cl100k")
    (folder / "tokenizer.model").symlink_to(shared / "tokenizers" / CL100K)
    return Tokenizer.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_sentencepiece_ids_equal_the_recorded_ones(shared, golden, name):
    strings, ids = golden
    tokenizer = Tokenizer.load(shared / "tokenizers" / FILES[name])
    assert tokenizer.encode_batch(strings) == ids[name]
    assert [tokenizer.decode(row) for row in ids[name]] == strings


def test_ranks_give_the_recorded_ids(golden, cl100k):
    strings, ids = golden
    assert cl100k.encode_batch(strings) == ids["cl100k"]
    assert [cl100k.decode(row) for row in ids["cl100k"]] == strings
    assert (cl100k.eos, cl100k.specials["<|user|>"]) == (100256, 100256 + 7)


@pytest.fixture(scope="module")
def tiktoken_cl100k(shared):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed; it is the reference here")
    lines = (shared / "tokenizers" / CL100K).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    return tiktoken.Encoding("reference", pat_str=CL100K_SPLIT, mergeable_ranks=ranks, special_tokens={})


@settings(max_examples=500, deadline=None)
@given(text=TEXT)
def test_merges_from_ranks_equal_tiktoken(cl100k, tiktoken_cl100k, text):
    assert cl100k.encode(text) == tiktoken_cl100k.encode_ordinary(text)


def test_tokenizer_json_of_a_real_checkpoint(shared):
    folder = shared / "checkpoints" / "stories260K-hf"
    recorded = json.loads((folder / "reference.json").read_text())["greedy"]
    tokenizer = Tokenizer.load(folder)
    for case in recorded:
        assert [tokenizer.bos, *tokenizer.encode(case["prompt"])] == case["prompt_ids"]
        told = case["text_until_bos_or_eos"]
        new = case["new_ids"]
        ends = [at for at, index in enumerate(new) if index in (tokenizer.bos, tokenizer.eos)] or [len(new)]
        assert tokenizer.decode(case["prompt_ids"] + new[: ends[0]]) == told


def test_a_folders_sentencepiece_model_says_what_its_json_says(shared, tmp_path):
    folder = shared / "checkpoints" / "stories260K-hf"
    (tmp_path / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    ours, theirs = Tokenizer.load(tmp_path), Tokenizer.load(folder)
    for text in ("Once upon a time", "Lily's mom said: \"No!\"", "naïve 中"):
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text)) == text
