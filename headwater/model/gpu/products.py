"""Products of few rows with matrices as they are stored, each weight read once, for what stands around them too.

Decoding at batch 1 is as quick as memory gives the weights, so they are turned into floats in registers, in wide loads
along a row. The norm before a product and what is done with its result cost no kernel of their own: the sum of squares
is taken beside the product, and SwiGLU and the residual sum where the result is written.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from headwater.model.gpu import FUSED, on
from headwater.model.native.weights import FEW, Weights

FLOAT, INT8, INT4 = 0, 1, 2
ROUNDED = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Tile(NamedTuple):
    """What one program reads at once, and with how many warps."""

    rows: int
    columns: int
    warps: int = 4


def form_of(weights: Weights) -> int:
    return INT4 if weights.zero is not None else INT8 if weights.weight.dtype == torch.int8 else FLOAT


def tile_of(form: int, count: int, rows: int, columns: int, processors: int, *, gated: bool = False) -> Tile:
    """Some KiB for each program, so that several fit a processor; less where a matrix has too few rows to give every
    processor two programs, or where each row stands for two. No processors: interpreted, where programs cost more than
    what they do."""
    if processors == 0:
        return Tile(128, 256)
    if count == 1:
        at_once, wide = (8 if triton.cdiv(rows, 8) >= 2 * processors else 4), 1024 if form == INT4 else 512
    else:
        tall = not gated and triton.cdiv(rows, 32) >= 2 * processors
        at_once, wide = 32 if tall else 16, 128 if gated or form == FLOAT else 256
    return Tile(at_once, max(128, min(wide, triton.next_power_of_2(columns))))


def product(x: Tensor, weights: Weights, y: Tensor, *, dtype: torch.dtype, processors: int, gain: Tensor | None = None,
            eps: float = 0.0, gated: bool = False, added: bool = False, tile: Tile | None = None) -> None:
    """y [B,O] = x W^T + b, or with `added` y += that, for contiguous x [B,I] of at most FEW rows; sums in float32.

    dtype: of the model, to which x is rounded where matrix instructions are used, from two rows on. gain [I]: x is
    normed first, as RMSNorm does with this eps. gated: W's rows are [gate | up] and y [B,O/2] is silu(gate) * up.
    """
    count, columns = x.shape
    rows = y.shape[1]
    assert count <= FEW
    assert weights.weight.shape[0] == rows * (1 + gated)
    form = form_of(weights)
    group = 0 if weights.zero is None else columns // weights.zero.shape[1]
    own = tile or tile_of(form, count, rows, columns, processors, gated=gated)
    grid = (triton.cdiv(rows, own.rows),)
    tensors = (x, gain, *weights, y)
    if count == 1:
        _one_row[grid](*tensors, rows, columns, eps, FORM=form, GROUP=group, GATED=gated, ADDED=added,
                       ROWS=own.rows, COLUMNS=own.columns, num_warps=own.warps, **FUSED)
    else:
        _some_rows[grid](*tensors, count, rows, columns, eps, FORM=form, GROUP=group, GATED=gated, ADDED=added,
                         ROWS=own.rows, COLUMNS=own.columns, COUNT=FEW, DTYPE=ROUNDED[dtype],
                         TAKEN=taken(dtype, x.device), num_warps=own.warps, num_stages=4,
                         **FUSED)


def few_rows(x: Tensor, weights: Weights) -> Tensor:
    """x W^T + b for x [..,I] of at most FEW rows, in x's type."""
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    y = x.new_empty((len(flat), len(weights.weight)))
    with on(x.device):
        product(flat, weights, y, dtype=x.dtype, processors=processors_of(x.device))
    return y.view(*x.shape[:-1], -1)


def taken(dtype: torch.dtype, device: torch.device) -> tl.dtype:
    """What matrix instructions are given: numbers of the model's type, which Triton's interpreter takes as float32."""
    return ROUNDED[dtype] if device.type == "cuda" else tl.float32


def processors_of(device: torch.device) -> int:
    """Multiprocessors of a GPU; none where the kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0


@triton.jit
def _finished(sums: tl.tensor, at: tl.tensor, there: tl.tensor, scale: tl.tensor, bias: tl.tensor, divisor: tl.tensor,
              FORM: tl.constexpr) -> tl.tensor:
    """What is done to each of a row's sums, [ROWS, 1] or [ROWS, COUNT]."""
    if FORM == 1:
        sums *= tl.load(scale + at, mask=there, other=0.0)[:, None]
    if bias is not None:
        sums += tl.load(bias + at, mask=there, other=0.0).to(tl.float32)[:, None]
    if divisor is not None:
        sums /= tl.load(divisor + at, mask=there, other=1.0).to(tl.float32)[:, None]
    return sums


@triton.jit
def _mantissa(code: tl.tensor) -> tl.tensor:
    """1 + code / 16 as float32: placing four bits in a mantissa is quicker than a conversion."""
    return ((code << 19) | 0x3F800000).to(tl.float32, bitcast=True)


@triton.jit
def _summands(x: tl.tensor, gain: tl.tensor, squares: tl.tensor, at: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """Of x at some columns: what is multiplied, and the sums of squares with theirs."""
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if gain is not None:
        squares += value * value
        value *= tl.load(gain + at, mask=inside, other=0.0).to(tl.float32)
    return value, squares


@triton.jit
def _codes_of(weight: tl.tensor, row: tl.tensor, there: tl.tensor, group: tl.tensor, inside: tl.tensor,
              columns: tl.tensor, GROUP: tl.constexpr) -> tl.tensor:
    """Bytes [ROWS, groups, GROUP/2] as int32."""
    byte = tl.arange(0, GROUP // 2)
    at = row[:, None, None] * (columns // 2) + group[None, :, None] * (GROUP // 2) + byte[None, None, :]
    return tl.load(weight + at, mask=there[:, None, None] & inside[None, :, None], other=0).to(tl.int32)


@triton.jit
def _grouped(sums: tl.tensor, weight: tl.tensor, scale: tl.tensor, zero: tl.tensor, row: tl.tensor, there: tl.tensor,
             group: tl.tensor, inside: tl.tensor, even: tl.tensor, odd: tl.tensor, columns: tl.tensor,
             GROUP: tl.constexpr) -> tl.tensor:
    """sums [ROWS, groups] += scale (sum of code x - zero sum of x), from sums of (1 + code / 16) x."""
    codes = _codes_of(weight, row, there, group, inside, columns, GROUP)
    raw = tl.sum(_mantissa(codes & 15) * even[None] + _mantissa(codes >> 4) * odd[None], 2)
    beside = row[:, None] * (columns // GROUP) + group[None, :]
    mask = there[:, None] & inside[None, :]
    step = tl.load(scale + beside, mask=mask, other=0.0).to(tl.float32)
    nought = tl.load(zero + beside, mask=mask, other=0).to(tl.float32)
    return sums + step * (16 * raw - (16 + nought) * tl.sum(even + odd, 1)[None])


@triton.jit
def _one_row(x: tl.tensor, gain: tl.tensor, weight: tl.tensor, scale: tl.tensor, zero: tl.tensor, bias: tl.tensor,
             divisor: tl.tensor, y: tl.tensor, rows: tl.tensor, columns: tl.tensor, eps: tl.tensor, FORM: tl.constexpr,
             GROUP: tl.constexpr, GATED: tl.constexpr, ADDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
             ) -> None:
    """Products with one row by plain arithmetic; sums of a thread's own columns meet once, at the end."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there, row = at < rows, at.to(tl.int64)
    if FORM == 2:
        GROUPS: tl.constexpr = COLUMNS // GROUP
        sums, others = tl.zeros([ROWS, GROUPS], tl.float32), tl.zeros([ROWS, GROUPS], tl.float32)
        squares = tl.zeros([GROUPS, GROUP // 2], tl.float32)
        for begin in range(0, columns, COLUMNS):
            group = begin // GROUP + tl.arange(0, GROUPS)
            inside = group < columns // GROUP
            pair = group[:, None] * GROUP + 2 * tl.arange(0, GROUP // 2)[None, :]
            even, squares = _summands(x, gain, squares, pair, inside[:, None])
            odd, squares = _summands(x, gain, squares, pair + 1, inside[:, None])
            sums = _grouped(sums, weight, scale, zero, row, there, group, inside, even, odd, columns, GROUP)
            if GATED:
                others = _grouped(others, weight, scale, zero, row + rows, there, group, inside, even, odd, columns,
                                  GROUP)
    else:
        sums, others = tl.zeros([ROWS, COLUMNS], tl.float32), tl.zeros([ROWS, COLUMNS], tl.float32)
        squares = tl.zeros([COLUMNS], tl.float32)
        for begin in range(0, columns, COLUMNS):
            column = begin + tl.arange(0, COLUMNS)
            inside = column < columns
            value, squares = _summands(x, gain, squares, column, inside)
            mask = there[:, None] & inside[None, :]
            found = tl.load(weight + row[:, None] * columns + column[None, :], mask=mask, other=0)
            sums += found.to(tl.float32) * value[None]
            if GATED:
                found = tl.load(weight + (row + rows)[:, None] * columns + column[None, :], mask=mask, other=0)
                others += found.to(tl.float32) * value[None]
    inverse = 1.0
    if gain is not None:
        inverse = tl.rsqrt(tl.sum(squares) / columns + eps)
    result = _finished(tl.sum(sums, 1)[:, None] * inverse, at, there, scale, bias, divisor, FORM)
    if GATED:
        up = _finished(tl.sum(others, 1)[:, None] * inverse, at + rows, there, scale, bias, divisor, FORM)
        result = result * tl.sigmoid(result) * up
    into, mask = y + at[:, None] + tl.arange(0, 1)[None, :], there[:, None]
    if ADDED:
        result += tl.load(into, mask=mask, other=0.0)
    tl.store(into, result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _inverses(x: tl.tensor, count: tl.tensor, columns: tl.tensor, eps: tl.tensor, COUNT: tl.constexpr,
              COLUMNS: tl.constexpr) -> tl.tensor:
    """Of the lengths of x's rows, [COUNT]."""
    vector, squares = tl.arange(0, COUNT), tl.zeros([COUNT], tl.float32)
    for begin in range(0, columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        mask = (vector < count)[:, None] & (column < columns)[None, :]
        value = tl.load(x + vector[:, None] * columns + column[None, :], mask=mask, other=0.0).to(tl.float32)
        squares += tl.sum(value * value, 1)
    return tl.rsqrt(squares / columns + eps)


@triton.jit
def _vectors(x: tl.tensor, gain: tl.tensor, inverse: tl.tensor, column: tl.tensor, inside: tl.tensor, count: tl.tensor,
             columns: tl.tensor, COUNT: tl.constexpr, DTYPE: tl.constexpr, TAKEN: tl.constexpr) -> tl.tensor:
    """x at some columns [c, COUNT], normed and rounded to the model's type."""
    vector = tl.arange(0, COUNT)
    mask = inside[:, None] & (vector < count)[None, :]
    value = tl.load(x + vector[None, :] * columns + column[:, None], mask=mask, other=0.0).to(tl.float32)
    if gain is not None:
        value *= inverse[None, :] * tl.load(gain + column, mask=inside, other=0.0).to(tl.float32)[:, None]
    return value.to(DTYPE).to(TAKEN)


@triton.jit
def _stepped(sums: tl.tensor, weight: tl.tensor, scale: tl.tensor, zero: tl.tensor, row: tl.tensor, there: tl.tensor,
             begin: tl.tensor, even: tl.tensor, odd: tl.tensor, columns: tl.tensor, GROUP: tl.constexpr,
             ROWS: tl.constexpr, COLUMNS: tl.constexpr, DTYPE: tl.constexpr, TAKEN: tl.constexpr) -> tl.tensor:
    """sums += W x over some groups, W rounded to the model's type as where it is unpacked."""
    group = begin // GROUP + tl.arange(0, COLUMNS // GROUP)
    inside = group < columns // GROUP
    codes = _codes_of(weight, row, there, group, inside, columns, GROUP)
    beside = row[:, None] * (columns // GROUP) + group[None, :]
    mask = there[:, None] & inside[None, :]
    step = tl.load(scale + beside, mask=mask, other=0.0).to(tl.float32)[:, :, None]
    nought = tl.load(zero + beside, mask=mask, other=0).to(tl.float32)[:, :, None]
    low = (((codes & 15).to(tl.float32) - nought) * step).to(DTYPE).to(TAKEN).reshape(ROWS, COLUMNS // 2)
    high = (((codes >> 4).to(tl.float32) - nought) * step).to(DTYPE).to(TAKEN).reshape(ROWS, COLUMNS // 2)
    sums = tl.dot(low, even, sums, input_precision="ieee")
    return tl.dot(high, odd, sums, input_precision="ieee")


@triton.jit
def _plain(sums: tl.tensor, weight: tl.tensor, row: tl.tensor, there: tl.tensor, column: tl.tensor, inside: tl.tensor,
           value: tl.tensor, columns: tl.tensor, TAKEN: tl.constexpr) -> tl.tensor:
    """sums += W x over some columns, of floats or bytes."""
    found = tl.load(weight + row[:, None] * columns + column[None, :], mask=there[:, None] & inside[None, :], other=0)
    return tl.dot(found.to(TAKEN), value, sums, input_precision="ieee")


@triton.jit
def _some_rows(x: tl.tensor, gain: tl.tensor, weight: tl.tensor, scale: tl.tensor, zero: tl.tensor, bias: tl.tensor,
               divisor: tl.tensor, y: tl.tensor, count: tl.tensor, rows: tl.tensor, columns: tl.tensor, eps: tl.tensor,
               FORM: tl.constexpr, GROUP: tl.constexpr, GATED: tl.constexpr, ADDED: tl.constexpr, ROWS: tl.constexpr,
               COLUMNS: tl.constexpr, COUNT: tl.constexpr, DTYPE: tl.constexpr, TAKEN: tl.constexpr) -> None:
    """Products with up to COUNT rows by matrix instructions, the weights on their longer side."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there, row = at < rows, at.to(tl.int64)
    inverse = tl.full([COUNT], 1.0, tl.float32)
    if gain is not None:
        inverse = _inverses(x, count, columns, eps, COUNT, COLUMNS)
    sums, others = tl.zeros([ROWS, COUNT], tl.float32), tl.zeros([ROWS, COUNT], tl.float32)
    for begin in range(0, columns, COLUMNS):
        if FORM == 2:
            column = begin + tl.arange(0, COLUMNS)
            value = _vectors(x, gain, inverse, column, column < columns, count, columns, COUNT, DTYPE, TAKEN)
            even, odd = tl.split(value.reshape(COLUMNS // 2, 2, COUNT).permute(0, 2, 1))
            sums = _stepped(sums, weight, scale, zero, row, there, begin, even, odd, columns, GROUP, ROWS, COLUMNS,
                            DTYPE, TAKEN)
            if GATED:
                others = _stepped(others, weight, scale, zero, row + rows, there, begin, even, odd, columns, GROUP,
                                  ROWS, COLUMNS, DTYPE, TAKEN)
        else:
            column = begin + tl.arange(0, COLUMNS)
            inside = column < columns
            value = _vectors(x, gain, inverse, column, inside, count, columns, COUNT, DTYPE, TAKEN)
            sums = _plain(sums, weight, row, there, column, inside, value, columns, TAKEN)
            if GATED:
                others = _plain(others, weight, row + rows, there, column, inside, value, columns, TAKEN)
    found = _finished(sums, at, there, scale, bias, divisor, FORM)
    if GATED:
        found = found * tl.sigmoid(found) * _finished(others, at + rows, there, scale, bias, divisor, FORM)
    vector = tl.arange(0, COUNT)
    into = y + vector[None, :].to(tl.int64) * rows + at[:, None]
    mask = there[:, None] & (vector < count)[None, :]
    if ADDED:
        found += tl.load(into, mask=mask, other=0.0)
    tl.store(into, found.to(y.dtype.element_ty), mask=mask)
