"""The stream of a decoder, float32 [B,D]: how a step begins it, and what a layer with a norm of its own adds to it."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from headwater.model.gpu import FUSED

_COLUMNS = 1024


def begin(tokens: Tensor, embedding: Tensor, stream: Tensor) -> None:
    """The embeddings of tokens int64 [B]."""
    rows, columns = stream.shape
    _look_up[(rows, triton.cdiv(columns, _COLUMNS))](tokens, embedding, stream, columns, COLUMNS=_COLUMNS, **FUSED)


def turn(slots: Tensor, frequencies: Tensor, magnitude: float, cosines: Tensor, sines: Tensor) -> None:
    """Cosines and sines float32 [B, rope_dims/2] of the positions' angles."""
    pairs = len(frequencies)
    _angles[(len(slots),)](slots, frequencies, cosines, sines, pairs, magnitude, PAIRS=triton.next_power_of_2(pairs),
                           num_warps=1, **FUSED)


def add_normed(x: Tensor, gain: Tensor, eps: float, stream: Tensor) -> None:
    """stream += RMSNorm(x) for float32 x [B,D]."""
    _add_normed[(len(x),)](x, gain, stream, x.shape[1], eps, COLUMNS=_COLUMNS, **FUSED)


@triton.jit
def _look_up(tokens: tl.tensor, embedding: tl.tensor, stream: tl.tensor, columns: tl.tensor, COLUMNS: tl.constexpr
             ) -> None:
    row, column = tl.program_id(0), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    found = tl.load(embedding + tl.load(tokens + row) * columns + column, mask=inside, other=0.0)
    tl.store(stream + row * columns + column, found.to(tl.float32), mask=inside)


@triton.jit
def _angles(slots: tl.tensor, frequencies: tl.tensor, cosines: tl.tensor, sines: tl.tensor, pairs: tl.tensor,
            magnitude: tl.tensor, PAIRS: tl.constexpr) -> None:
    row, pair = tl.program_id(0), tl.arange(0, PAIRS)
    inside = pair < pairs
    frequency = tl.load(frequencies + pair, mask=inside, other=0.0).to(tl.float32)
    angle = tl.load(slots + row).to(tl.float32) * frequency
    tl.store(cosines + row * pairs + pair, tl.cos(angle) * magnitude, mask=inside)
    tl.store(sines + row * pairs + pair, tl.sin(angle) * magnitude, mask=inside)


@triton.jit
def _add_normed(x: tl.tensor, gain: tl.tensor, stream: tl.tensor, columns: tl.tensor, eps: tl.tensor,
                COLUMNS: tl.constexpr) -> None:
    row = tl.program_id(0)
    squares = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        value = tl.load(x + row * columns + column, mask=column < columns, other=0.0)
        squares += value * value
    inverse = tl.rsqrt(tl.sum(squares) / columns + eps)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = column < columns
        value = tl.load(x + row * columns + column, mask=inside, other=0.0) * inverse
        value *= tl.load(gain + column, mask=inside, other=0.0).to(tl.float32)
        into = stream + row * columns + column
        tl.store(into, tl.load(into, mask=inside, other=0.0) + value, mask=inside)
