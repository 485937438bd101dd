"""Products of few rows with matrices as they are stored, against sums in float64; with and without a compiler."""

from __future__ import annotations

import pytest
import torch

from headwater import hardware
from headwater.model import few_rows as native
from headwater.model.few_rows import few_rows, unpacked
from headwater.model.int4 import GROUPS, Int4Linear
from headwater.model.linear import Int8Linear
from headwater.model.native.weights import FEW, Weights

compiled = pytest.mark.skipif(not hardware.has_compiler(), reason="no compiler")
SHAPES = [(5, 70), (7, 32), (33, 704), (65, 96), (130, 1408)]
# float32 sums in another order; bfloat16 keeps eight bits of x and of y.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2e-2}


def drawn(kind: str, rows: int, columns: int, group: int = 32) -> tuple[Weights, torch.Tensor]:
    """Stored weights, and the matrix in float64 that they stand for."""
    torch.manual_seed(rows)
    if kind == "int8":
        codes, scale = torch.randint(-127, 128, (rows, columns), dtype=torch.int8), torch.rand(rows) + 0.1
        return Weights(codes, scale), codes.double() * scale.double()[:, None]
    if kind == "int4":
        codes = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8)
        scale = (torch.rand(rows, columns // group) + 0.01).half()
        zero = torch.randint(0, 16, scale.shape, dtype=torch.uint8)
        whole = torch.stack([codes & 15, codes >> 4], -1).view(*scale.shape, group).double()
        return Weights(codes, scale, zero), ((whole - zero[..., None]) * scale.double()[..., None]).flatten(1)
    weight = torch.randn(rows, columns, dtype={"float32": torch.float32, "bfloat16": torch.bfloat16}[kind])
    return Weights(weight), weight.double()


def check(weights: Weights, matrix: torch.Tensor, dtype: torch.dtype) -> None:
    for count in (1, 2, 3, 5, 8, 11, FEW):
        x = torch.randn(count, matrix.shape[1]).to(dtype)
        found, wanted = few_rows(x, weights), x.double() @ matrix.T
        assert found is not None
        assert found.dtype == dtype
        assert (found.double() - wanted).abs().max() <= TOLERANCE[dtype] * wanted.std()
        for row in range(count):  # a row's sums do not depend on what stands beside it
            assert torch.equal(few_rows(x[row : row + 1], weights)[0], found[row])


@compiled
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_products_are_those_of_float64(kind: str, shape: tuple[int, int]) -> None:
    weights, matrix = drawn(kind, *shape)
    for dtype in TOLERANCE:
        if weights.usable(dtype):
            check(weights, matrix, dtype)


@compiled
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("columns", [128, 384, 1408])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_grouped_products_are_those_of_float64(group: int, columns: int, dtype: torch.dtype) -> None:
    weights, matrix = drawn("int4", 37, columns, group)
    check(weights, matrix, dtype)
    whole = unpacked(weights, dtype)
    assert whole is None or torch.equal(whole, matrix.float().to(dtype))


@compiled
def test_scales_below_the_least_normal_float16_count() -> None:
    weights, _ = drawn("int4", 3, 64)
    assert weights.scale is not None
    weights.scale.fill_(2.0 ** -24)
    x = torch.ones(1, 64)
    codes = torch.stack([weights.weight & 15, weights.weight >> 4], -1).view(3, 2, 32).double()
    wanted = ((codes - weights.zero[..., None]) * 2.0 ** -24).flatten(1).sum(1)
    assert torch.allclose(few_rows(x, weights)[0].double(), wanted, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_layers_are_the_same_without_a_compiler(form: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    kind = Int8Linear if form == "int8" else Int4Linear
    layer, x = kind.pack(torch.nn.Linear(256, 96)), torch.randn(2, rows, 256)
    with torch.inference_mode():
        wanted = layer(x)
        monkeypatch.setattr(native, "library", lambda name: None)
        assert torch.allclose(layer(x), wanted, atol=1e-5)


def test_what_learns_and_many_rows_are_left_to_pytorch() -> None:
    weights, _ = drawn("int8", 8, 32)
    assert few_rows(torch.randn(FEW + 1, 32), weights) is None
    assert few_rows(torch.randn(1, 32, requires_grad=True), weights) is None
    assert few_rows(torch.randn(1, 32, dtype=torch.float64), weights) is None
