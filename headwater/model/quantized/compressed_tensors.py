"""The `compressed-tensors` layout of llm-compressor and vLLM: weights alone in groups of 4 bits or rows of 8.

    MODULE.weight_packed      int32 [O, ceil(I/8)], codes from the lowest bits on, -8 to 7 as 0 to 15; of 8 bits
                              [O, ceil(I/4)], -128 to 127 as 0 to 255
    MODULE.weight             int8 [O, I], 8 bits where the format is not pack-quantized; read, not written
    MODULE.weight_scale       float [O, I/g], [O, 1] of rows
    MODULE.weight_zero_point  int32 [ceil(O/8), I/g] packed down the rows; absent where it is always the middle
    MODULE.weight_shape       int64 [2]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from headwater.errors import CheckpointError
from headwater.model.folder import WeightFolder
from headwater.model.int4 import MIDDLE
from headwater.model.packed import Form
from headwater.model.quantized.bits import (
    COPY_AGAIN,
    PER_WORD,
    codes_of,
    read_scale,
    read_words,
    require_group,
    words_of,
)

_PACKED, _PLAIN = "pack-quantized", ("int-quantized", "naive-quantized")


@dataclass(frozen=True)
class _Scheme:
    """Of the modules that its targets name."""

    form: Form
    targets: tuple[str, ...]
    packed: bool


@dataclass(frozen=True)
class CompressedTensors:
    METHOD: ClassVar = "compressed-tensors"
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    schemes: tuple[_Scheme, ...]
    ignore: tuple[str, ...]

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Self:
        """Raises `ValueError` for what is not supported."""
        if said.get("quantization_status", "compressed") != "compressed":
            raise ValueError(f"quantization_status {said['quantization_status']!r}: the weights are not packed")
        if said.get("kv_cache_scheme") is not None:
            raise ValueError("kv_cache_scheme is not supported: weights alone are read packed")
        if (said.get("sparsity_config") or {}).get("format", "dense") != "dense":
            raise ValueError("sparsity_config is not supported")
        schemes = tuple(_scheme(name, group, said.get("format")) for name, group in said["config_groups"].items())
        if not schemes:
            raise ValueError("config_groups is empty")
        return cls(schemes, tuple(said.get("ignore") or ()))

    @classmethod
    def config(cls, forms: Mapping[str, Form], floats: list[str]) -> dict[str, Any]:
        """What `config.json` says of packed layers, by their official names, beside which others are floats."""
        each = sorted(set(forms.values()))
        groups = {f"group_{number}": {"targets": _targets(form, forms), "weights": _weights(form),
                                      "input_activations": None, "output_activations": None, "format": _PACKED}
                  for number, form in enumerate(each)}
        return {"quant_method": cls.METHOD, "format": _PACKED, "quantization_status": "compressed",
                "config_groups": groups, "ignore": floats, "kv_cache_scheme": None}

    @classmethod
    def store(cls, name: str, tensor: Tensor, form: Form) -> Iterator[tuple[str, Tensor]]:
        """One of our tensors as it is stored."""
        module, _, kind = name.rpartition(".")
        if kind == "codes":
            yield f"{module}.weight_packed", tensor.contiguous().view(torch.int32)
            yield f"{module}.weight_shape", torch.tensor([len(tensor), 2 * tensor.shape[1]])
        elif kind == "scale":
            yield f"{module}.weight_scale", tensor if tensor.dim() > 1 else tensor[:, None]
        elif kind == "weight":
            whole = nn.functional.pad(tensor.view(torch.uint8) ^ 128, (0, -tensor.shape[1] % 4))
            yield f"{module}.weight_packed", whole.view(torch.int32)
            yield f"{module}.weight_shape", torch.tensor(tensor.shape)
        elif not form.symmetric:
            yield f"{module}.weight_zero_point", words_of(tensor.t()).t()

    def form(self, module: str) -> Form | None:
        scheme = self._scheme(module)
        return None if scheme is None else scheme.form

    def _scheme(self, module: str) -> _Scheme | None:
        """A name or pattern goes before the kind of layer."""
        if any(_matches(target, module) for target in self.ignore):
            return None
        named = [one for one in self.schemes if any(_matches(target, module) for target in one.targets)]
        return next(iter(named or (one for one in self.schemes if "Linear" in one.targets)), None)

    def holds(self, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        module, _, kind = name.rpartition(".")
        scheme = self._scheme(module)
        assert scheme is not None
        if kind == "codes" or (kind == "weight" and scheme.packed):
            words = shape[1] // 4 if kind == "codes" else -(-shape[1] // 4)
            return {f"{module}.weight_packed": (shape[0], words), f"{module}.weight_shape": (2,)}
        if kind == "scale":
            return {f"{module}.weight_scale": shape if len(shape) > 1 else (*shape, 1)}
        if kind == "zero":
            words = -(-shape[0] // PER_WORD)
            return {} if scheme.form.symmetric else {f"{module}.weight_zero_point": (words, shape[1])}
        return {name: shape}

    def read(self, weights: WeightFolder, name: str, target: Tensor) -> None:
        module, _, kind = name.rpartition(".")
        held = self.holds(name, tuple(target.shape))
        if f"{module}.weight_packed" in held:
            self._require_shape(weights, module, [len(target), target.shape[1] * (2 if kind == "codes" else 1)])
            packed = read_words(weights, f"{module}.weight_packed").view(torch.uint8)
            target.copy_(packed if kind == "codes" else (packed ^ 128).view(torch.int8)[:, : target.shape[1]])
        elif kind == "scale":
            target.copy_(read_scale(weights, f"{module}.weight_scale").view(target.shape))
        elif kind == "zero" and not held:
            target.fill_(MIDDLE)
        elif kind == "zero":
            target.copy_(codes_of(read_words(weights, f"{module}.weight_zero_point").t()).t()[: len(target)])
        else:
            weights.read_into(name, target)

    def _require_shape(self, weights: WeightFolder, module: str, asked: list[int]) -> None:
        found = torch.empty(2, dtype=torch.int64)
        weights.read_into(f"{module}.weight_shape", found)
        if found.tolist() != asked:
            raise CheckpointError(f"{module}.weight_shape is {found.tolist()}, config.json asks for {asked}",
                                  where=weights.folder, fix=COPY_AGAIN)

    def mapped(self, weights: WeightFolder, names: tuple[str, ...]) -> Tensor | None:
        modules = [name.rpartition(".")[0] for name in names]
        kind = names[0].rpartition(".")[2]
        if kind == "codes":
            for module in modules:
                rows, columns = weights.stored[f"{module}.weight_packed"].shape
                self._require_shape(weights, module, [rows, PER_WORD * columns])
            found = weights.mapped(tuple(f"{module}.weight_packed" for module in modules))
            return None if found is None or found.dtype != torch.int32 else found.view(torch.uint8)
        plain = kind == "weight" and not any(scheme.packed for scheme in map(self._scheme, modules) if scheme)
        return weights.mapped(names) if plain else None


def _scheme(name: str, group: Mapping[str, Any], whole: str | None) -> _Scheme:
    """Raises `ValueError`."""
    for part in ("input_activations", "output_activations"):
        if group.get(part) is not None:
            raise ValueError(f"{name}.{part}: quantized activations are not supported")
    said, layout = group["weights"], group.get("format") or whole
    bits, strategy, symmetric = said["num_bits"], said.get("strategy"), bool(said.get("symmetric", True))
    if said.get("type", "int") != "int" or bits not in (4, 8) or said.get("dynamic"):
        raise ValueError(f"{name}: weights of type {said.get('type', 'int')!r} and {bits} bits are not supported")
    if said.get("actorder") not in (None, False, "weight", "static"):
        raise ValueError(f"{name}: actorder {said['actorder']!r} puts columns of a group apart, which is not supported")
    if layout != _PACKED and (bits == 4 or layout not in _PLAIN):
        raise ValueError(f"{name}: format {layout!r} of {bits} bits is not supported")
    if bits == 8 and (strategy != "channel" or not symmetric):
        raise ValueError(f"{name}: 8 bits are read with one scale a row and no zero, not with strategy {strategy!r} "
                         f"and symmetric {symmetric}")
    if bits == 4 and strategy != "group":
        raise ValueError(f"{name}: strategy {strategy!r} of 4 bits is not supported: groups are")
    form = Form("int4", require_group(said.get("group_size")), symmetric) if bits == 4 else Form("int8")
    return _Scheme(form, tuple(group["targets"]), layout == _PACKED)


def _matches(target: str, module: str) -> bool:
    return bool(re.match(target[3:], module)) if target.startswith("re:") else target == module


def _weights(form: Form) -> dict[str, Any]:
    groups = {"strategy": "group", "group_size": form.group} if form.base == "int4" else {"strategy": "channel"}
    return {"num_bits": 4 if form.base == "int4" else 8, "type": "int", "symmetric": form.symmetric, "dynamic": False,
            **groups}


def _targets(form: Form, forms: Mapping[str, Form]) -> list[str]:
    """All linear layers where there is one form; else the last parts of names where they tell forms apart."""
    if len(set(forms.values())) == 1:
        return ["Linear"]
    own, others = ({name.rpartition(".")[2] for name, one in forms.items() if (one == form) is same}
                   for same in (True, False))
    if own & others:
        return [name for name, one in forms.items() if one == form]
    return [leaf if leaf in forms else f"re:.*\\.{leaf}$" for leaf in sorted(own)]
