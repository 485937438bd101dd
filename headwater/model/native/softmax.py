"""Softmax over a vocabulary and the gradient of its cross-entropy: compiled where it can be, else by PyTorch."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.model.native.build import library

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class Statistics(NamedTuple):
    """Of rows of logits [c,V], float32 [c] each but `at`."""

    highest: Tensor
    at: Tensor
    """int64: the first column of the highest."""
    normalizer: Tensor
    """log sum exp."""
    wanted: Tensor
    """The logit of the row's target, 0 without one."""


class _Logits(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("rows", ctypes.c_int64), ("columns", ctypes.c_int64),
                *((name, ctypes.c_void_p) for name in ("targets", "highest", "normalizer", "wanted", "at")),
                *((name, ctypes.c_float) for name in ("divisor", "max_z", "z")), ("threads", ctypes.c_int32))


def statistics(logits: Tensor, targets: Tensor) -> Statistics:
    """targets int64 [c]: columns of logits [c,V], or -1 for a row whose target is not among them."""
    if _takes(logits):
        numbers = [torch.empty(len(logits)) for _ in range(3)]
        found = Statistics(numbers[0], torch.empty(len(logits), dtype=torch.int64), numbers[1], numbers[2])
        _run("statistics", logits, targets, found, 1.0, 0.0, 0.0)
        return found
    highest, at = logits.max(-1, keepdim=True)
    probabilities = torch.softmax(logits, -1, dtype=torch.float32)
    highest = highest.float()
    # exp(highest - lse) is at least 1/V: its logarithm is safe where that of a target's probability is not.
    lse = highest - probabilities.gather(1, at).log()
    wanted = logits.gather(1, targets.clamp(min=0)[:, None]).float().masked_fill(targets[:, None] < 0, 0.0)
    return Statistics(highest[:, 0], at[:, 0], lse[:, 0], wanted[:, 0])


def gradient(logits: Tensor, targets: Tensor, found: Statistics, *, divisor: float, max_z: float, z: float) -> Tensor:
    """Of sum(lse - wanted + z lse^2 + max_z highest^2) / divisor, [c,V] in the logits' dtype and maybe their memory.

    found: as `statistics` gave it, or with the normalizer and highest of a whole of which the logits are a part; `at`
    is then -1 where the highest stands elsewhere.
    """
    if _takes(logits):
        _run("gradient", logits, targets, found, divisor, max_z, z)
        return logits
    slope = torch.exp(logits.float() - found.normalizer[:, None])
    slope *= 1 + 2 * z * found.normalizer[:, None]
    _add(slope, targets, torch.full_like(found.wanted, -1.0))
    if max_z:
        _add(slope, found.at, 2 * max_z * found.highest)
    return slope.mul_(1 / divisor).to(logits.dtype)


def _add(slope: Tensor, columns: Tensor, values: Tensor) -> None:
    """Add to one column of every row that has one, 0 or more."""
    slope.scatter_add_(1, columns.clamp(min=0)[:, None], torch.where(columns < 0, 0.0, values)[:, None])


def _takes(logits: Tensor) -> bool:
    return (logits.device.type == "cpu" and logits.dtype in _NAMES and logits.is_contiguous()
            and library("softmax") is not None)


def _run(what: str, logits: Tensor, targets: Tensor, found: Statistics, divisor: float, max_z: float,
         z: float) -> None:
    native = library("softmax")
    assert native is not None
    tensors = {"targets": targets, "highest": found.highest, "normalizer": found.normalizer, "wanted": found.wanted,
               "at": found.at}
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    problem = _Logits(logits.data_ptr(), *logits.shape, **{name: tensor.data_ptr() for name, tensor in kept.items()},
                      divisor=divisor, max_z=max_z, z=z, threads=torch.get_num_threads())
    native[f"softmax_{what}_{_NAMES[logits.dtype]}"](ctypes.byref(problem))
