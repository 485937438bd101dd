"""Every family against logits and greedy continuations that its official implementation computed."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from headwater.model import KVCache
from headwater.model.checkpoint import load_model
from headwater.model.convert import convert
from headwater.model.tensors import read_tensors

FAMILIES = ["baichuan1_13b", "baichuan1_7b", "baichuan2_13b", "baichuan2_7b", "chatglm2_6b", "chatglm2_6b_32k",
            "chatglm3_6b", "chatglm3_6b_32k", "chatglm_6b", "chatglm_6b_shallow", "glm4_0414", "glm4_9b",
            "glm4_9b_chatglm", "glm_10b", "llama2_gqa", "llama_mha", "llama_rope_dynamic", "llama_rope_linear",
            "llama_rope_llama3", "llama_rope_yarn"]
TOLERANCE = 1e-4
"""Of the logits' own standard deviation."""


@pytest.fixture(params=FAMILIES, scope="module")
def family(request, shared):
    folder = shared / "vectors" / request.param
    return load_model(folder, dtype=torch.float32), read_tensors(folder / "vectors.safetensors"), request.param


def arguments(name, vectors, case):
    """Our arguments of a case; the first ChatGLM's masks say what is hidden, and the derived cases give nothing."""
    given = {key: vectors.get(case + key) for key in ("attention_mask", "position_ids")}
    if name.startswith("chatglm_6b"):
        if case in ("gmask.", "mask.", "both."):
            return {}
        given["attention_mask"] = given["attention_mask"] == 0
    elif given["attention_mask"] is not None and given["attention_mask"].dim() == 4:
        given["attention_mask"] = given["attention_mask"] == 1
    return given


def agree(found, wanted, real=None):
    difference = (found - wanted).abs() if real is None else (found - wanted).abs()[real]
    spread = wanted.std() if real is None else wanted[real].std()
    assert difference.max() <= TOLERANCE * spread


@torch.inference_mode()
def test_logits_are_the_official_ones(family):
    model, vectors, name = family
    cases = [key.removesuffix("logits") for key in vectors if key.endswith("logits") and "greedy" not in key]
    assert len(cases) >= 2
    for case in cases:
        found = model(vectors[case + "input_ids"], **arguments(name, vectors, case))
        real = vectors["valid_mask"] == 1 if case == "" else None
        agree(found, vectors[case + "logits"], real)


@pytest.mark.parametrize("name", ["chatglm_6b", "chatglm_6b_shallow"])
@torch.inference_mode()
def test_the_first_chatglm_finds_its_positions_and_mask_itself(shared, name):
    folder = shared / "vectors" / name
    model, vectors = load_model(folder), read_tensors(folder / "vectors.safetensors")
    for case in ("gmask.", "mask.", "both."):
        ids, hidden = vectors[case + "input_ids"], vectors[case + "attention_mask"]
        assert torch.equal(model(ids), model(ids, hidden == 0, vectors[case + "position_ids"]))


@torch.inference_mode()
def test_greedy_continuations_are_the_official_ones(family):
    model, vectors, name = family
    for case in ("", "prompt."):
        if case + "greedy_ids" in vectors:
            given = arguments(name, vectors, "") if case == "" else {}
            ids, wanted = vectors[case + "input_ids"], vectors[case + "greedy_ids"]
            cache, found = KVCache(model.config, len(ids), ids.shape[1] + wanted.shape[1]), []
            logits = model(ids, **given, cache=cache)[:, -1]
            for step in range(wanted.shape[1]):
                agree(logits, vectors[case + "greedy_logits"][:, step])
                found.append(logits.argmax(-1))
                logits = model(found[-1][:, None], cache=cache)[:, -1]
            assert torch.equal(torch.stack(found, dim=1), wanted)


@torch.inference_mode()
def test_dynamic_ntk_recomputed_at_every_step_is_the_official_one_too(shared):
    folder = shared / "vectors" / "llama_rope_dynamic"
    model, vectors = load_model(folder), read_tensors(folder / "vectors.safetensors")
    ids, mask, found = vectors["input_ids"], vectors["attention_mask"], []
    for step in range(16):
        logits = model(ids, mask, (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1))[:, -1]
        agree(logits, vectors["greedy_nocache_logits"][:, step])
        found.append(logits.argmax(-1))
        ids, mask = torch.cat((ids, found[-1][:, None]), dim=1), F.pad(mask, (0, 1), value=1)
    assert torch.equal(torch.stack(found, dim=1), vectors["greedy_nocache_ids"])


def test_official_weights_survive_a_round_trip_bit_for_bit(family, shared, tmp_path):
    model, vectors, name = family
    folder = shared / "vectors" / name
    convert(folder, tmp_path)
    before, after = read_tensors(folder / "model.safetensors"), read_tensors(tmp_path / "model.safetensors")
    weights = {key for key in before if not key.endswith("inv_freq")}
    assert weights == set(after)
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in weights)
    again = load_model(tmp_path, dtype=torch.float32)
    assert again.config == model.config
    with torch.inference_mode():
        case = "nopad." if "nopad.input_ids" in vectors else "gmask." if "gmask.input_ids" in vectors else "causal."
        assert torch.equal(again(vectors[case + "input_ids"]), model(vectors[case + "input_ids"]))
