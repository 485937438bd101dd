"""How folders hold packed matrices: a file for each layout, told by `quantization_config` of `config.json`, or by
ChatGLM's `quantization_bit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from headwater.errors import CheckpointError
from headwater.folders import CONFIG
from headwater.model.folder import WeightFolder
from headwater.model.packed import Form
from headwater.model.quantized.awq import Awq
from headwater.model.quantized.chatglm import ChatGlm
from headwater.model.quantized.compressed_tensors import CompressedTensors
from headwater.model.quantized.gptq import Gptq
from headwater.model.quantized.own import Nf4

Shapes = dict[str, tuple[int, ...]]


class Layout(Protocol):
    """Where a folder's packed matrices lie. Modules, and their tensors `MODULE.KIND`, have the family's official names;
    the kinds are those of our packed layers."""

    @property
    def METHOD(self) -> str:
        """`quant_method`."""

    @property
    def OPTIONAL(self) -> tuple[str, ...]:
        """Kinds of stored tensors that may be there and are not needed."""

    def form(self, module: str) -> Form | None:
        """Of a linear layer; None where its weights are floats."""

    def holds(self, name: str, shape: tuple[int, ...]) -> Shapes:
        """The stored tensors that hold one of ours, with their shapes."""

    def read(self, weights: WeightFolder, name: str, target: Tensor) -> None:
        """Fill in one of our tensors. Raises `CheckpointError` for values that mean nothing."""

    def mapped(self, weights: WeightFolder, names: tuple[str, ...]) -> Tensor | None:
        """Some of ours with their rows stacked, on the files' own pages; None where they cannot be had so."""


def quantization_of(values: Mapping[str, Any]) -> Any:
    """What a `config.json` says of packed matrices."""
    return values.get("quantization_config") or ChatGlm.said(values)


def layout_of(values: Mapping[str, Any], folder: Path) -> Layout | None:
    """Of what a `config.json` says; None where the matrices are floats. Raises `CheckpointError` with what of it cannot
    be read, and why."""
    said = quantization_of(values)
    if not said:
        return None
    path = folder / CONFIG
    if not isinstance(said, dict):
        raise CheckpointError(f"quantization_config {said!r} is not an object", where=path,
                              fix="copy config.json again")
    method = said.get("quant_method")
    known = {kind.METHOD: kind for kind in (CompressedTensors, Gptq, Awq, ChatGlm, Nf4)}
    if method not in known:
        raise CheckpointError(f"quantization {method!r} is not supported", where=path,
                              fix=f"known: {', '.join(known)}")
    try:
        return known[method].parse(said)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"quantization_config ({method}): {what}", where=path,
                              fix="give a folder of weights alone in 4 or 8 bits, or the float model") from None


def written(forms: Mapping[str, Form]) -> type[CompressedTensors] | type[Nf4]:
    """The layout in which we write matrices of these forms."""
    return Nf4 if any(form.base == "nf4" for form in forms.values()) else CompressedTensors


def stored_form(tensors: Iterator[tuple[str, Tensor]], forms: Mapping[str, Form]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a model as its layout stores them."""
    for name, tensor in tensors:
        module, _, kind = name.rpartition(".")
        form = forms.get(module)
        if form is None or kind == "bias":
            yield name, tensor
        else:
            yield from written(forms).store(name, tensor, form)
