"""Positional vector replacement: a model without positions reads further as its hidden states are told to be earlier
(Dong et al., 2405.18009, section 4.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder
from headwater.model.extension import ContextSettings
from headwater.model.tensors import write_tensors

_OWNER = "model"
KEPT = 4
"""Positions at which attention comes to rest, and which stay."""


def stretched(vectors: Tensor, trained: int, ratio: float) -> Tensor:
    """Positional vectors [T,D], the first `trained` of them spread over `ratio` times as many positions, on straight
    lines between neighbours; the first `KEPT` stay, what lies beyond the end takes the last."""
    places = KEPT + (torch.arange(len(vectors), dtype=torch.float64) - KEPT) / ratio
    places = torch.where(torch.arange(len(vectors)) < KEPT, torch.arange(len(vectors)), places).clamp(max=trained - 1)
    before = places.floor().long()
    share = (places - before).to(vectors)[:, None]
    return vectors[before] * (1 - share) + vectors[(before + 1).clamp(max=trained - 1)] * share


def difference(vectors: Tensor, trained: int, ratio: float, strength: float) -> Tensor:
    """From one layer's positional vectors [T,D], as they are at that length, to the new ones: alpha p~ - p, and nothing
    at the first `KEPT` positions."""
    found = strength * stretched(vectors, trained, ratio) - vectors
    found[:KEPT] = 0
    return found


def add_by_position(model: Decoder, layer: int, table: Tensor) -> None:
    """Let every pass add row t of the table [T,D] to what block `layer`, from 1, gives at position t.

    A pass that reads further raises `InputError`.
    """
    rows = table.to(model.device, model.dtype)

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        positions = inputs[1].positions
        if int(positions.max()) >= len(rows):
            raise InputError(f"position {int(positions.max())} of {len(rows)} positional vectors",
                             where="context.vectors", fix="shorten the text, or take the vectors over longer ones")
        return output + rows[positions]

    model.blocks[layer - 1].register_forward_hook(hook)


def whose(folder: Path) -> str:
    """What tells a model's weights from others: a digest of their files' names, sizes and a million bytes at the start
    and in the middle, since a tuned model's embedding may be that of the one before."""
    digest = hashlib.sha256()
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        with open(file, "rb") as stream:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            for place in (0, size // 2):
                stream.seek(place)
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()


def write_vectors(path: Path, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Positional vectors of the model in a folder, with a mark of whose they are."""
    write_tensors(path, tensors, {_OWNER: whose(folder)})


def replace_vectors(model: Decoder, trained: int, context: ContextSettings, folder: Path) -> None:
    """Install what `context` says. Raises `InputError` for vectors that are not this model's, or too few."""
    assert context.length is not None
    vectors = check_vectors(context, model.config, folder)
    ratio = context.ratio or context.length / trained
    add_by_position(model, context.layer, difference(vectors, trained, ratio, context.strength))


def check_vectors(context: ContextSettings, config: ModelConfig, folder: Path) -> Tensor:
    """The vectors behind the chosen block, [T,D]. Raises `InputError` where they cannot be those of the model."""
    path = context.vectors
    assert path is not None
    assert context.length is not None
    fix = "give the vectors.safetensors that 'headwater context positions' wrote of this model"
    if not path.is_file():
        raise InputError("no such file", where=path, fix=fix)
    try:
        with safe_open(path, "pt") as file:
            stored, owner = file.get_slice("vectors"), (file.metadata() or {}).get(_OWNER)
            layers, reach, width = stored.get_shape()
            found: Tensor | None = stored[context.layer].float() if context.layer < layers else None
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"no positional vectors here: {error}", where=path, fix=fix) from None
    if (layers, width) != (config.num_hidden_layers + 1, config.hidden_size):
        raise InputError(f"positional vectors of {layers - 1} blocks, {width} wide, for a model of "
                         f"{config.num_hidden_layers}, {config.hidden_size} wide", where=path, fix=fix)
    if owner not in (None, whose(folder)):
        raise InputError("these are the positional vectors of other weights", where=path, fix=fix)
    if reach < context.length:
        raise InputError(f"positional vectors of {reach:,} positions for a context of {context.length:,}", where=path,
                         fix=f"take them with 'headwater context positions' and length={context.length}")
    if found is not None and not bool(found.isfinite().all()):
        raise InputError(f"positional vectors behind block {context.layer} that are not finite", where=path, fix=fix)
    return torch.empty(0) if found is None else found  # a block that is not there is refused by `extended`
