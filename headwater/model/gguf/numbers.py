"""How GGUF stores numbers: plain floats, and blocks of small integers with a scale."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0"]
BLOCKS = {"Q8_0": (32, 34), "Q4_0": (32, 18), "Q6_K": (256, 210)}
"""Weights of a block and its bytes; blocks lie along a row."""
_ROWS = 4096
"""Of a matrix that are converted at once: the passes between need several times their room."""
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_HALF = 65_504
LARGEST = {"F16": _HALF, "Q8_0": 127 * _HALF, "Q4_0": 8 * _HALF, "Q6_K": 32 * 128 * _HALF}
"""What a weight may be at most: the scale of a block is a float16. Other types hold what float32 does."""
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}
"""By llama.cpp's numbers for what most of a file is."""


def stored_as(name: str, shape: tuple[int, ...], kind: Kind, *, head: bool) -> str:
    """The type of one tensor in a file of type `kind`, by llama.cpp's rules: vectors are float32, the head of a Q4_0
    file is Q6_K (head: the tensor is it, or an embedding in its place), and rows that are no whole blocks are of a
    type with smaller blocks, or float16."""
    if len(shape) == 1:
        return "F32"
    wanted: str = "Q6_K" if kind == "Q4_0" and head else kind
    if wanted == "Q6_K" and shape[-1] % BLOCKS["Q6_K"][0]:
        wanted = "Q8_0"
    return "F16" if wanted in BLOCKS and shape[-1] % BLOCKS[wanted][0] else wanted


def size_of(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of a tensor."""
    count = torch.Size(shape).numel()
    block, size = BLOCKS.get(kind, (1, _BYTES.get(kind, 0)))
    return count // block * size


def packed(tensor: Tensor, kind: str) -> Any:
    """The tensor's numbers as they are written, an array of numpy, made some rows at a time."""
    return np.concatenate([_rows(part, kind) for part in tensor.detach().split(_ROWS)])


def _rows(rows: Tensor, kind: str) -> Any:
    """Q4_0 and Q8_0 are rounded by the gguf package, as llama.cpp rounds; Q6_K, which it only reads, by ourselves."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if kind == "Q6_K":
        return _q6_k(rows.float()).numpy()
    if kind == "BF16":  # numpy knows no such type
        return rows.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
    if kind == "F16":
        return rows.half().contiguous().numpy()
    return quantize(rows.float().contiguous().numpy(), GGMLQuantizationType[kind])


def _q6_k(rows: Tensor) -> Tensor:
    """Q6_K: blocks of 256, every 16 weights with a scale of eight bits, these with one float16. Scales are those of the
    largest weight; llama.cpp tries nineteen near it for the least error.

    uint8 [O, I / 256 * 210]: low four bits, high two, scales, the float16.
    """
    weights = rows.reshape(-1, 16, 16)
    extreme = weights.gather(-1, weights.abs().argmax(-1, keepdim=True)).squeeze(-1)  # [N,16], with its sign
    scales = extreme / -32
    step = (scales.gather(-1, scales.abs().argmax(-1, keepdim=True)) / -128).half()  # [N,1]
    eights = (scales / _nonzero(step.float())).round().clamp(-128, 127)
    codes = (weights / _nonzero(step.float() * eights)[..., None]).round().clamp(-32, 31) + 32
    halves = codes.to(torch.uint8).view(-1, 2, 4, 32)  # two halves of a block, four quarters of each
    low, high = halves & 15, halves >> 4
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)[:, None]
    blocks = ((low[:, :, :2] | low[:, :, 2:] << 4).flatten(1), (high << shifts).sum(2, dtype=torch.uint8).flatten(1),
              eights.to(torch.int8).view(torch.uint8), step.view(torch.uint8))
    return torch.cat(blocks, dim=1).reshape(rows.shape[0], -1)


def _nonzero(values: Tensor) -> Tensor:
    return torch.where(values == 0, torch.ones_like(values), values)
