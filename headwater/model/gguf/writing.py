"""A decoder written as a GGUF file, tensor by tensor."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headwater.artifacts import atomic_write
from headwater.errors import InputError, MissingExtraError, StorageError
from headwater.model.decoder import Decoder
from headwater.model.families.names import Entry
from headwater.model.gguf.architectures import architecture_of, entries, fields, paired, rope_factors
from headwater.model.gguf.numbers import BLOCKS, FILE_TYPES, LARGEST, Kind, packed, size_of, stored_as
from headwater.model.packed import packed_linears
from headwater.progress import bar

_QUANTIZATION_VERSION = 2
_NO_TOKENIZER = {"tokenizer.ggml.model": "none"}


@dataclass(frozen=True)
class Written:
    """A tensor of the file, made when its turn comes."""

    name: str
    shape: tuple[int, ...]
    kind: str
    make: Callable[[], Tensor]


def write_gguf(model: Decoder, path: Path, kind: Kind, *, name: str = "", tokenizer: Mapping[str, Any] | None = None
               ) -> dict[str, int]:
    """Write the model to one file, atomically; returns the bytes of its tensors by type.

    One tensor is converted at a time, so memory holds the model and a matrix. tokenizer: the fields that say what the
    ids are; without them llama.cpp takes and gives ids. Raises `InputError` for a model that llama.cpp cannot run,
    `MissingExtraError` without the gguf package, `StorageError` on a full disk.
    """
    if any(packed_linears(model)):
        raise InputError("the matrices of this model are packed, and GGUF packs them its own way",
                         fix="give the float model")
    architecture = architecture_of(model.config)
    tensors = list(_tensors(model, kind))
    values = {"general.type": "model", **({"general.name": name} if name else {}),
              "general.file_type": FILE_TYPES[kind], **fields(model.config, architecture),
              **(tokenizer or _NO_TOKENIZER)}
    if kind in BLOCKS:
        values["general.quantization_version"] = _QUANTIZATION_VERSION
    sizes: dict[str, int] = {}
    with atomic_write(path) as stream, bar(f"writing {path.name}", len(tensors)) as shown:
        _require_space(path, sum(size_of(tensor.shape, tensor.kind) for tensor in tensors))
        alignment = _write_header(Path(stream.name), architecture.name, values, tensors)
        stream.seek(0, os.SEEK_END)
        for tensor in tensors:
            stream.write(bytes(-stream.tell() % alignment))
            sizes[tensor.kind] = sizes.get(tensor.kind, 0) + stream.write(packed(_made(tensor), tensor.kind).data)
            shown.advance()
        stream.write(bytes(-stream.tell() % alignment))
    return sizes


def _made(tensor: Written) -> Tensor:
    """Raises `InputError` for numbers that its type does not hold."""
    made = tensor.make()
    found = max(abs(float(end)) for end in made.aminmax())
    most = LARGEST.get(tensor.kind, torch.finfo(torch.float32).max)
    if not found <= most:
        raise InputError(f"{tensor.name} holds {found:.4g}, and {tensor.kind} at most {most:.4g}",
                         fix="give type=BF16, or look whether the model's weights are right")
    return made


def _require_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise StorageError(f"the file takes {size / 1e6:,.1f} MB, and the disk has {free / 1e6:,.1f} MB free",
                           where=path, fix="free some space, give a folder on another disk, or a smaller type")


def _tensors(model: Decoder, kind: Kind) -> Iterator[Written]:
    state = dict(model.state_dict())
    tied = model.config.tie_word_embeddings
    if tied:
        del state["head.weight"]
    factors = rope_factors(model.config)
    if factors is not None:
        yield Written("rope_freqs.weight", tuple(factors.shape), "F32", lambda: factors)
    for entry in entries(model.config, architecture_of(model.config)):
        if entry.ours in state:
            is_head = entry.ours == ("embedding.weight" if tied else "head.weight")
            yield from _parts(model, entry, state[entry.ours], kind, head=is_head)


def _parts(model: Decoder, entry: Entry, tensor: Tensor, kind: Kind, *, head: bool) -> Iterator[Written]:
    """What one of our tensors becomes."""
    for number, (name, part) in enumerate(zip(entry.theirs, entry.parts(tensor), strict=True)):
        shape = tuple(part.shape)

        def make(number: int = number) -> Tensor:
            ours = tensor.detach()
            if ".attention.qkv." in entry.ours:
                ours = paired(ours, model.config)
            elif entry.ours == "head.weight":
                ours = model.head.matrix(ours)
            return entry.parts(ours)[number]

        yield Written(name, shape, stored_as(name, shape, kind, head=head), make)


def _write_header(path: Path, architecture: str, values: Mapping[str, Any], tensors: list[Written]) -> int:
    """Everything before the numbers of the first tensor; returns what the place of each is a multiple of."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(f"writing GGUF needs the package gguf ({error})",
                                fix="pip install 'headwater[gguf]'") from None
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        unsigned = type(value) is int
        writer.add_key_value(key, value, gguf.GGUFValueType.UINT32 if unsigned else gguf.GGUFValueType.get_type(value))
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size_of(tensor.shape, tensor.kind),
                               raw_dtype=gguf.GGMLQuantizationType[tensor.kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return int(writer.data_alignment)
