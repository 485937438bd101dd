"""Steps of kernels against the decoder itself, and which of them are kept. Without a GPU they are interpreted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.cache import from_bytes
from headwater.model.captured import CapturedStepper, Run, captured_stepper
from headwater.model.checkpoint import load_model
from headwater.model.packed import pack_linears
from headwater.model.stepper import parts_of

FAMILIES = ["baichuan1_13b", "baichuan2_13b", "baichuan2_7b", "chatglm2_6b", "chatglm3_6b_32k", "glm4_0414", "glm4_9b",
            "llama2_gqa", "llama_mha", "llama_rope_dynamic", "llama_rope_yarn"]
LENGTHS = [5, 133, 1]  # more keys than are scored at once, and a first token
SMALL = {"vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 8, "num_key_value_heads": 2, "initializer_range": 0.2}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def small(seed: int = 0, **changed: object) -> Decoder:
    return initialise(Decoder(ModelConfig(**{**SMALL, **changed})), seed).eval()


def filled(model: Decoder, rows: int, form: str | None = None) -> KVCache:
    """A cache whose rows hold the same texts each time."""
    generator = torch.Generator().manual_seed(0)
    cache = model.cache(rows, 140, form=form)
    ids = torch.randint(0, model.config.vocab_size, (rows, 133), generator=generator)
    model.hidden(ids.to(model.device), cache=cache.rows(0, rows))
    return cache.rows(0, rows)


def by_decoder(model: Decoder, tokens: list[int], cache: KVCache, slots: list[int]) -> torch.Tensor:
    ids, places = (torch.tensor(one, device=model.device)[:, None] for one in (tokens, slots))
    return model.head(model.hidden(ids, cache=cache, slots=places)[:, -1])


def uncaptured(run: Run) -> Run:
    return run


def step_of(model: Decoder, cache: KVCache, capture: Callable[[Run], Run] | None = uncaptured) -> CapturedStepper:
    parts = parts_of(model)
    assert parts is not None
    return captured_stepper(model, cache, parts, capture)


@torch.inference_mode()
def compare(model: Decoder, lengths: list[int], tolerance: float, reference: Decoder | None = None) -> None:
    """Steps of rows of different lengths; reference: the model in float32, where the steps are in another type."""
    plain = reference or model
    theirs, ours = filled(plain, len(lengths)), filled(model, len(lengths))
    step = step_of(model, ours)
    for turn in range(3):
        tokens, slots = [7 + turn + row for row in range(len(lengths))], [length + turn for length in lengths]
        wanted, found = by_decoder(plain, tokens, theirs, slots), step(tokens, slots)
        assert (found - wanted).abs().max() <= tolerance * wanted.std()
    for one, other in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_covered_family_steps_as_its_decoder(shared, device, name: str, rows: int) -> None:
    model = load_model(shared / "vectors" / name, dtype=torch.float32, device=device).eval()
    compare(model, LENGTHS[-rows:], 1e-5)
