"""A step of training, as far as memory depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Step:
    """What a process computes at once, and how the model is spread over all of them."""

    rows: int
    """Of a process, forward and backward in one pass."""
    length: int
    half: bool = True
    """bfloat16 products; else float32."""
    compiled: bool = False
    recompute: Literal["none", "selective", "full"] = "none"
    optimizer: Literal["adamw", "muon"] = "adamw"
    accumulates: bool = False
    """Whether a step has several passes."""
    processes: int = 1
    zero: int = 2
    tensor: int = 1
    replicas: int = 1
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def readers(self) -> int:
        """Processes that read data of their own."""
        return self.processes // self.tensor

    @property
    def parts(self) -> int:
        """Processes over which weights, gradients and moments are spread, beside tensor parallelism."""
        return self.readers // self.replicas if self.zero >= 2 else 1

    @property
    def width(self) -> int:
        """Bytes of a number between the matrix products."""
        return 2 if self.half else 4

    @property
    def tokens(self) -> int:
        return self.rows * self.length
