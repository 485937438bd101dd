"""INT4 layers by hand, and against float ones with the weights that they stand for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model
from headwater.model.int4 import Int4Linear, apart, joined, nearest, ranges
from headwater.model.packed import pack_linears
from headwater.model.tensors import read_tensors

FAMILIES = ["baichuan1_13b", "baichuan2_7b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b", "llama2_gqa"]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_group_by_hand():
    """From -3 to 4.5 in fifteen steps of a half: the zero is six steps up."""
    weight = torch.zeros(1, 32)
    weight[0, :5] = torch.tensor([-3.0, 4.5, 1.2, 0.25, -0.74])
    scale, zero = ranges(weight, 32, symmetric=False)
    assert (scale.item(), zero.item()) == (0.5, 6)
    codes = nearest(weight, scale, zero)
    assert codes[0, :6].tolist() == [0, 15, 8, 6, 5, 6]  # .25 is half a step, which is rounded to even
    assert joined(codes)[0, :3].tolist() == [0 | 15 << 4, 8 | 6 << 4, 5 | 6 << 4]
    scale, zero = ranges(weight, 32, symmetric=True)
    assert (scale.item(), zero.item()) == (pytest.approx(0.6, rel=1e-3), 8)
    assert nearest(weight, scale, zero)[0, :6].tolist() == [3, 15, 10, 8, 7, 8]


@given(rows=st.integers(1, 9), groups=st.integers(1, 3), seed=st.integers(0, 99),
       size=st.sampled_from([1e-2, 1.0, 1e3]), shift=st.sampled_from([0.0, 2.0]), symmetric=st.booleans(),
       group=st.sampled_from([32, 64, 128]))
def test_no_weight_is_moved_by_more_than_half_a_step(rows, groups, seed, size, shift, symmetric, group):
    columns = groups * group
    linear = nn.Linear(columns, rows, bias=False)
    linear.weight.data = size * (drawn(rows, columns, seed=seed) + shift)
    packed = Int4Linear.pack(linear, group, symmetric=symmetric)
    step = packed.scale.float().repeat_interleave(group, 1)[:, :columns]
    moved = (packed.unpacked(torch.float32) - linear.weight).abs() / step
    assert moved.max() < 1.02  # half a step, and another where the zero or the top is rounded away from the extreme
    assert moved.mean() < 0.5
    assert torch.equal(joined(apart(packed.codes)), packed.codes)


@pytest.mark.parametrize("columns", [128, 192])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_products_and_gradients_are_those_of_the_float_layer(columns, dtype, bias, monkeypatch):
    monkeypatch.setattr("headwater.model.four_bits.FLOAT_BYTES", {"cpu": 10_000})  # several pieces
    packed = Int4Linear.pack(nn.Linear(columns, 50, bias=bias), 32).to(dtype)
    assert packed.scale.dtype == torch.float16
    x, other = (drawn(2, 3, columns).to(dtype).requires_grad_() for _ in range(2))
    y = packed(x)
    wanted = nn.functional.linear(other, packed.unpacked(dtype), packed.bias)
    for one in (y, wanted):
        one.float().square().sum().backward()
    close = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(y, wanted, **close)
    torch.testing.assert_close(x.grad, other.grad, **{name: 4 * value for name, value in close.items()})


def test_what_is_not_finite_is_seen_in_the_scale():
    weight = drawn(2, 64)
    weight[0, 3] = float("inf")
    scale, _ = ranges(weight, 32, symmetric=False)
    assert scale.isnan().tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_loads_packed(shared, name):
    """Weights packed while they are read are those of a model packed whole; embedding, head and norms stay."""
    folder = shared / "vectors" / name
    loaded, whole = load_model(folder, base="int4"), load_model(folder)
    ids = read_tensors(folder / "vectors.safetensors")["input_ids"]
    with torch.inference_mode():
        exact = whole(ids)
        assert pack_linears(whole, head=False, form="int4")
        found = loaded(ids)
        assert torch.equal(found, whole(ids))
    assert torch.equal(loaded.head.weight, whole.head.weight)
    assert (found - exact).square().mean().sqrt() < 0.5 * exact.std()  # the weights are random


def test_a_model_packed_has_a_cast_that_leaves_its_scales():
    model = initialise(Decoder(ModelConfig(vocab_size=31, hidden_size=64, intermediate_size=96, num_hidden_layers=1,
                                           num_attention_heads=4)), 0)
    pack_linears(model, head=False, form="int4")
    before = model.blocks[0].attention.qkv.scale.clone()
    model.to(torch.bfloat16)
    assert torch.equal(model.blocks[0].attention.qkv.scale, before)
