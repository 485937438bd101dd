"""Low-rank additions to linear layers (LoRA, 2106.09685): y = W x + s B A x, of which W stays as it is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Rows(NamedTuple):
    """Some of a layer's outputs: those of one official matrix, where ours joins several."""

    start: int
    stop: int

    @property
    def here(self) -> slice:
        return slice(self.start, self.stop)


class LowRank(nn.Module):
    """B A of one official matrix, with A [r,I] and B [O,r]; B begins as zeros, so that nothing changes at first."""

    def __init__(self, rows: Rows, in_features: int, rank: int, *, dtype: torch.dtype | None = None,
                 device: torch.device | str | None = None) -> None:
        super().__init__()
        self.rows = rows
        self.a = nn.Parameter(torch.empty(rank, in_features, dtype=dtype, device=device))
        self.b = nn.Parameter(torch.zeros(rows.stop - rows.start, rank, dtype=dtype, device=device))

    def draw(self, generator: torch.Generator) -> None:
        """A as `nn.Linear` draws its weights, uniform within 1/sqrt(I), as the official code does."""
        bound = 1 / math.sqrt(self.a.shape[1])
        if not self.a.is_meta:
            self.a.data.copy_(torch.empty(self.a.shape).uniform_(-bound, bound, generator=generator))


class Lora(nn.ModuleDict):
    """What one adapter adds to one layer, a `LowRank` for each official matrix that it changes, by name."""

    def __init__(self, scale: float, parts: dict[str, LowRank]) -> None:
        """scale: alpha / r."""
        super().__init__(parts)
        self.scale = scale
        self.in_place = True  # whether y may be changed: not where its maker gives it again in the backward pass

    def parts(self) -> list[LowRank]:
        return [one for one in self.values() if isinstance(one, LowRank)]

    def part(self, name: str) -> LowRank | None:
        """Of an official matrix; None where the adapter does not change it."""
        found = self._modules.get(name)
        assert found is None or isinstance(found, LowRank)
        return found

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """y [..,O] with the additions of x [..,I] in it."""
        parts = self.parts()
        matrices = [matrix.to(y.dtype) for part in parts for matrix in (part.a, part.b)]
        if torch.compiler.is_compiling() or not self.in_place:
            return _joined(y, x.to(y.dtype), self.scale, [part.rows for part in parts], matrices)
        out: Tensor = _Added.apply(y, x.to(y.dtype), self.scale, [part.rows for part in parts], *matrices)
        return out

    @torch.no_grad()
    def difference(self, part: LowRank) -> Tensor:
        """What is added to the rows of an official matrix, s B A, in float32."""
        return self.scale * (part.b.float() @ part.a.float())


def _joined(y: Tensor, x: Tensor, scale: float, rows: list[Rows], matrices: list[Tensor]) -> Tensor:
    """In operations that a compiler joins itself."""
    pieces, done = [], 0
    for one, a, b in zip(rows, matrices[::2], matrices[1::2], strict=True):
        pieces += [y[..., done : one.start], y[..., one.here] + F.linear(F.linear(x, a) * scale, b)]
        done = one.stop
    return torch.cat([*pieces, y[..., done:]], -1)


class _Added(torch.autograd.Function):
    """The additions in place: neither they nor a copy of y ever exist."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, scale: float, rows: list[Rows], *matrices: Tensor) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            ranks = [len(a) for a in matrices[::2]]
            flat, inside = y.view(-1, y.shape[-1]), x.reshape(-1, x.shape[-1])
            low = torch.mul(inside @ torch.cat(matrices[::2]).t(), scale)  # [N, sum of r]
            for one, z, b in zip(rows, low.split(ranks, 1), matrices[1::2], strict=True):
                flat[:, one.here].addmm_(z, b.t())
        ctx.save_for_backward(inside, low, *matrices)
        ctx.scale, ctx.rows, ctx.ranks, ctx.shape = scale, rows, ranks, x.shape
        ctx.mark_dirty(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inside, low, *matrices = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            flat = gradient.reshape(-1, gradient.shape[-1])
            each = list(zip(ctx.rows, low.split(ctx.ranks, 1), matrices[1::2], strict=True))
            back = torch.cat([flat[:, one.here] @ b for one, _, b in each], 1).mul_(ctx.scale)  # [N, sum of r]
            to_x = (back @ torch.cat(matrices[::2])).view(ctx.shape) if ctx.needs_input_grad[1] else None
            to_a = (back.t() @ inside).split(ctx.ranks)
            to_b = [flat[:, one.here].t() @ z for one, z, _ in each]
        found = [gradient for pair in zip(to_a, to_b, strict=True) for gradient in pair]
        return gradient, to_x, None, None, *found


class Choice:
    """Which adapter each row of a pass uses; one object for all layers of a model."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Tensor | None]] = []
        """Name and the rows [n] of the batch that use it, None for all."""

    def all_use(self, name: str) -> None:
        self.rows = [(name, None)]

    @contextlib.contextmanager
    def none(self) -> Iterator[None]:
        """The model as it is without adapters."""
        before, self.rows = self.rows, []
        try:
            yield
        finally:
            self.rows = before


class Adapted(nn.Module):
    """A linear layer with the additions of any number of adapters, of which a pass uses what `choice` says."""

    def __init__(self, base: nn.Module, choice: Choice) -> None:
        super().__init__()
        self.base, self.choice = base, choice
        self.adapters = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        for name, rows in self.choice.rows:
            if name in self.adapters:
                lora = self.adapters[name]
                y = lora(y, x) if rows is None else y.index_copy(0, rows, lora(y[rows], x[rows]))
        return y
