"""Kernels of our own for decoding on a GPU, in Triton: its files import it, so whoever takes them asks first whether it
is here."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from importlib.util import find_spec

import torch

from headwater.progress import say

FUSED = {"enable_fp_fusion": True}
"""How every kernel is compiled: a product and a sum are one instruction. Triton's default is about to change."""


@functools.cache
def has_triton() -> bool:
    """Whether the kernels can be used; where not, that is said once."""
    found = find_spec("triton") is not None
    if not found:
        say("note: no Triton here, without which decoding on a GPU is slow, of packed weights most")
    return found


def on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current GPU: make it this one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
