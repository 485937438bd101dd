"""Breaks when a cosine is taken of averages, of normed states, or of other places than a block's two ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headwater.compress.influence import block_influences, compared
from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.batch import Batch
from headwater.model.checkpoint import load_model
from headwater.model.context import make_context
from headwater.model.packed import pack_linears
from headwater.model.tensors import read_tensors

OFFICIAL = ["baichuan1_13b", "baichuan1_7b", "baichuan2_13b", "baichuan2_7b", "chatglm2_6b", "chatglm3_6b", "glm4_0414",
            "glm4_9b", "llama2_gqa", "llama_mha"]
EACH = st.floats(-8, 8, allow_subnormal=False).filter(lambda value: abs(value) > 1e-3)
STATES = arrays(np.float64, (4, 3), elements=EACH)


def small(**changes) -> Decoder:
    config = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
                         num_attention_heads=4, max_position_embeddings=64, initializer_range=0.3, **changes)
    return initialise(Decoder(config), 0).eval()


def by_numpy(states: np.ndarray) -> list[float]:
    """From states [1 + blocks, B, T, D], token after token."""
    found = []
    for x, y in zip(states, states[1:]):
        cosines = [float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
                   for a, b in zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1]))]
        found.append(1 - sum(cosines) / len(cosines))
    return found


@torch.inference_mode()
def walked(model: Decoder, rows: torch.Tensor) -> np.ndarray:
    """The states by a plain loop over the blocks."""
    context, positions = make_context(model.config, model.positions, Batch(rows, None, None, None, None, None, None))
    states = [model.positions.embed(model.embedding(rows), positions)]
    for block in model.blocks:
        states.append(block(states[-1], context))
    return torch.stack(states).double().numpy()


def test_three_tokens_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    y = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    cosine, magnitude = compared(x, y)
    assert cosine.tolist() == pytest.approx([1, 0, math.sqrt(0.5)], abs=1e-12)
    assert magnitude.tolist() == pytest.approx([2 / 3, math.sqrt(8) / 2, math.sqrt(10) / 4], abs=1e-12)
    assert 1 - float(cosine.mean()) != pytest.approx(1 - float(torch.cosine_similarity(x.mean(0), y.mean(0), dim=0)))


@pytest.mark.parametrize("changes", [{}, {"norm_placement": "sandwich"}, {"position": "alibi"},
                                     {"norm_placement": "scaled_residual", "residual_scale": 3.0,
                                      "norm": "layernorm", "activation": "gelu_tanh"}])
def test_influence_is_that_of_a_plain_loop_and_numpy(changes):
    model, rows = small(**changes), torch.randint(0, 64, (70, 33), generator=torch.Generator().manual_seed(1))
    found = block_influences(model, rows)  # in two passes
    states = walked(model, rows)
    assert [one.influence for one in found] == pytest.approx(by_numpy(states), abs=1e-7)
    added = np.linalg.norm(states[1:] - states[:-1], axis=-1) / np.linalg.norm(states[1:], axis=-1)
    assert [one.magnitude for one in found] == pytest.approx(added.mean((1, 2)).tolist(), rel=1e-6)
    of_rows = np.array([by_numpy(states[:, row : row + 1]) for row in range(70)])
    assert [one.error for one in found] == pytest.approx((of_rows.std(0, ddof=1) / math.sqrt(70)).tolist(), rel=1e-5)


@pytest.mark.parametrize("name", OFFICIAL)
def test_influence_is_that_of_the_official_states(shared, name):
    folder = shared / "vectors" / name
    vectors = read_tensors(folder / "vectors.safetensors")
    states = read_tensors(folder / "debug_hidden.safetensors")["hidden_states"].float().numpy()
    row = int(vectors["valid_mask"].all(1).nonzero()[0])  # the other one is padded
    found = block_influences(load_model(folder, dtype=torch.float32), vectors["input_ids"][row : row + 1])
    inside = by_numpy(states[:-1, row : row + 1])  # the last states are normed
    assert [one.influence for one in found[:-1]] == pytest.approx(inside, abs=1e-6)


@pytest.mark.parametrize("name", ["chatglm_6b", "glm_10b"])
def test_influence_of_models_that_read_both_ways(shared, name):
    folder = shared / "vectors" / name
    model, case = load_model(folder, dtype=torch.float32), "gmask." if name == "chatglm_6b" else "causal."
    rows = read_tensors(folder / "vectors.safetensors")[f"{case}input_ids"]
    found = block_influences(model, rows)
    assert [one.influence for one in found] == pytest.approx(by_numpy(walked(model, rows)), abs=1e-6)


def test_packed_matrices_are_measured_as_they_are():
    model, rows = small(), torch.arange(40).view(2, 20)
    floats = [one.influence for one in block_influences(model, rows)]
    pack_linears(model, head=False)
    packed = [one.influence for one in block_influences(model, rows)]
    assert packed == pytest.approx(by_numpy(walked(model, rows)), abs=1e-7)
    assert packed != floats
    assert packed == pytest.approx(floats, rel=0.05)


def test_a_block_that_adds_nothing_has_no_influence_at_all():
    model = small()
    with torch.no_grad():
        model.blocks[2].attention.out.weight.zero_()
        model.blocks[2].feedforward.down.weight.zero_()
    found = block_influences(model, torch.arange(60).view(3, 20))
    assert found[2].influence == found[2].error == found[2].magnitude == 0.0
    assert min(one.influence for place, one in enumerate(found) if place != 2) > 1e-4


@given(STATES, st.floats(0.01, 100))
def test_a_stream_that_is_scaled_alone_is_not_turned(states, scale):
    cosine, magnitude = compared(torch.from_numpy(states), torch.from_numpy(states * scale))
    assert cosine.numpy() == pytest.approx(1, abs=1e-12)
    assert magnitude.numpy() == pytest.approx(abs(scale - 1) / scale, abs=1e-9)


@given(STATES, STATES, st.floats(0.01, 100), st.floats(0.01, 100))
def test_influence_does_not_depend_on_sizes_and_lies_between_0_and_2(x, y, left, right):
    cosine, _ = compared(torch.from_numpy(x), torch.from_numpy(y))
    scaled, _ = compared(torch.from_numpy(x * left), torch.from_numpy(y * right))
    assert cosine.numpy() == pytest.approx(scaled.numpy(), abs=1e-9)
    assert bool(((1 - cosine >= -1e-12) & (1 - cosine <= 2 + 1e-12)).all())


def test_states_that_are_not_finite_are_told_with_their_block():
    model = small()
    with torch.no_grad():
        model.blocks[1].feedforward.down.weight.fill_(math.inf)
    with pytest.raises(InputError, match="behind block 1 are not finite"):
        block_influences(model, torch.arange(20)[None])


def test_nothing_watches_the_model_afterwards():
    model = small()
    block_influences(model, torch.arange(20)[None])
    assert not any(block._forward_hooks for block in model.blocks)
