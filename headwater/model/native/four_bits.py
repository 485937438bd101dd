"""Weights packed in four bits and unpacked again: by compiled code where there is some, else by PyTorch."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from headwater.model.native.build import library
from headwater.plan.finetuning import GROUP

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_AT_ONCE = 1 << 18
"""Weights that are packed at once, in float32."""

Levels = tuple[float, ...]
"""Sixteen rising numbers from -1 to 1."""


def pack(weight: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Codes uint8 [O,G*32] and scales bfloat16 [O,G] of a float matrix [O,I] of which G groups fill a row.

    A group's scale is its largest absolute value, rounded; a code is the place of the level that is nearest to the
    weight over its scale. Where 64 does not divide I, zeros fill a row's last group. What is not finite makes its group
    NaN.
    """
    rows, columns = weight.shape
    groups = -(-columns // GROUP)
    codes = torch.empty(rows, groups * GROUP // 2, dtype=torch.uint8, device=weight.device)
    scale = torch.empty(rows, groups, dtype=torch.bfloat16, device=weight.device)
    step = max(1, _AT_ONCE // (groups * GROUP))
    for some, some_codes, some_scales in zip(weight.detach().split(step), codes.split(step), scale.split(step)):
        wide = some.float() if columns % GROUP == 0 else F.pad(some.float(), (0, groups * GROUP - columns))
        largest = wide.unflatten(1, (groups, GROUP)).abs().amax(2)
        some_scales.copy_(largest + (largest - largest))
        some_scales.masked_fill_(some_scales == 0, 1)
        _code(wide, some_codes, some_scales, levels)
    return codes, scale


def _code(wide: Tensor, codes: Tensor, scale: Tensor, levels: Levels) -> None:
    """Fill in the codes: as many as there are bounds between levels below a weight."""
    bounds = torch.tensor(levels).unfold(0, 2, 1).mean(1)
    native = _native("pack", wide.device, wide.dtype)
    if native is not None:
        _run(native, codes, scale, wide, bounds)
        return
    wide = wide.unflatten(1, (-1, GROUP)).div_(scale[..., None].float()).flatten(1)
    found = torch.zeros(wide.shape, dtype=torch.uint8, device=wide.device)
    for bound in bounds.tolist():
        found += (wide > bound).view(torch.uint8)
    torch.add(found[:, ::2] << 4, found[:, 1::2], out=codes)


def unpack(codes: Tensor, scale: Tensor, levels: Levels, dtype: torch.dtype) -> Tensor:
    """The matrix of some rows and groups [r,G*64]: levels times scales, both in `dtype` and so rounded once more."""
    native = _native("unpack", codes.device, dtype)
    if native is not None:
        found = torch.empty(len(codes), scale.shape[1] * GROUP, dtype=dtype)
        _run(native, codes, scale.to(torch.bfloat16), found, _rounded(levels, dtype))
        return found
    places = codes.reshape(-1).int()
    found = torch.index_select(_pairs(levels, dtype, codes.device), 0, places).view(dtype)
    return found.view(*scale.shape, GROUP).mul_(scale[..., None].to(dtype)).flatten(1)


@functools.cache
def _rounded(levels: Levels, dtype: torch.dtype) -> Tensor:
    return torch.tensor(levels).to(dtype).float()


@functools.cache
def _pairs(levels: Levels, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The two weights of every byte, to be looked up as one number of twice their size."""
    byte = torch.arange(256)
    pairs = torch.tensor(levels)[torch.stack([byte >> 4, byte & 15], 1)].to(dtype)
    return pairs.view({2: torch.int32, 4: torch.int64, 8: torch.complex128}[dtype.itemsize])[:, 0].to(device)


class _Packed(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in ("codes", "scales", "weights")),
                *((name, ctypes.c_int64) for name in ("rows", "groups", "codes_step", "scales_step")),
                ("levels", ctypes.c_void_p), ("threads", ctypes.c_int32))


def _native(what: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The compiled function; None where there is none, or it would be slower."""
    compiled = library("four_bits") if device.type == "cpu" and dtype in _NAMES else None
    return getattr(compiled, f"{what}_{_NAMES[dtype]}", None) if compiled is not None else None


def _run(native: Any, codes: Tensor, scale: Tensor, weights: Tensor, levels: Tensor) -> None:
    problem = _Packed(codes.data_ptr(), scale.data_ptr(), weights.data_ptr(), *scale.shape, codes.stride(0),
                      scale.stride(0), levels.data_ptr(), torch.get_num_threads())
    native(ctypes.byref(problem))
