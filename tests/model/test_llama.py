"""Logits and greedy continuations against the official implementation's."""

import json

import pytest
import torch

from headwater.model import KVCache
from headwater.model.checkpoint import load_model, read_tensors, save_model


@pytest.mark.parametrize("family", ["llama_mha", "llama2_gqa"])
def test_logits_equal_the_official_implementation(shared, family):
    folder = shared / "vectors" / family
    model, vectors = load_model(folder), read_tensors(folder / "vectors.safetensors")
    with torch.inference_mode():
        logits = model(vectors["nopad.input_ids"])
    torch.testing.assert_close(logits, vectors["nopad.logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["llama_mha", "llama2_gqa"])
def test_cached_greedy_decoding_gives_the_official_tokens(shared, family):
    folder = shared / "vectors" / family
    model, vectors = load_model(folder), read_tensors(folder / "vectors.safetensors")
    for row, wanted in enumerate(vectors["greedy_ids"].tolist()):
        prompt = vectors["input_ids"][row][vectors["attention_mask"][row].bool()][None]
        assert _greedy(model, prompt, len(wanted)) == wanted


def test_a_trained_checkpoint_continues_a_story_as_its_reference_does(shared):
    folder = shared / "checkpoints" / "stories260K-hf"
    model, reference = load_model(folder), json.loads((folder / "reference.json").read_text())
    for case in reference["greedy"]:
        assert _greedy(model, torch.tensor([case["prompt_ids"]]), len(case["new_ids"])) == case["new_ids"]


def test_official_names_survive_a_round_trip_bit_for_bit(shared, tmp_path):
    folder = shared / "vectors" / "llama2_gqa"
    save_model(load_model(folder), tmp_path)
    before, after = read_tensors(folder / "model.safetensors"), read_tensors(tmp_path / "model.safetensors")
    weights = {name for name in before if not name.endswith("inv_freq")}
    assert weights == set(after)
    assert all(torch.equal(before[name], after[name]) for name in weights)


def _greedy(model, prompt, count):
    cache, found = KVCache(model.config, 1, prompt.shape[1] + count), []
    tokens, start = prompt, 0
    with torch.inference_mode():
        for _ in range(count):
            positions = torch.arange(start, start + tokens.shape[1])[None]
            start += tokens.shape[1]
            tokens = model(tokens, positions=positions, cache=cache)[:, -1].argmax(-1, keepdim=True)
            found.append(int(tokens))
    return found
