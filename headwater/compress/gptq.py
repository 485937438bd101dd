"""GPTQ (2210.17323): columns are rounded one by one, and what each loses is made up for by those that follow."""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.model.int4 import joined, nearest, ranges

DAMPING = 0.01
"""Of the Hessian's mean diagonal, added to all of it; ten times as much where that is not enough."""
BLOCK = 128
"""Columns whose errors reach the columns behind them at once."""


def gptq(weight: Tensor, hessian: Tensor, group: int, *, symmetric: bool, act_order: bool
         ) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and zeros of `Int4Linear` for a matrix [O,I] whose inputs have the Hessian 2 X^T X [I,I].

    A group's scale and zero come from its weights as they have become when its first column is reached. act_order:
    columns of large inputs go first; scales and zeros then come from the weights as they were, so that groups stay
    neighbours. Raises `InputError` for inputs that are not finite.
    """
    scale, zero = ranges(weight, group, symmetric=symmetric)
    unseen = hessian.diagonal() == 0
    hessian = hessian + torch.diag(unseen.float())
    order = hessian.diagonal().argsort(descending=True) if act_order else torch.arange(len(hessian))
    upper = _factor(hessian[order][:, order])
    work = weight.float().masked_fill(unseen, 0.0)[:, order]
    codes = torch.empty(work.shape, dtype=torch.uint8)
    for start in range(0, len(order), BLOCK):
        stop = min(start + BLOCK, len(order))
        errors = torch.empty(len(work), stop - start)
        for column in range(start, stop):
            own = int(order[column]) // group
            if not act_order and column % group == 0:
                scale[:, own : own + 1], zero[:, own : own + 1] = ranges(work[:, column : column + group], group,
                                                                         symmetric=symmetric)
            here = slice(column, column + 1)
            code = nearest(work[:, here], scale[:, own : own + 1], zero[:, own : own + 1])
            rounded = (code.float() - zero[:, own : own + 1]) * scale[:, own : own + 1].float()
            error = (work[:, here] - rounded) / upper[column, column]
            work[:, column:stop] -= error * upper[column, column:stop]
            codes[:, column], errors[:, column - start] = code[:, 0], error[:, 0]
        work[:, stop:] -= errors @ upper[start:stop, stop:]
    return joined(codes[:, order.argsort()]), scale, zero


def _factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse."""
    mean = hessian.diagonal().mean()
    for power in range(3):
        damped = hessian + DAMPING * 10**power * mean * torch.eye(len(hessian))
        lower, wrong = torch.linalg.cholesky_ex(damped)
        if not wrong:
            upper, wrong = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not wrong and bool(upper.isfinite().all()):
                return upper
    raise InputError("what goes into a matrix is not finite, or too large", where="calibration",
                     fix="look whether the model's weights are finite, or give method=rtn")
