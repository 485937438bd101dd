"""ChatGLM's own layout (its `quantization.py`): the blocks' matrices in 4 or 8 bits with a scale for each row.

    MODULE.weight        int8 [O, I], or of 4 bits [O, I/2]: -8 to 7, the even column's in a byte's high bits
    MODULE.weight_scale  float16 [O]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from headwater.errors import CheckpointError
from headwater.model.folder import WeightFolder
from headwater.model.int4 import GROUPS, MIDDLE
from headwater.model.packed import Form
from headwater.model.quantized.bits import read_scale

GROUP = max(GROUPS)
"""Columns that share a copy of their row's scale here; it divides the rows of every model released so."""


@dataclass(frozen=True)
class ChatGlm:
    METHOD: ClassVar = "chatglm"
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    packed: Form

    @staticmethod
    def said(values: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a `config.json` says in the place of a `quantization_config`; None where it says nothing."""
        bits = values.get("quantization_bit") if values.get("model_type") == "chatglm" else None
        embeddings = values.get("quantization_embeddings")
        return {"quant_method": "chatglm", "bits": bits, "embeddings": embeddings} if bits else None

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Self:
        """Raises `ValueError` for what is not supported."""
        if said["bits"] not in (4, 8):
            raise ValueError(f"quantization_bit {said['bits']!r} is not supported: 4 and 8 are")
        if said["embeddings"]:
            raise ValueError("quantization_embeddings, a packed embedding, is not supported")
        return cls(Form("int8") if said["bits"] == 8 else Form("int4", GROUP, symmetric=True))

    def form(self, module: str) -> Form | None:
        return None if module.rpartition(".")[2] in ("lm_head", "output_layer") else self.packed

    def holds(self, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        module, _, kind = name.rpartition(".")
        if kind == "scale":
            return {f"{module}.weight_scale": shape[:1]}
        return {} if kind == "zero" else {f"{module}.weight": shape}

    def read(self, weights: WeightFolder, name: str, target: Tensor) -> None:
        module, _, kind = name.rpartition(".")
        if kind == "scale":
            found = read_scale(weights, f"{module}.weight_scale")
            target.copy_(found if target.dim() == 1 else found[:, None].expand_as(target))
        elif kind == "zero":
            target.fill_(MIDDLE)
        elif kind == "weight":
            target.copy_(_bytes(weights, name))
        else:
            pairs = _bytes(weights, f"{module}.weight").view(torch.uint8)
            target.copy_((pairs << 4 | pairs >> 4) ^ (MIDDLE << 4 | MIDDLE))

    def mapped(self, weights: WeightFolder, names: tuple[str, ...]) -> Tensor | None:
        found = weights.mapped(names) if names[0].endswith(".weight") else None
        return found if found is not None and found.dtype == torch.int8 else None


def _bytes(weights: WeightFolder, name: str) -> Tensor:
    """Raises `CheckpointError` for a tensor of another type."""
    stored = weights.stored[name]
    if stored.dtype != torch.int8:
        raise CheckpointError(f"{name} is {stored.dtype}, and packed weights are int8".replace("torch.", ""),
                              where=weights.folder, fix="set quantization_bit to 0 where the matrices are floats")
    found = torch.empty(stored.shape, dtype=torch.int8)
    weights.read_into(name, found)
    return found
