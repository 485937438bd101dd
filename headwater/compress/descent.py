"""Codes and scales of a packed matrix, each looked at again with all others as they are: the error d^T H d of a row,
d = W_q - W, never grows by it (QuantEase, 2309.01885)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from headwater.model.int4 import STEPS
from headwater.model.linear import AT_ONCE

BLOCK = 128
"""Columns whose changes reach all others at once."""


class Packed(NamedTuple):
    """Codes uint8 [O,I], two of which will share a byte; float16 scales and uint8 zeros [O,G]."""

    codes: Tensor
    scale: Tensor
    zero: Tensor

    @property
    def steps(self) -> Tensor:
        """What scales are multiplied by, float32 [O,I]."""
        return self.codes.float() - self.of_columns(self.zero)

    def of_columns(self, values: Tensor) -> Tensor:
        """Values of groups [O,G] for each of their columns, float32."""
        return values.float().repeat_interleave(self.codes.shape[1] // values.shape[1], 1)

    @property
    def matrix(self) -> Tensor:
        return self.steps * self.of_columns(self.scale)


def descended(weight: Tensor, hessian: Tensor, packed: Packed) -> Packed:
    """Every code in turn as it is best with all others, which is a whole number of steps from where it stands: the
    nearest to -(d H)_j / (H_jj s)."""
    scale, codes = packed.of_columns(packed.scale), packed.codes.float()
    slope = (packed.matrix - weight) @ hessian
    for start in range(0, codes.shape[1], BLOCK):
        block = slice(start, min(start + BLOCK, codes.shape[1]))
        before, own = codes[:, block].clone(), slope[:, block].clone()
        for column in range(block.start, block.stop):
            step = torch.round(codes[:, column] - own[:, column - start] / (hessian[column, column] * scale[:, column]))
            moved = step.clamp_(0, STEPS) - codes[:, column]
            codes[:, column] += moved
            own += (moved * scale[:, column])[:, None] * hessian[column, block]
        slope += (codes[:, block] - before) * scale[:, block] @ hessian[block]
    return packed._replace(codes=codes.to(torch.uint8))


def refitted(weight: Tensor, hessian: Tensor, packed: Packed) -> Packed:
    """The scales by least squares, all of a row together; a row where they cannot be had, or in float16 are not
    better, keeps its own."""
    rows = max(1, AT_ONCE // max(packed.scale.shape[1] ** 2, weight.shape[1]))
    parts = zip(weight.split(rows), *(one.split(rows) for one in packed), strict=True)
    return packed._replace(scale=torch.cat([_refitted(own, hessian, Packed(*part)) for own, *part in parts]))


def _refitted(weight: Tensor, hessian: Tensor, packed: Packed) -> Tensor:
    groups, steps = packed.scale.shape[1], packed.steps
    size = steps.shape[1] // groups
    products = [steps[:, first : first + size] @ hessian[first : first + size] * steps
                for first in range(0, steps.shape[1], size)]
    left = torch.stack([one.unflatten(1, (groups, -1)).sum(2) for one in products], 1)
    right = (weight @ hessian * steps).unflatten(1, (groups, -1)).sum(2)
    found = torch.linalg.solve_ex(left, right).result.half().float()
    old = packed.scale.float()
    gained = ((found - old) * (2 * right - (left @ (found + old)[..., None])[..., 0])).sum(1)
    better = (gained > 0) & (found > 0).all(1) & found.isfinite().all(1)
    return torch.where(better[:, None], found, old).half()
