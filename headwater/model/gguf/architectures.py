"""The architectures of llama.cpp that compute what a decoder of ours computes, and their names for it.

Which one a model is follows from what it computes, not from the family it came from: llama.cpp turns its `baichuan`
by rotary positions at 32 layers alone and gives it ALiBi at 40 alone, so that a model of another depth is a `llama` or
a `refact`. Read in llama.cpp's src/models and conversion/, of November 2026.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.families.names import Entry, different, renamed, stacked
from headwater.model.positions import frequencies
from headwater.model.scalings import DynamicNtk, Llama3, PositionInterpolation, Yarn, rope_frequencies

_ALL = {"norm": "rmsnorm", "activation": "swiglu", "prefix_ids": ()}
_NO_BIAS = {"output_bias": False, "mlp_bias": False}
_WORDS = {"prefix_ids": "prompts that are read both ways", "position": "its positions", "norm": "its norm",
          "norm_placement": "where its norms stand", "activation": "its activation",
          "attention_bias": "biases of queries, keys and values", "output_bias": "a bias behind attention",
          "mlp_bias": "biases of the feed-forward layers", "rope_dims": "how much of a head turns",
          "head_dim": "heads as wide as these", "sliding_window": "a sliding window", "num_hidden_layers": "its depth"}
_VALUES = {"rope_2d": "rotary in two dimensions", "scaled_residual": "their output is the residual"}


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures: what it computes, as the fields of a `ModelConfig`."""

    name: str
    fixed: Mapping[str, Any]
    layouts: tuple[str, ...] = ()
    """Families whose models alone are called so; empty: all."""
    layers: int = 0
    """The only depth at which it computes this; 0: any."""
    whole_rotary: bool = False
    """Whether all dimensions of a head turn."""
    full_width: bool = False
    """Whether the heads together are as wide as the hidden states."""
    joined: bool = False
    """Whether query, key and value, and gate and up, are one matrix each, as in our decoder."""
    scalings: tuple[type, ...] = (PositionInterpolation, Yarn)

    def unsaid(self, config: ModelConfig) -> list[str]:
        """What of `config` it does not compute, in words."""
        fixed = {**_ALL, **self.fixed}
        if self.layers:
            fixed["num_hidden_layers"] = self.layers
        if self.whole_rotary:
            fixed["rope_dims"] = config.head_dim
        if self.full_width:
            fixed["head_dim"] = config.hidden_size // config.num_attention_heads
        found = [_in_words(name, config) for name in different(config, fixed)]
        scaling = config.rope_scaling
        if scaling is not None and not isinstance(scaling, self.scalings):
            found.append(f"rope_scaling {scaling.kind!r}")
        if isinstance(scaling, Yarn) and (scaling.beta_fast, scaling.beta_slow, scaling.truncate) != (32.0, 1.0, True):
            found.append("a yarn ramp of other ends than beta_fast 32 and beta_slow 1 in whole dimensions")
        return found


def _in_words(name: str, config: ModelConfig) -> str:
    value = getattr(config, name)
    if name == "prefix_ids" or value is True:
        return _WORDS.get(name, name)
    meant = f": {_VALUES[value]}" if value in _VALUES else ""
    return f"{_WORDS.get(name, name.replace('_', ' '))} ({name} {value!r}{meant})"


_ROPE, _ALIBI = {"position": "rope", "norm_placement": "pre"}, {"position": "alibi", "norm_placement": "pre"}
_BAICHUAN: dict[str, Any] = {**_NO_BIAS, "attention_bias": False, "tie_word_embeddings": False}
ARCHITECTURES = (
    Architecture("baichuan", {**_ROPE, **_BAICHUAN}, layouts=("baichuan",), layers=32, whole_rotary=True,
                 full_width=True),
    Architecture("baichuan", {**_ALIBI, **_BAICHUAN}, layouts=("baichuan",), layers=40, full_width=True),
    Architecture("llama", _ROPE, whole_rotary=True, scalings=(PositionInterpolation, Yarn, Llama3)),
    Architecture("refact", {**_ALIBI, **_NO_BIAS}),
    Architecture("chatglm", {**_ROPE, **_NO_BIAS}, full_width=True, joined=True),
    Architecture("glm4", {**_NO_BIAS, "position": "rope", "norm_placement": "sandwich"}, joined=True))
"""The first that computes a model is taken."""


def architecture_of(config: ModelConfig, where: object = None) -> Architecture:
    """`where` the model is. Raises `InputError` for a model that llama.cpp cannot run, with what keeps the nearest
    architecture from it."""
    known = [one for one in ARCHITECTURES if not one.layouts or config.layout in one.layouts]
    nearest = min(known, key=lambda one: len(one.unsaid(config)))
    unsaid = nearest.unsaid(config)
    if isinstance(config.rope_scaling, DynamicNtk):
        raise InputError("llama.cpp has no rotary base that grows with the text (dynamic NTK)", where="rope_scaling",
                         fix="take rope_scaling out of its config.json: texts up to max_position_embeddings read the "
                             "same")
    if unsaid:
        kind = f"a model of the kind {config.layout!r}" if config.layout else "this model"
        raise InputError(f"llama.cpp has no name for {kind}: its nearest architecture, {nearest.name}, does not know "
                         f"{'; '.join(unsaid)}", where=where,
                         fix="serve it with 'headwater serve', packed by 'base=int4' where memory is short")
    return nearest


def entries(config: ModelConfig, architecture: Architecture) -> Iterator[Entry]:
    """Every tensor's names, a tied head's left out."""
    for ours, theirs in (("embedding", "token_embd"), ("norm", "output_norm"), ("head", "output")):
        yield from renamed(ours, theirs)
    query, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    for layer in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{layer}", f"blk.{layer}"
        for mine, other in (("attention_norm", "attn_norm"), ("attention.out", "attn_output"),
                            ("attention_output_norm", "post_attention_norm"), ("feedforward_norm", "ffn_norm"),
                            ("feedforward.down", "ffn_down"), ("feedforward_output_norm", "post_ffw_norm")):
            yield from renamed(f"{ours}.{mine}", f"{theirs}.{other}")
        if architecture.joined:
            yield from renamed(f"{ours}.attention.qkv", f"{theirs}.attn_qkv")
            yield from renamed(f"{ours}.feedforward.up", f"{theirs}.ffn_up")
        else:
            yield from stacked(f"{ours}.attention.qkv", [f"{theirs}.attn_{part}" for part in "qkv"],
                               [query, shared, shared])
            yield from stacked(f"{ours}.feedforward.up", [f"{theirs}.ffn_{part}" for part in ("gate", "up")],
                               [config.intermediate_size] * 2)


def paired(rows: Tensor, config: ModelConfig) -> Tensor:
    """The rows [q | k | v] with every pair of rotated dimensions side by side, (2i, 2i + 1), as llama.cpp turns them;
    those of LLaMA, (i, i + r/2), change places. Scores stay as they are, as queries and keys change alike."""
    if config.position != "rope" or config.rope_layout == "interleaved":
        return rows
    turned = (config.num_attention_heads + config.num_key_value_heads) * config.head_dim
    by_head = rows[:turned].unflatten(0, (-1, config.head_dim))
    pairs = by_head[:, : config.rope_dims].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    return torch.cat((torch.cat((pairs, by_head[:, config.rope_dims :]), dim=1).flatten(0, 1), rows[turned:]))


def rope_factors(config: ModelConfig) -> Tensor | None:
    """What divides the frequency of every pair, float32 [r/2]: LLaMA 3.1's scaling, which is a tensor in a GGUF file;
    None for others."""
    if not isinstance(config.rope_scaling, Llama3):
        return None
    return rope_frequencies(config.rope_dims, config.rope_theta) / frequencies(config, config.max_position_embeddings)


def fields(config: ModelConfig, architecture: Architecture) -> dict[str, Any]:
    """The metadata that the architecture reads, by GGUF's names."""
    values = {"vocab_size": config.vocab_size, "context_length": config.max_position_embeddings,
              "embedding_length": config.hidden_size, "block_count": config.num_hidden_layers,
              "feed_forward_length": config.intermediate_size, "attention.head_count": config.num_attention_heads,
              "attention.head_count_kv": config.num_key_value_heads, "attention.key_length": config.head_dim,
              "attention.value_length": config.head_dim, "attention.layer_norm_rms_epsilon": config.norm_eps}
    if config.position == "rope":
        values |= {"rope.dimension_count": config.rope_dims, "rope.freq_base": config.rope_theta,
                   **_scaling(config.rope_scaling)}
    return {f"{architecture.name}.{name}": value for name, value in values.items()}


def _scaling(scaling: object) -> dict[str, Any]:
    if isinstance(scaling, PositionInterpolation):
        return {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}
    if isinstance(scaling, Yarn):
        return {"rope.scaling.type": "yarn", "rope.scaling.factor": scaling.factor,
                "rope.scaling.original_context_length": scaling.original_length,
                # llama.cpp multiplies cos and sin by YaRN's own 0.1 ln(factor) + 1 and by this.
                "rope.scaling.attn_factor": scaling.magnitude / (0.1 * math.log(scaling.factor) + 1)}
    return {}
