"""RMSNorm and SwiGLU by the compiled code against their definitions in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from headwater.model.native import fused
from headwater.model.native.build import library

pytestmark = pytest.mark.skipif(library("fused") is None, reason="no C++ compiler")
CLOSE = {torch.float32: {"rtol": 1e-5, "atol": 5e-6}, torch.bfloat16: {"rtol": 8e-3, "atol": 2e-3}}
SHAPES = {"rows": st.integers(0, 9), "columns": st.integers(7, 70), "seed": st.integers(0, 99),
          "dtype": st.sampled_from(list(CLOSE)), "scale": st.sampled_from([1e-3, 1.0, 30.0])}


def drawn(*shape, seed, dtype, scale=1.0):
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype).requires_grad_()


def gradients(function, *inputs):
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel()).bfloat16().to(out.dtype).view_as(out)  # the same in every dtype
    return [out, *torch.autograd.grad(out, inputs, weights)]


def check(own, definition, inputs):
    exact = [one.detach().double().requires_grad_() for one in inputs]
    for found, wanted in zip(gradients(own, *inputs), gradients(definition, *exact), strict=True):
        assert found.dtype == inputs[0].dtype
        size = wanted.abs().max().clamp(min=1e-30) if wanted.numel() else 1.0
        torch.testing.assert_close(found.double() / size, wanted / size, **CLOSE[found.dtype])


@settings(deadline=None, max_examples=60)
@given(**SHAPES)
def test_rms_norm(rows, columns, seed, dtype, scale):
    inputs = drawn(2, rows, columns, seed=seed, dtype=dtype, scale=scale), drawn(columns, seed=seed + 1, dtype=dtype)
    check(lambda x, gain: fused.rms_norm(x, gain, 1e-5),
          lambda x, gain: F.rms_norm(x, (columns,), gain, 1e-5), inputs)


@settings(deadline=None, max_examples=60)
@given(**SHAPES)
def test_swiglu(rows, columns, seed, dtype, scale):
    def definition(both):
        gate, up = both.chunk(2, -1)
        return F.silu(gate) * up

    check(fused.swiglu, definition, [drawn(rows, 2 * columns, seed=seed, dtype=dtype, scale=scale)])


@pytest.mark.parametrize("dtype", list(CLOSE))
def test_gates_of_any_size_and_what_is_no_number(dtype):
    gates = torch.tensor([0.0, -0.0, 200.0, -200.0, 1e30, -1e30, float("inf"), float("nan")] * 4, dtype=dtype)
    both = torch.cat([gates, torch.ones_like(gates)]).requires_grad_()
    wanted = (F.silu(gates.double()) * 1.0).to(dtype)
    torch.testing.assert_close(fused.swiglu(both), wanted, equal_nan=True)


def test_two_runs_give_the_same_bits_and_threads_nearly_the_same():
    inputs = drawn(1000, 96, seed=0, dtype=torch.float32), drawn(96, seed=1, dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            found.append(gradients(lambda x, gain: fused.rms_norm(x, gain, 1e-6), *inputs))
    finally:
        torch.set_num_threads(threads)
    for one, two, again in zip(*found, strict=True):
        assert torch.equal(two, again)
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)  # a thousand rows are summed in another order
