"""Scales and zeros of groups, searched by the squared error that rounding leaves."""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.model.int4 import STEPS, ranges
from headwater.model.linear import AT_ONCE

SHARES = tuple(1 - step / 40 for step in range(20))
"""Of the distance from the largest weight to the smallest: what the sixteen codes may reach over."""


def searched(weight: Tensor, group: int, *, symmetric: bool, hessian: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scales float16 and zeros uint8 [O,G] of a float matrix [O,I], of each group those of the share that leaves the
    least error: d^T H d over the group, d what rounding adds to its weights; without a Hessian [I,I] of the inputs
    their squares. The whole distance is among the shares, so that no group is worse than by `ranges`."""
    blocks = None if hessian is None else torch.stack([
        hessian[start : start + group, start : start + group] for start in range(0, len(hessian), group)])
    some = weight.split(max(1, AT_ONCE // weight.shape[1]))
    found = [_searched(rows, group, symmetric, blocks) for rows in some]
    scale, zero = (torch.cat(parts) for parts in zip(*found, strict=True))
    return scale, zero


def _searched(weight: Tensor, group: int, symmetric: bool, blocks: Tensor | None) -> tuple[Tensor, Tensor]:
    scale, zero = ranges(weight, group, symmetric=symmetric)
    best = _error(weight, scale, zero, blocks)
    for share in SHARES[1:]:
        tried = ranges(weight, group, symmetric=symmetric, share=share)
        error = _error(weight, *tried, blocks)
        better = error < best
        best = torch.where(better, error, best)
        scale, zero = (torch.where(better, new, old) for new, old in zip(tried, (scale, zero), strict=True))
    return scale, zero


def _error(weight: Tensor, scale: Tensor, zero: Tensor, blocks: Tensor | None) -> Tensor:
    """Of every group, [O,G]."""
    step, below = scale.float()[..., None], zero.float()[..., None]
    exact = weight.float().unflatten(1, (scale.shape[1], -1)) / step
    moved = torch.round(exact).clamp_(-below, STEPS - below).sub_(exact).mul_(step)
    return moved.square().sum(2) if blocks is None else torch.einsum("ogi,gij,ogj->og", moved, blocks, moved)
