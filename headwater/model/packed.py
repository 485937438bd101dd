"""The forms in which a model's matrices may be packed, and packed layers in the place of float ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from headwater.model.decoder import Decoder
from headwater.model.four_bits import FourBitLinear
from headwater.model.int4 import GROUPS, Int4Linear
from headwater.model.linear import Int8Linear
from headwater.plan import stored_bytes
from headwater.plan.finetuning import row_bytes

Base = Literal["int8", "int4", "nf4"]
BASES: tuple[Base, ...] = ("int8", "int4", "nf4")
PackedLinear = Int8Linear | Int4Linear | FourBitLinear


class Form(NamedTuple):
    """How one matrix is packed."""

    base: Base
    group: int = 0
    """int4: neighbours in a row that share a scale and a zero."""
    symmetric: bool = True
    """int4: whether the zero is always the middle."""

    def empty(self, linear: nn.Linear) -> PackedLinear:
        """A layer in the place of a float one, to be filled."""
        if self.base == "int4":
            return Int4Linear.like(linear, self.group, symmetric=self.symmetric)
        return Int8Linear.like(linear) if self.base == "int8" else FourBitLinear.like(linear)

    def pack(self, linear: nn.Linear) -> PackedLinear:
        """The layer packed, every weight rounded to the nearest."""
        if self.base == "int4":
            return Int4Linear.pack(linear, self.group, symmetric=self.symmetric)
        return Int8Linear.pack(linear) if self.base == "int8" else FourBitLinear.pack(linear)

    def stored_bytes(self, rows: int, columns: int) -> int:
        """Of one official matrix, on disk."""
        if self.base == "nf4":
            return rows * row_bytes(columns, "nf4")
        return stored_bytes(rows, columns, 8 if self.base == "int8" else 4, self.group, symmetric=self.symmetric)

    @classmethod
    def of(cls, layer: PackedLinear) -> Form:
        if isinstance(layer, Int4Linear):
            return cls("int4", layer.group, layer.symmetric)
        return cls("int8" if isinstance(layer, Int8Linear) else "nf4")

    @classmethod
    def fitting(cls, base: Base, columns: int, group: int = 128, *, symmetric: bool = False) -> Form:
        """The form of a matrix of so many columns: an int4 group that does not divide them gives way to the largest
        that does, and where none does the matrix is int8, as every public layout can say it."""
        if base != "int4":
            return cls(base)
        whole = [one for one in GROUPS if one <= group and columns % one == 0]
        return cls("int4", max(whole), symmetric) if whole else cls("int8")


def pack_linears(model: Decoder, *, head: bool, form: Base = "int8", group: int = 128, symmetric: bool = False
                 ) -> list[str]:
    """Replace the blocks' linear layers (and the head's, if asked) by their packed form; returns their names."""
    return _replace(model, head, lambda linear: Form.fitting(form, linear.in_features, group, symmetric=symmetric
                                                             ).pack(linear))


def place_packed(model: Decoder, *, head: bool, form: Base) -> list[str]:
    """The same with empty layers, to be filled."""
    return _replace(model, head, lambda linear: Form.fitting(form, linear.in_features).empty(linear))


def place_forms(model: Decoder, forms: Mapping[str, Form]) -> None:
    """Empty layers of these forms in the place of those of these names."""
    for name, form in forms.items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        replace_layer(model, name, form.empty(linear))


def _replace(model: Decoder, head: bool, made: Callable[[nn.Linear], nn.Module]) -> list[str]:
    names = [name for name in linear_names(model) if head or name != "head"]
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        replace_layer(model, name, made(linear))
    return names


def linear_names(model: Decoder) -> list[str]:
    """Of the float linear layers."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def packed_linears(model: Decoder) -> Iterator[tuple[str, PackedLinear]]:
    """The packed layers by name."""
    yield from ((name, module) for name, module in model.named_modules() if isinstance(module, PackedLinear))


def unpacked(layer: PackedLinear) -> Tensor:
    """The float32 matrix [O,I] that a packed layer stands for."""
    if isinstance(layer, Int8Linear):
        return layer.weight.float() * layer.scale[:, None]
    return layer.unpacked(torch.float32)
