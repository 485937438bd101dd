"""Our own layout of NF4, which no public one has: tensors as the layers hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from headwater.model.folder import WeightFolder
from headwater.model.packed import Form
from headwater.plan.finetuning import GROUP


@dataclass(frozen=True)
class Nf4:
    METHOD: ClassVar = "headwater-nf4"
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    floats: tuple[str, ...]
    """Linear layers that are not packed."""

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Self:
        return cls(tuple(said["ignore"]))

    @classmethod
    def config(cls, forms: Mapping[str, Form], floats: list[str]) -> dict[str, Any]:
        """What `config.json` says of a model's packed layers."""
        return {"quant_method": cls.METHOD, "bits": 4, "group_size": GROUP, "ignore": floats}

    @classmethod
    def store(cls, name: str, tensor: Tensor, form: Form) -> Iterator[tuple[str, Tensor]]:
        yield name, tensor

    def form(self, module: str) -> Form | None:
        return None if module in self.floats else Form("nf4")

    def holds(self, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {name: shape}

    def read(self, weights: WeightFolder, name: str, target: Tensor) -> None:
        weights.read_into(name, target)

    def mapped(self, weights: WeightFolder, names: tuple[str, ...]) -> Tensor | None:
        return weights.mapped(names)
