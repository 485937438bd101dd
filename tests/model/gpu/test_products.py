"""Products of few rows by Triton's kernels against sums in float64, interpreted where there is no GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from headwater.model.int4 import GROUPS, Int4Linear
from headwater.model.linear import Int8Linear
from headwater.model.native.weights import FEW, Weights

pytest.importorskip("triton", reason="triton is not installed")
from headwater.model.gpu.products import FLOAT, INT4, INT8, Tile, few_rows, product, tile_of

# Sums in another order; x (and where there are several rows the weights) are rounded to the type. The interpreter cuts
# bfloat16 instead of rounding it.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2e-2 if torch.cuda.is_available() else 4e-2, torch.float16: 3e-3}


def drawn(kind: str, rows: int, columns: int, device: torch.device, dtype: torch.dtype = torch.float32, *,
          group: int = 32, symmetric: bool = False) -> tuple[Weights, torch.Tensor]:
    """Stored weights, and the matrix in float64 that they stand for."""
    generator = torch.Generator().manual_seed(rows + columns)
    linear = torch.nn.Linear(columns, rows, bias=False)
    linear.weight.data = torch.randn(rows, columns, generator=generator)
    if kind == "float":
        weight = linear.weight.data.to(dtype)
        return Weights(weight.to(device)), weight.double()
    if kind == "int8":
        packed = Int8Linear.pack(linear)
        return (Weights(packed.weight.to(device), packed.scale.to(device)),
                packed.weight.double() * packed.scale.double()[:, None])
    four = Int4Linear.pack(linear, group, symmetric=symmetric)
    zero = four.zero if symmetric else torch.randint(0, 16, four.zero.shape, dtype=torch.uint8, generator=generator)
    codes = torch.stack([four.codes & 15, four.codes >> 4], -1).view(*zero.shape, group).double()
    matrix = ((codes - zero[..., None]) * four.scale.double()[..., None]).flatten(1)
    return Weights(four.codes.to(device), four.scale.to(device), zero.to(device)), matrix


def close(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype, times: float = 1) -> None:
    assert (found.cpu().double() - wanted).abs().max() <= times * TOLERANCE[dtype] * wanted.std()


@pytest.mark.parametrize("count", [1, 2, 7, FEW])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["float", "int8", "int4"])
def test_products_are_those_of_float64(device, kind: str, dtype: torch.dtype, count: int) -> None:
    for rows, columns in ((5, 96), (37, 384), (130, 640)):
        weights, matrix = drawn(kind, rows, columns, device, dtype)
        x = torch.randn(count, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
        found = few_rows(x.to(device), weights)
        assert found.dtype == dtype
        close(found, x.double() @ matrix.T, dtype)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "with zeros"])
@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_its_scale_and_zero(device, group: int, symmetric: bool, count: int) -> None:
    weights, matrix = drawn("int4", 33, 5 * group, device, group=group, symmetric=symmetric)
    x = torch.randn(count, 5 * group, generator=torch.Generator().manual_seed(1))
    close(few_rows(x.to(device), weights), x.double() @ matrix.T, torch.float32)


@settings(max_examples=15)
@given(rows=st.integers(1, 70), columns=st.integers(1, 300), count=st.integers(1, FEW),
       kind=st.sampled_from(["float", "int8", "int4"]), tall=st.sampled_from([16, 64]))
def test_any_shape_in_any_tile(device, rows: int, columns: int, count: int, kind: str, tall: int) -> None:
    columns = -(-columns // 32) * 32 if kind == "int4" else columns
    weights, matrix = drawn(kind, rows, columns, device)
    x, y = torch.randn(count, columns).to(device), torch.full((count, rows), torch.nan, device=device)
    product(x, weights, y, dtype=torch.float32, processors=1, tile=Tile(tall, 128))
    wanted = x.cpu().double() @ matrix.T
    assert torch.allclose(y.cpu().double(), wanted, atol=1e-5 * float(matrix.abs().max()) * columns ** 0.5)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["float", "int8", "int4"])
def test_what_stands_around_a_product(device, kind: str, count: int) -> None:
    """A norm before it; a bias, lengths to divide by, SwiGLU or a residual sum behind it."""
    def on(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    generator = torch.Generator().manual_seed(2)
    weights, matrix = drawn(kind, 70, 320, device)
    x, gain, bias, lengths = on(count, 320), on(320), on(70), on(70).abs() + 0.5
    normed = F.rms_norm(x.cpu().double(), (320,), gain.cpu().double(), 1e-5)
    whole = {"dtype": torch.float32, "processors": 1}
    y = on(count, 70)
    wanted = y.cpu().double() + normed @ matrix.T + bias.cpu()
    product(x, weights._replace(bias=bias), y, gain=gain, eps=1e-5, added=True, **whole)
    close(y, wanted, torch.float32)
    product(x, weights._replace(divisor=lengths), y, **whole)
    close(y, (x.cpu().double() @ matrix.T) / lengths.cpu(), torch.float32)
    half = torch.empty(count, 35, device=device)
    product(x, weights._replace(bias=bias), half, gain=gain, eps=1e-5, gated=True, **whole)
    gate, up = (normed @ matrix.T + bias.cpu()).chunk(2, -1)
    close(half, F.silu(gate) * up, torch.float32, times=4)


def test_scales_below_the_least_normal_float16_count(device) -> None:
    weights, _ = drawn("int4", 3, 64, device)
    weights.scale.fill_(2.0 ** -24)
    codes = torch.stack([weights.weight & 15, weights.weight >> 4], -1).view(3, 2, 32).double()
    wanted = ((codes - weights.zero[..., None]) * 2.0 ** -24).flatten(1).sum(1).cpu()
    found = few_rows(torch.ones(1, 64, device=device), weights)[0].cpu().double()
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-12)


def test_small_matrices_are_cut_finer_and_a_tile_holds_whole_groups() -> None:
    for form in (FLOAT, INT8, INT4):
        for count in (1, 2):
            few, many = (tile_of(form, count, rows, 4096, 132) for rows in (2048, 1 << 17))
            assert few.rows < many.rows
            assert few.columns % max(GROUPS) == 0
            assert tile_of(form, count, 64, 32, 132).columns % max(GROUPS) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("count", [1, 5, FEW])
@pytest.mark.parametrize("kind", [Int8Linear, Int4Linear])
def test_layers_on_a_gpu_multiply_few_rows_as_on_the_cpu(kind: type, count: int) -> None:
    layer, x = kind.pack(torch.nn.Linear(512, 96)), torch.randn(count, 512)
    with torch.inference_mode():
        wanted = layer(x)
        assert torch.allclose(layer.cuda()(x.cuda()).cpu(), wanted, atol=1e-4)
