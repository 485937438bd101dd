"""AutoAWQ's layout for its GEMM kernel: four bits, eight rows of W to a word in an order of their own.

    MODULE.qweight  int32 [I, O/8], bits 4k on hold row 8j + (0, 2, 4, 6, 1, 3, 5, 7)[k]
    MODULE.qzeros   int32 [G, O/8], packed alike
    MODULE.scales   float16 [G, O]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from headwater.model.folder import WeightFolder
from headwater.model.int4 import joined
from headwater.model.packed import Form
from headwater.model.quantized.bits import PER_WORD, codes_of, read_scale, read_words, require_group

PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where each of eight rows stands in its word."""


@dataclass(frozen=True)
class Awq:
    METHOD: ClassVar = "awq"
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    group: int
    floats: tuple[str, ...]
    """Parts of the names of layers that are not packed."""

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Self:
        """Raises `ValueError` for what is not supported."""
        bits, version = said.get("bits", said.get("w_bit")), str(said.get("version", "gemm")).lower()
        if bits != 4:
            raise ValueError(f"{bits} bits are not supported: 4 are")
        if version != "gemm":
            raise ValueError(f"version {version!r} is not supported: gemm is")
        if not said.get("zero_point", True):
            raise ValueError("zero_point false is not supported")
        return cls(require_group(said.get("group_size", said.get("q_group_size"))),
                   ("lm_head", "output_layer", *(said.get("modules_to_not_convert") or ())))

    def form(self, module: str) -> Form | None:
        return None if any(part in module for part in self.floats) else Form("int4", self.group, symmetric=False)

    def holds(self, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        module, _, kind = name.rpartition(".")
        words = -(-shape[0] // PER_WORD)
        if kind == "codes":
            return {f"{module}.qweight": (2 * shape[1], words)}
        return {f"{module}.scales": (shape[1], shape[0])} if kind == "scale" else {
            f"{module}.qzeros": (shape[1], words)}

    def read(self, weights: WeightFolder, name: str, target: Tensor) -> None:
        module, _, kind = name.rpartition(".")
        if kind == "scale":
            target.copy_(read_scale(weights, f"{module}.scales").t())
            return
        stored = read_words(weights, f"{module}.{'qweight' if kind == 'codes' else 'qzeros'}")
        rows = codes_of(stored).unflatten(1, (-1, PER_WORD))[..., list(PLACES)].flatten(1)[:, : len(target)].t()
        target.copy_(joined(rows) if kind == "codes" else rows)

    def mapped(self, weights: WeightFolder, names: tuple[str, ...]) -> Tensor | None:
        return None
