"""LLaMA and LLaMA 2: official configuration and weight names, both ways."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from headwater.model.config import ModelConfig

MODEL_TYPE = "llama"
_SAME_NAME = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings", "initializer_range")
_EXPRESSES = {"position": "rope", "norm": "rmsnorm", "activation": "swiglu"}
_OUTSIDE = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight",
            "head.weight": "lm_head.weight", "head.scale": "lm_head.scale"}
_INSIDE = {"attention_norm.weight": "input_layernorm.weight",
           "feedforward_norm.weight": "post_attention_layernorm.weight",
           "attention.out": "self_attn.o_proj", "feedforward.down": "mlp.down_proj"}


def expresses(config: ModelConfig) -> bool:
    """Whether the official LLaMA configuration can say all of `config`."""
    biases = config.attention_bias == config.output_bias  # LLaMA has one switch for both
    return biases and all(getattr(config, name) == value for name, value in _EXPRESSES.items())


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises through `ModelConfig.parse` on missing fields."""
    if values.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act '{values['hidden_act']}' is not LLaMA's 'silu'")
    scaling = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise ValueError(f"rope_scaling {scaling} is not supported")
    ours = {name: values[name] for name in _SAME_NAME if values.get(name) is not None}
    bias = bool(values.get("attention_bias", False))
    ours.update(norm_eps=values.get("rms_norm_eps", 1e-6), attention_bias=bias, output_bias=bias,
                rope_theta=values.get("rope_theta", scaling.get("rope_theta", 10000.0)),
                mlp_bias=bool(values.get("mlp_bias", False)))
    return ModelConfig.parse(ours)


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    values: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": MODEL_TYPE, "hidden_act": "silu"}
    values.update({name: getattr(config, name) for name in _SAME_NAME})
    values.update(rms_norm_eps=config.norm_eps, rope_theta=config.rope_theta, attention_bias=config.attention_bias,
                  mlp_bias=config.mlp_bias)
    return values


def weights_from(official: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our state dict from the official one. Missing tensors are left out and unknown ones keep their names, for the
    caller to report; rotary frequencies, which old files carry, are computed and not read."""
    left = {name: tensor for name, tensor in official.items() if not name.endswith("rotary_emb.inv_freq")}
    ours = {name: left.pop(theirs) for name, theirs in _OUTSIDE.items() if theirs in left}
    for layer in range(config.num_hidden_layers):
        for name, theirs in _layer_names(layer).items():
            if all(part in left for part in theirs):
                parts = [left.pop(part) for part in theirs]
                ours[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return {**ours, **left}


def weights_to(ours: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The official state dict from ours."""
    official = {theirs: ours[name] for name, theirs in _OUTSIDE.items() if name in ours}
    query, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    sizes = {3: [query, shared, shared], 2: [config.intermediate_size] * 2}
    for layer in range(config.num_hidden_layers):
        for name, theirs in _layer_names(layer).items():
            if name in ours:
                parts = ours[name].split(sizes[len(theirs)]) if len(theirs) > 1 else [ours[name]]
                official.update({part: tensor.contiguous() for part, tensor in zip(theirs, parts, strict=True)})
    return official


def _layer_names(layer: int) -> dict[str, list[str]]:
    """Our name -> the official names whose rows it stacks, for every tensor a layer may have (scales of INT8 too)."""
    theirs = f"model.layers.{layer}."
    names: dict[str, list[str]] = {}
    for kind in ("weight", "bias", "scale"):
        names[f"attention.qkv.{kind}"] = [f"self_attn.{part}_proj.{kind}" for part in "qkv"]
        names[f"feedforward.up.{kind}"] = [f"mlp.{part}_proj.{kind}" for part in ("gate", "up")]
    for ours, official in _INSIDE.items():
        kinds = [""] if ours.endswith("weight") else [".weight", ".bias", ".scale"]
        names.update({ours + kind: [official + kind] for kind in kinds})
    return {f"blocks.{layer}.{ours}": [theirs + part for part in parts] for ours, parts in names.items()}
