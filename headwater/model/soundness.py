"""Numbers that mean nothing, in float tensors and in the scales of packed ones: refused with the tensor's name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from headwater.errors import CheckpointError, InputError
from headwater.model.families.names import Entry
from headwater.model.packed import PackedLinear, unpacked


def require_finite(name: str, tensor: Tensor, folder: Path) -> None:
    """One pass over a float tensor, without a copy. Raises `CheckpointError`."""
    if tensor.is_floating_point() and tensor.numel() and not all(bool(end.isfinite()) for end in tensor.aminmax()):
        wrong = ~tensor.isfinite()
        raise CheckpointError(f"{name}: {int(wrong.sum()):,} of {tensor.numel():,} numbers are NaN or infinite, the "
                              f"first at {wrong.nonzero()[0].tolist()}", where=folder,
                              fix="copy the folder again, or take an earlier snapshot of the training")


def require_scales(layer: PackedLinear, entry: Entry, folder: Path) -> None:
    """Of a packed layer as it was read; a group of noughts may have any scale that is a number. entry: its matrix's
    names. Raises `CheckpointError`."""
    scale = layer.scale
    for what, wrong in (("not finite", ~scale.isfinite()), ("negative", scale < 0),
                        ("0 where codes stand for other weights", _wiped_out(layer))):
        for name, part in zip(entry.theirs, entry.parts(wrong), strict=True):
            if bool(part.any()):
                raise CheckpointError(f"{name.removesuffix('.weight')}: {int(part.sum()):,} of {part.numel():,} scales "
                                      f"are {what}, the first at {entry.to_official(part).nonzero()[0].tolist()}",
                                      where=folder, fix="copy the folder again, or quantize the float model anew")


def require_fitting(layer: PackedLinear, entry: Entry, folder: Path) -> None:
    """Of a layer that finite weights were packed into. Raises `InputError`."""
    for name, part in zip(entry.theirs, entry.parts(layer.scale), strict=True):
        if not bool(part.isfinite().all()):
            kind, most = str(part.dtype).removeprefix("torch."), torch.finfo(part.dtype).max
            raise InputError(f"{name}: weights so large that the scales of their groups do not fit {kind}, which holds "
                             f"{most:,.0f} at most", where=folder,
                             fix="pack it into 8 bits, whose scales are float32, or look whether the weights are right")


def _wiped_out(layer: PackedLinear) -> Tensor:
    """Which scales are 0 beside codes of other weights than 0."""
    scale = layer.scale
    nought = scale == 0
    if not bool(nought.any()):
        return nought
    layer.scale = nought.to(scale.dtype)  # ones in their place, and nought in that of all others
    weights = unpacked(layer).view(len(scale), scale.numel() // len(scale), -1)
    layer.scale = scale
    return nought & weights.bool().any(2).view(scale.shape)
