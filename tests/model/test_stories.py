"""A real trained checkpoint against what its reference recorded."""

import json

import pytest
import torch
from torch.nn import functional as F

from headwater.model import KVCache
from headwater.model.checkpoint import load_model
from headwater.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "checkpoints" / "stories260K-hf"


@pytest.fixture(scope="module")
def reference(folder):
    return json.loads((folder / "reference.json").read_text())


def greedy(model, prompt, count):
    ids, found = torch.tensor([prompt]), []
    cache = KVCache(model.config, 1, len(prompt) + count)
    with torch.inference_mode():
        for _ in range(count):
            ids = model(ids, cache=cache)[:, -1].argmax(-1, keepdim=True)
            found.append(int(ids))
    return found


def test_it_continues_a_story_as_its_reference_does(folder, reference):
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    for case in reference["greedy"]:
        assert [tokenizer.bos, *tokenizer.encode(case["prompt"])] == case["prompt_ids"]
        assert greedy(model, case["prompt_ids"], len(case["new_ids"])) == case["new_ids"]
    told = reference["llama2c_golden_greedy_200_from_BOS"]
    found = greedy(model, [tokenizer.bos], 200)
    assert tokenizer.decode(found).strip().startswith(told)


def test_its_loss_on_a_text_is_that_of_transformers(folder, reference):
    """By the protocol of the recorded mean loss, whose own text is not at hand."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lines = [line for line in reference["llama2c_golden_greedy_200_from_BOS"].splitlines() if line]
    total, count = 0.0, 0
    for line in lines:
        ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(line)]])
        with torch.inference_mode():
            ours = F.cross_entropy(model(ids)[0, :-1], ids[0, 1:], reduction="sum")
            expected = F.cross_entropy(theirs(ids).logits[0, :-1], ids[0, 1:], reduction="sum")
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)
        total, count = total + float(ours), count + ids.shape[1] - 1
    assert 0.5 < total / count < reference["nll"]["mean_nll"]  # its own greedy text is easier than a held-out one
