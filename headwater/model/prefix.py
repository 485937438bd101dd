"""Trained keys and values that every token sees before all others, in each layer: P-Tuning v2 (2110.07602)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from headwater.artifacts import read_json, write_json
from headwater.errors import CheckpointError
from headwater.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from headwater.model.config import ModelConfig
from headwater.model.folder import WeightFolder
from headwater.model.tensors import read_tensors, write_tensors
from headwater.settings import Settings

KIND = "HEADWATER_PREFIX"
"""A `peft_type` of our own: what peft calls PREFIX_TUNING counts the tokens' positions from behind the prefix."""
_OFFICIAL = "transformer.prefix_encoder."


class PrefixSettings(Settings):
    length: int = Field(default=128, gt=0)
    """Keys of each layer that stand before all tokens; as many as in ChatGLM's official scripts by default."""
    hidden: int | None = Field(default=None, gt=0)
    """Width of a network that computes them, while they are trained, from an embedding of each; None: they are trained
    themselves."""


class Prefix(nn.Module):
    """Keys and values of every layer, the same for all rows. They have no position: keys are not rotated, ALiBi adds
    nothing to their scores, and a text's own positions begin at 0 behind them as without them."""

    def __init__(self, config: ModelConfig, settings: PrefixSettings, seed: int = 0) -> None:
        """With `hidden` as in the paper's code and ChatGLM-6B's, an embedding as wide as the model -> Linear -> Tanh ->
        Linear: ChatGLM2's is as wide as all keys and values and so twice as large. Drawn as PyTorch draws by itself,
        which the official code leaves it at: embeddings from N(0, 1)."""
        super().__init__()
        self.length = settings.length
        self.shape = _shape(config)
        width = math.prod(self.shape)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(self.length, config.hidden_size if settings.hidden else width)
            self.trans = None if settings.hidden is None else nn.Sequential(
                nn.Linear(config.hidden_size, settings.hidden), nn.Tanh(), nn.Linear(settings.hidden, width))

    def forward(self) -> tuple[Tensor, ...]:
        """Each layer's keys and values, [2,K,P,d]."""
        return self.table().view(self.length, *self.shape).permute(1, 2, 3, 0, 4).unbind()

    def table(self) -> Tensor:
        """All of them as files hold them: [P, L*2*K*d], of a layer the keys and then the values."""
        whole: Tensor = self.embedding.weight if self.trans is None else self.trans(self.embedding.weight)
        return whole


class ReadContext(NamedTuple):
    """Tokens that a model has read, in the place of its prefix for rows that all go on from them."""

    layers: tuple[Tensor, ...]
    """Each layer's keys and values, [2,K,P,d], the model's own prefix first."""

    @property
    def length(self) -> int:
        return self.layers[0].shape[2]

    def __call__(self) -> tuple[Tensor, ...]:
        return self.layers


def before(prefix: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's prefix [2,K,P,d] in front of every row's keys and values [B,K,S,d]."""
    first, second = (part.to(key.dtype).expand(len(key), -1, -1, -1) for part in prefix)
    return torch.cat((first, key), 2), torch.cat((second, value), 2)


def _shape(config: ModelConfig) -> tuple[int, int, int, int]:
    return config.num_hidden_layers, 2, config.num_key_value_heads, config.head_dim


def save_prefix(prefix: Prefix, folder: Path, metadata: Mapping[str, str] | None = None, **more: Any) -> None:
    """Write a prefix as plain keys and values under ChatGLM's name; what computed them is not kept. metadata and more:
    what else the file and its description say."""
    layers, _, kv_heads, head_dim = prefix.shape
    write_json(folder / ADAPTER_CONFIG, {"peft_type": KIND, "num_virtual_tokens": prefix.length, "num_layers": layers,
                                      "num_key_value_heads": kv_heads, "head_dim": head_dim, **more})
    write_tensors(folder / ADAPTER_WEIGHTS, {f"{_OFFICIAL}embedding.weight": prefix.table().detach().float()},
                  {"format": "pt", **(metadata or {})})


def load_prefix(folder: Path, config: ModelConfig) -> Prefix:
    """A prefix that `save_prefix` wrote, or one of ChatGLM's official code (safetensors or .bin), alone or among the
    model's own weights. Raises `CheckpointError` where there is none, or one for a model of another shape."""
    if (folder / ADAPTER_CONFIG).exists():
        _check(read_json(folder / ADAPTER_CONFIG), config, folder / ADAPTER_CONFIG)
        tensors = read_tensors(folder / ADAPTER_WEIGHTS)
    else:
        tensors = _official_tensors(folder)
    table = _folded({name.removeprefix(_OFFICIAL): one.float() for name, one in tensors.items()}, folder)
    width = math.prod(_shape(config))
    if table.dim() != 2 or table.shape[1] != width or not len(table):
        raise CheckpointError(f"a prefix of shape {list(table.shape)}, the model takes [length, {width}]: "
                              f"{_words(*_shape(config))}", where=folder, fix="give the model that it was trained with")
    if not bool(table.isfinite().all()):
        raise CheckpointError("the prefix holds numbers that are not finite", where=folder,
                              fix="train it again, at a lower rate")
    said = read_json(folder / ADAPTER_CONFIG).get("num_virtual_tokens") if (folder / ADAPTER_CONFIG).exists() else None
    if said not in (None, len(table)):
        raise CheckpointError(f"a prefix of {len(table)} keys, where {ADAPTER_CONFIG} says {said}", where=folder,
                              fix="copy the adapter again")
    prefix = Prefix(config, PrefixSettings(length=len(table)))
    prefix.embedding.weight = nn.Parameter(table)
    return prefix


def _check(description: Any, config: ModelConfig, where: Path) -> None:
    kind = description.get("peft_type") if isinstance(description, dict) else None
    if kind != KIND:
        raise CheckpointError(f"peft_type is {kind!r}, a prefix of ours says {KIND!r}", where=where,
                              fix="give the folder of a prefix")
    layers, _, kv_heads, head_dim = _shape(config)
    found = tuple(description.get(name) for name in ("num_layers", "num_key_value_heads", "head_dim"))
    if found != (layers, kv_heads, head_dim):
        raise CheckpointError(f"a prefix for {_words(found[0], 2, *found[1:])}; the model has "
                              f"{_words(*_shape(config))}", where=where, fix="give the model that it was trained with")


def _words(layers: Any, _: int, kv_heads: Any, head_dim: Any) -> str:
    return f"{layers} layers, {kv_heads} key/value heads of {head_dim}"


def _official_tensors(folder: Path) -> dict[str, Tensor]:
    with WeightFolder(folder) as weights:
        found = {name: torch.empty(stored.shape, dtype=stored.dtype) for name, stored in weights.stored.items()
                 if name.startswith(_OFFICIAL)}
        for name, tensor in found.items():
            weights.read_into(name, tensor)
    return found


def _folded(tensors: dict[str, Tensor], where: Path) -> Tensor:
    """Plain keys and values, also of a prefix with the network that computes them, of either official form."""
    try:
        table = tensors.pop("embedding.weight")
        if tensors:
            first, second = ((tensors[f"trans.{place}.weight"], tensors[f"trans.{place}.bias"]) for place in (0, 2))
            table = F.linear(F.linear(table, *first).tanh(), *second)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"no prefix here: {str(error).splitlines()[0]}", where=where,
                              fix="give the folder of a prefix, or of ChatGLM's P-Tuning v2") from None
    return table
