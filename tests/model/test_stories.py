"""A real trained checkpoint against what its reference recorded."""

import json

import torch

from headwater.model import KVCache
from headwater.model.checkpoint import load_model


def test_a_trained_checkpoint_continues_a_story_as_its_reference_does(shared):
    folder = shared / "checkpoints" / "stories260K-hf"
    model, reference = load_model(folder), json.loads((folder / "reference.json").read_text())
    for case in reference["greedy"]:
        ids, found = torch.tensor([case["prompt_ids"]]), []
        cache = KVCache(model.config, 1, ids.shape[1] + len(case["new_ids"]))
        with torch.inference_mode():
            for _ in case["new_ids"]:
                ids = model(ids, cache=cache)[:, -1].argmax(-1, keepdim=True)
                found.append(int(ids))
        assert found == case["new_ids"]
