"""The output projection: a plain matrix, or Baichuan 2's with rows of length one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from headwater.model.config import ModelConfig

EPS = 1e-12
ROWS = 1024
"""Of a matrix whose gradient is taken at once."""


class LinearHead(nn.Linear):
    """logits = h W^T."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def matrix(self, rows: Tensor) -> Tensor:
        """What hidden states are multiplied by for these rows [v,D] of the weight, [v,D]: themselves."""
        return rows


class NormHead(LinearHead):
    """logits = h W^T with every row of W brought to length one (Baichuan 2, 2309.10305, section 2.6).

    The products are divided by the rows' lengths, so neither a normalised copy of W nor a changed parameter ever
    exists; the official code overwrites its weight at the first evaluation. Out of training the lengths are kept
    for as long as the weight is the same, or until `train` or `eval`: fused optimizers change it unseen.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._known: tuple[tuple[int, int, torch.device], Tensor] | None = None

    def train(self, mode: bool = True) -> NormHead:
        self._known = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return (F.linear(x, self.weight) / self.lengths()).to(x.dtype)

    def lengths(self) -> Tensor:
        """Of the weight's rows, [V] in float32 or wider."""
        if self.training or torch.is_grad_enabled() or self.weight.is_inference():  # the last has no version
            return _lengths(self.weight)
        state = (self.weight.data_ptr(), self.weight._version, self.weight.device)
        if self._known is None or self._known[0] != state:
            self._known = (state, _lengths(self.weight))
        return self._known[1]

    def matrix(self, rows: Tensor) -> Tensor:
        """The same rows of the plain head with the same logits."""
        out: Tensor = _UnitRows.apply(rows)
        return out


class _UnitRows(torch.autograd.Function):
    """Rows brought to length one; the quotient's own derivative would hold five matrices of this size."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        lengths = _lengths(rows)
        ctx.save_for_backward(rows, lengths)
        return (rows / lengths[:, None]).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """(g - u (u . g)) / |w| with u = w / |w|; a length held at its least counts as constant."""
        rows, lengths = ctx.saved_tensors
        found = torch.empty_like(rows)
        for part, g, w, length in zip(*(one.split(ROWS) for one in (found, gradient, rows, lengths[:, None])),
                                      strict=True):
            unit = w / length
            along = (unit * g).sum(1, keepdim=True).where(length > EPS, 0.0)
            part.copy_((g - unit * along) / length)
        return found


def _lengths(rows: Tensor) -> Tensor:
    """Euclidean lengths, at least 1e-12, of rows [v,D], [v] in float32 or wider."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return torch.linalg.vector_norm(rows, dim=1, dtype=dtype).clamp_min(EPS)


def make_head(config: ModelConfig) -> LinearHead:
    """From hidden states [.., D] to logits [.., V], without bias."""
    kind = NormHead if config.head == "normalized" else LinearHead
    return kind(config.hidden_size, config.vocab_size)
