"""The forms in which a model's matrices may be packed, and how `config.json` names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from headwater.errors import CheckpointError
from headwater.folders import CONFIG
from headwater.model.decoder import Decoder
from headwater.model.four_bits import FourBitLinear
from headwater.model.int4 import Int4Linear
from headwater.model.linear import Int8Linear
from headwater.plan.finetuning import GROUP

Base = Literal["int8", "int4", "nf4"]
PackedLinear = Int8Linear | Int4Linear | FourBitLinear
FORMS: dict[str, type[PackedLinear]] = {"int8": Int8Linear, "int4": Int4Linear, "nf4": FourBitLinear}
_SAID: dict[str, dict[str, Any]] = {
    "int8": {"quant_method": "headwater-int8", "bits": 8, "symmetric": True, "granularity": "row"},
    "int4": {"quant_method": "headwater-int4", "bits": 4, "symmetric": False, "granularity": "group"},
    "nf4": {"quant_method": "headwater-nf4", "bits": 4, "granularity": "group", "group_size": GROUP}}


def pack_linears(model: Decoder, *, head: bool, form: Base = "int8") -> list[str]:
    """Replace the blocks' linear layers (and the head's, if asked) by their packed form; returns their names."""
    return _replace(model, head, FORMS[form].pack)


def place_packed(model: Decoder, *, head: bool, form: str) -> list[str]:
    """The same with empty layers, to be filled."""
    return _replace(model, head, FORMS[form].like)


def _replace(model: Decoder, head: bool, made: Callable[[nn.Linear], nn.Module]) -> list[str]:
    names = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and (head or name != "head"):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, made(module))
            names.append(name)
    return names


def packed_linears(model: Decoder) -> Iterator[tuple[str, PackedLinear]]:
    """The packed layers by name."""
    yield from ((name, module) for name, module in model.named_modules() if isinstance(module, PackedLinear))


def quantization_config(model: Decoder) -> dict[str, Any]:
    """What `config.json` says of a model's packed layers; nothing where there are none."""
    found = dict(packed_linears(model))
    forms = {form for form, kind in FORMS.items() for module in found.values() if isinstance(module, kind)}
    assert len(forms) < 2
    return {**_SAID[forms.pop()], "head": "head" in found} if forms else {}


def place_stored(model: Decoder, quantization: Any, folder: Path) -> str | None:
    """Put empty packed layers where the folder's weights are packed; their form, None where they are floats.

    quantization: of its `config.json`. Raises `CheckpointError` for a form that is not known.
    """
    if not quantization:
        return None
    path = folder / CONFIG
    if not isinstance(quantization, dict):
        raise CheckpointError(f"quantization_config {quantization!r} is not an object", where=path,
                              fix="copy config.json again")
    method = quantization.get("quant_method")
    form = next((form for form, said in _SAID.items() if said["quant_method"] == method), None)
    if form is None:
        raise CheckpointError(f"quantization {method!r} is not supported", where=path,
                              fix=f"known: {', '.join(said['quant_method'] for said in _SAID.values())}")
    with torch.device("meta"):
        place_packed(model, head=bool(quantization.get("head")), form=form)
    return form
