"""GPTQ (2210.17323): columns are rounded one by one, and what each loses is made up for by those that follow; then
scales and codes are looked at again, each with all others as they are."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from headwater.compress.descent import BLOCK, Packed, descended, refitted
from headwater.compress.inputs import Inputs
from headwater.compress.scales import searched
from headwater.errors import InputError
from headwater.model.int4 import joined, nearest

DAMPING = 0.01
"""Of the Hessian's mean diagonal, added to all of it; ten times as much where that is not enough."""
ROUNDS = 2
"""Of scales by least squares and codes one by one, behind the pass over the columns."""
MADE_UP = 0.5
"""Of what the packed layers before have changed in the outputs: all of it fits the calibration text too well."""


def compensated(weight: Tensor, inputs: Inputs) -> Tensor:
    """The matrix [O,I] whose outputs are nearer to the float model's on what it is given now (2504.09629): W + a W
    (X_f - X)^T X H^-1 with a = 1/2. The matrix itself where the float model was not read."""
    if inputs.drift is None:
        return weight
    lower = next(_lower_factors(inputs.hessian))
    return weight + MADE_UP * torch.cholesky_solve((weight @ inputs.drift).t(), lower).t()


def gptq(weight: Tensor, hessian: Tensor, group: int, *, symmetric: bool, act_order: bool
         ) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [O,I/2], scales and zeros of `Int4Linear` for a matrix [O,I] whose inputs have the Hessian 2 X^T X [I,I].

    Raises `InputError` for inputs that are not finite.
    """
    unseen = hessian.diagonal() == 0
    weight = weight.float().masked_fill(unseen, 0.0)
    hessian = hessian + torch.diag(unseen.float())
    packed = eliminated(weight, hessian, group, symmetric=symmetric, act_order=act_order)
    hessian = _damped(hessian, DAMPING)
    for _ in range(ROUNDS):
        packed = descended(weight, hessian, refitted(weight, hessian, packed))
    return joined(packed.codes), packed.scale, packed.zero


def eliminated(weight: Tensor, hessian: Tensor, group: int, *, symmetric: bool, act_order: bool) -> Packed:
    """The paper's pass over the columns.

    A group's scale and zero are searched for its weights as they have become when its first column is reached.
    act_order: columns of large inputs go first; scales and zeros then come from the weights as they were, so that
    groups stay neighbours.
    """
    scale, zero = searched(weight, group, symmetric=symmetric)
    order = hessian.diagonal().argsort(descending=True) if act_order else torch.arange(len(hessian))
    upper = next(found for found in map(_of_inverse, _lower_factors(hessian[order][:, order])) if found is not None)
    work = weight[:, order]
    codes = torch.empty(work.shape, dtype=torch.uint8)
    for start in range(0, len(order), BLOCK):
        stop = min(start + BLOCK, len(order))
        errors = torch.empty(len(work), stop - start)
        for column in range(start, stop):
            own = int(order[column]) // group
            if not act_order and column % group == 0:
                scale[:, own : own + 1], zero[:, own : own + 1] = searched(work[:, column : column + group], group,
                                                                           symmetric=symmetric)
            here = slice(column, column + 1)
            code = nearest(work[:, here], scale[:, own : own + 1], zero[:, own : own + 1])
            rounded = (code.float() - zero[:, own : own + 1]) * scale[:, own : own + 1].float()
            error = (work[:, here] - rounded) / upper[column, column]
            work[:, column:stop] -= error * upper[column, column:stop]
            codes[:, column], errors[:, column - start] = code[:, 0], error[:, 0]
        work[:, stop:] -= errors @ upper[start:stop, stop:]
    return Packed(codes[:, order.argsort()], scale, zero)


def _damped(hessian: Tensor, share: float) -> Tensor:
    return hessian + share * hessian.diagonal().mean() * torch.eye(len(hessian))


def _lower_factors(hessian: Tensor) -> Iterator[Tensor]:
    """The lower Cholesky factor of the damped Hessian; of the Hessian damped more, where that will not do."""
    for power in range(3):
        lower, wrong = torch.linalg.cholesky_ex(_damped(hessian, DAMPING * 10**power))
        if not wrong and bool(lower.isfinite().all()):
            yield lower
    raise InputError("what goes into a matrix is not finite, or too large", where="calibration",
                     fix="look whether the model's weights are finite, or give method=rtn")


def _of_inverse(lower: Tensor) -> Tensor | None:
    """The upper Cholesky factor of the inverse of what has this lower one."""
    upper, wrong = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    return None if wrong or not bool(upper.isfinite().all()) else upper
