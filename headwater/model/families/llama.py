"""LLaMA and LLaMA 2: official configuration and weight names, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.names import Entry, differing, renamed, stacked
from headwater.model.families.rope import rope_from, rope_to

LAYOUT = MODEL_TYPE = "llama"
WRITES_TIED_HEAD = False
_SAME_NAME = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings", "initializer_range")
NAMES = {"norm_eps": "rms_norm_eps"}
_EXPRESSES = {"position": "rope", "rope_layout": "half", "norm": "rmsnorm", "norm_placement": "pre",
              "activation": "swiglu", "head": "linear", "prefix_ids": ()}


def unsaid(config: ModelConfig) -> list[str]:
    """What of `config` the official configuration cannot say."""
    return differing(config, {**_EXPRESSES, "rope_dims": config.head_dim,
                              "output_bias": config.attention_bias})  # LLaMA has one switch for both


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises `ValueError` or `SettingsError`."""
    if values.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act {values['hidden_act']!r} is not LLaMA's 'silu'")
    ours = {name: values[name] for name in _SAME_NAME if values.get(name) is not None}
    bias = bool(values.get("attention_bias", False))
    return ModelConfig.parse({**ours, **rope_from(values), "norm_eps": values.get("rms_norm_eps", 1e-6),
                              "attention_bias": bias, "output_bias": bias,
                              "mlp_bias": bool(values.get("mlp_bias", False))})


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": MODEL_TYPE, "hidden_act": "silu",
            **{name: getattr(config, name) for name in _SAME_NAME}, **rope_to(config),
            "rms_norm_eps": config.norm_eps, "attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor's names."""
    query, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    yield from outside()
    for layer in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield from stacked(f"{ours}.attention.qkv", [f"{theirs}.self_attn.{part}_proj" for part in "qkv"],
                           [query, shared, shared])
        yield from stacked(f"{ours}.feedforward.up", [f"{theirs}.mlp.{part}_proj" for part in ("gate", "up")],
                           [config.intermediate_size] * 2)
        yield from inside(ours, theirs)


def outside() -> Iterator[Entry]:
    """What stands outside of the blocks, in the names that LLaMA, Baichuan and GLM-4 share."""
    for ours, theirs in (("embedding", "model.embed_tokens"), ("norm", "model.norm"), ("head", "lm_head")):
        yield from renamed(ours, theirs)


def inside(ours: str, theirs: str) -> Iterator[Entry]:
    """What those families name alike inside a block."""
    for mine, official in (("attention_norm", "input_layernorm"), ("feedforward_norm", "post_attention_layernorm"),
                           ("attention.out", "self_attn.o_proj"), ("feedforward.down", "mlp.down_proj")):
        yield from renamed(f"{ours}.{mine}", f"{theirs}.{official}")
