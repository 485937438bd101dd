"""The layout of AutoGPTQ and GPTQModel: four bits, packed down the columns of the transposed matrix.

    MODULE.qweight  int32 [I/8, O]
    MODULE.qzeros   int32 [G, O/8], one less than the zero (not in `checkpoint_format` gptq_v2)
    MODULE.scales   float16 [G, O]
    MODULE.g_idx    int32 [I], the group of every column
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from headwater.errors import CheckpointError
from headwater.model.folder import WeightFolder
from headwater.model.int4 import STEPS, joined
from headwater.model.packed import Form
from headwater.model.quantized.bits import COPY_AGAIN, PER_WORD, codes_of, read_scale, read_words, require_group


@dataclass(frozen=True)
class Gptq:
    METHOD: ClassVar = "gptq"
    OPTIONAL: ClassVar[tuple[str, ...]] = ("g_idx",)
    group: int
    less: int
    """What stored zeros lack."""
    head: bool

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Self:
        """Raises `ValueError` for what is not supported."""
        if said["bits"] != 4:
            raise ValueError(f"{said['bits']} bits are not supported: 4 are")
        version = said.get("checkpoint_format", "gptq")
        if version not in ("gptq", "gptq_v2"):
            raise ValueError(f"checkpoint_format {version!r} is not supported: gptq and gptq_v2 are")
        if said.get("dynamic"):
            raise ValueError("dynamic, another form for some modules, is not supported")
        return cls(require_group(said["group_size"]), int(version == "gptq"), bool(said.get("lm_head", False)))

    def form(self, module: str) -> Form | None:
        head = module.rpartition(".")[2] in ("lm_head", "output_layer", "head")
        return None if head and not self.head else Form("int4", self.group, symmetric=False)

    def holds(self, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        module, _, kind = name.rpartition(".")
        if kind == "codes":
            return {f"{module}.qweight": (shape[1] // 4, shape[0])}
        if kind == "scale":
            return {f"{module}.scales": (shape[1], shape[0])}
        return {f"{module}.qzeros": (shape[1], -(-shape[0] // PER_WORD))}

    def read(self, weights: WeightFolder, name: str, target: Tensor) -> None:
        module, _, kind = name.rpartition(".")
        if kind == "codes":
            self._require_order(weights, f"{module}.g_idx", 2 * target.shape[1])
            target.copy_(joined(codes_of(read_words(weights, f"{module}.qweight").t())))
        elif kind == "scale":
            target.copy_(read_scale(weights, f"{module}.scales").t())
        else:
            target.copy_(self._zeros(weights, f"{module}.qzeros")[:, : len(target)].t())

    def _zeros(self, weights: WeightFolder, name: str) -> Tensor:
        found = codes_of(read_words(weights, name)) + self.less
        if int(found.max()) > STEPS:
            raise CheckpointError(f"{name}: a stored zero of {STEPS} is 0 or {STEPS + 1}, as its writer counted",
                                  where=weights.folder, fix="convert the folder to checkpoint_format gptq_v2")
        return found

    def _require_order(self, weights: WeightFolder, name: str, columns: int) -> None:
        if name not in weights.stored:
            return
        if weights.stored[name].shape != (columns,):
            raise CheckpointError(f"{name} is {list(weights.stored[name].shape)}, config.json asks for [{columns}]",
                                  where=weights.folder, fix=COPY_AGAIN)
        if not torch.equal(read_words(weights, name), (torch.arange(columns) // self.group).int()):
            raise CheckpointError(f"{name}: columns of a group stand apart (desc_act), which is not supported",
                                  where=weights.folder,
                                  fix="give a model quantized with desc_act=false, or with static groups")

    def mapped(self, weights: WeightFolder, names: tuple[str, ...]) -> Tensor | None:
        return None
