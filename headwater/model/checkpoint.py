"""Model folders: `config.json` and safetensors in the official names, read with checks and written whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from headwater.artifacts import atomic_write, read_json, storage_errors, write_json
from headwater.errors import CheckpointError, HeadwaterError
from headwater.folders import tokenizer_files
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder
from headwater.model.families import llama, native
from headwater.model.linear import Int8Linear

FAMILIES: dict[str, ModuleType] = {llama.MODEL_TYPE: llama, native.MODEL_TYPE: native}
_INT8 = {"quant_method": "headwater-int8", "bits": 8, "symmetric": True, "granularity": "row"}


def read_config(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """The configuration of a model folder and the raw `config.json`. Raises `CheckpointError`."""
    path = Path(folder) / "config.json"
    if not path.exists():
        raise CheckpointError("not a model folder: it has no config.json", where=folder,
                              fix="give a folder that holds config.json and model.safetensors")
    values = read_json(path)
    family = FAMILIES.get(values.get("model_type", "")) if isinstance(values, dict) else None
    if family is None:
        kind = values.get("model_type") if isinstance(values, dict) else type(values).__name__
        raise CheckpointError(f"unknown model_type {kind!r}", where=path, fix=f"known: {', '.join(FAMILIES)}")
    try:
        return family.config_from(values), values
    except (HeadwaterError, ValueError) as error:
        raise CheckpointError(f"unusable configuration: {error}", where=path, fix="correct config.json") from None


def save_model(model: Decoder, folder: Path, *, tokenizer_from: Path | None = None) -> None:
    """Write `config.json`, `model.safetensors` and copies of the tokenizer's files, each atomically.

    The weights go last, so a folder with weights is complete.
    """
    folder = Path(folder)
    family = llama if llama.expresses(model.config) else native
    values = family.config_to(model.config)
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        state.pop("head.weight", None)
    values["dtype"] = str(model.dtype).removeprefix("torch.")
    packed = [name for name, module in model.named_modules() if isinstance(module, Int8Linear)]
    if packed:
        values["quantization_config"] = {**_INT8, "head": "head" in packed}
    write_json(folder / "config.json", values)
    if tokenizer_from is not None:
        for path in tokenizer_files(tokenizer_from):
            with atomic_write(folder / path.name) as target, open(path, "rb") as source:
                shutil.copyfileobj(source, target)
    write_tensors(folder / "model.safetensors", family.weights_to(state, model.config), {"format": "pt"})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, written atomically; equal tensors give equal bytes. Raises `StorageError` on a full disk."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    with storage_errors(path):
        try:
            with atomic_write(path) as stream:
                save_file(plain, stream.name, metadata=metadata)
        except SafetensorError as error:
            # The library reports a failed write as its own error; the text names the cause.
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `CheckpointError` for a missing or damaged file."""
    try:
        with safe_open(path, "pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise CheckpointError("file is missing", where=path, fix="copy the folder again, all of its files") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"truncated or not safetensors ({error})", where=path,
                              fix="copy or write the file again") from None


def _read_folder(folder: Path) -> dict[str, Tensor]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read_tensors(folder / "model.safetensors")
    files = sorted(set(read_json(index).get("weight_map", {}).values()))
    tensors: dict[str, Tensor] = {}
    for name in files:
        if Path(name).name != name:
            raise CheckpointError(f"file name {name!r} leaves the folder", where=index, fix="correct the index")
        tensors.update(read_tensors(folder / name))
    return tensors


def load_model(folder: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Decoder:
    """A decoder in evaluation mode from a model folder; `dtype` converts its float weights.

    Raises `CheckpointError` when a tensor is missing, unexpected or of another shape, naming all of them.
    """
    folder = Path(folder)
    config, values = read_config(folder)
    with torch.device("meta"):
        model = Decoder(config)
    _pack_for(model, values.get("quantization_config"), folder)
    state = FAMILIES[values["model_type"]].weights_from(_read_folder(folder), config)
    if config.tie_word_embeddings and "embedding.weight" in state:
        state["head.weight"] = state["embedding.weight"]
    _check(model.state_dict(), state, folder)
    model.load_state_dict(state, strict=True, assign=True)
    if config.tie_word_embeddings and isinstance(model.head, nn.Linear):
        model.head.weight = model.embedding.weight
    model.positions = type(model.positions)(config)  # its tables are computed, not loaded
    if dtype is not None:
        model.to(dtype)
        model.positions = type(model.positions)(config)
    return model.to(device).eval()


def _pack_for(model: Decoder, quantization: dict[str, Any] | None, folder: Path) -> None:
    if not quantization:
        return
    if quantization.get("quant_method") != _INT8["quant_method"]:
        raise CheckpointError(f"quantization {quantization.get('quant_method')!r} is not supported",
                              where=folder / "config.json", fix=f"known: {_INT8['quant_method']}")
    with torch.device("meta"):
        pack_linears(model, head=bool(quantization.get("head")))


def pack_linears(model: Decoder, *, head: bool) -> list[str]:
    """Replace the blocks' linear layers (and the head's, if asked) by their INT8 form; returns their names."""
    packed = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and (head or name != "head"):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, Int8Linear.pack(module))
            packed.append(name)
    return packed


def _check(expected: dict[str, Tensor], found: dict[str, Tensor], folder: Path) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    shapes = [f"{name} is {list(found[name].shape)}, should be {list(tensor.shape)}"
              for name, tensor in expected.items() if name in found and found[name].shape != tensor.shape]
    problems = [f"missing {', '.join(missing[:5])}" if missing else "",
                f"unexpected {', '.join(extra[:5])}" if extra else "", "; ".join(shapes[:5])]
    if any(problems):
        raise CheckpointError("weights do not fit config.json: " + "; ".join(filter(None, problems)), where=folder,
                              fix="use the config.json that belongs to these weights")


