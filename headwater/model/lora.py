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


class Chosen(NamedTuple):
    """Which adapters a pass uses."""

    names: tuple[str, ...] = ()
    uses: Tensor | None = None
    """bool [B, names]: which rows use which; None: all of them."""


class Choice:
    """What is chosen now; one object for all layers of a model."""

    def __init__(self) -> None:
        self.now = Chosen()

    @contextlib.contextmanager
    def using(self, chosen: Chosen) -> Iterator[None]:
        """For some passes alone; `Chosen()` is the model as it is without adapters."""
        before, self.now = self.now, chosen
        try:
            yield
        finally:
            self.now = before


class Joined(NamedTuple):
    """Several adapters of one layer as one: x goes through all, and of what is in between a row keeps its own."""

    a: Tensor
    """[R,I], R the sum of all ranks."""
    b: Tensor
    """[O,R], its factors in it."""
    whose: Tensor
    """int64 [R]: the number of the adapter."""

    @classmethod
    def of(cls, loras: dict[int, Lora], like: Tensor) -> Joined:
        """By their numbers; like: outputs [..,O] of the layer."""
        each = [(number, lora.scale, part) for number, lora in loras.items() for part in lora.parts()]
        size = like.shape[-1]
        b = [F.pad(scale * part.b, (0, 0, part.rows.start, size - part.rows.stop)) for _, scale, part in each]
        whose = [number for number, _, part in each for _ in part.a]
        return cls(torch.cat([part.a for *_, part in each]).to(like.dtype), torch.cat(b, 1).to(like.dtype),
                   torch.tensor(whose, device=like.device))

    def __call__(self, y: Tensor, x: Tensor, uses: Tensor) -> Tensor:
        """y [B,T,O] with the additions of x [B,T,I]; uses: bool [B, adapters]."""
        low = F.linear(x.to(y.dtype), self.a).masked_fill(~uses[:, self.whose][:, None], 0.0)  # [B,T,R]
        return y + F.linear(low, self.b)


class Adapted(nn.Module):
    """A linear layer with the additions of any number of adapters, of which a pass uses what `choice` says."""

    def __init__(self, base: nn.Module, choice: Choice) -> None:
        super().__init__()
        self.base, self.choice = base, choice
        self.adapters = nn.ModuleDict()
        self._joined: tuple[tuple[str, ...], Joined] | None = None

    def add(self, name: str, lora: Lora) -> None:
        self.adapters[name], self._joined = lora, None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        names, uses = self.choice.now
        here = {number: self.adapters[name] for number, name in enumerate(names) if name in self.adapters}
        if uses is not None:
            return self._join(here, y)(y, x, uses) if here else y
        for lora in here.values():
            y = lora(y, x)
        return y

    def _join(self, here: dict[int, Any], y: Tensor) -> Joined:
        """Kept until other adapters are wanted, where nothing learns: rows come and go more seldom than tokens."""
        if torch.is_grad_enabled():
            return Joined.of(here, y)
        if self._joined is None or self._joined[0] != self.choice.now.names:
            self._joined = self.choice.now.names, Joined.of(here, y)
        return self._joined[1]
