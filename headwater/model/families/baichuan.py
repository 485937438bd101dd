"""Baichuan-7B and -13B, Baichuan2-7B and -13B: official configuration and weight names, both ways.

Nothing in their `config.json` names ALiBi or NormHead. The 7B models have `max_position_embeddings` and rotary
positions, the 13B models only `model_max_length` and ALiBi; Baichuan 2 has NormHead and is known by its vocabulary, its
`tokenizer_class` or its `z_loss_weight`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.llama import inside, outside
from headwater.model.families.names import Entry, differing, renamed, stacked

LAYOUT = MODEL_TYPE = "baichuan"
WRITES_TIED_HEAD = False
_SAME_NAME = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "tie_word_embeddings", "initializer_range")
NAMES = {"norm_eps": "rms_norm_eps"}
_EXPRESSES = {"rope_layout": "half", "rope_scaling": None, "rope_theta": 10000.0, "norm": "rmsnorm",
              "norm_placement": "pre", "activation": "swiglu", "attention_bias": False, "output_bias": False,
              "mlp_bias": False, "prefix_ids": ()}
_VOCABULARY_2 = 125696


def unsaid(config: ModelConfig) -> list[str]:
    """What of `config` the official configuration cannot say."""
    whole = config.hidden_size // config.num_attention_heads
    position = config.position if config.position in ("rope", "alibi") else "rope"
    return differing(config, {**_EXPRESSES, "position": position, "head_dim": whole, "rope_dims": whole,
                              "num_key_value_heads": config.num_attention_heads})


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises `ValueError` or `SettingsError`."""
    if values.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act {values['hidden_act']!r} is not Baichuan's 'silu'")
    rotary = values.get("max_position_embeddings") is not None
    length = values.get("max_position_embeddings", values.get("model_max_length"))
    second = (values.get("vocab_size") == _VOCABULARY_2 or "z_loss_weight" in values
              or values.get("tokenizer_class") == "BaichuanTokenizer")
    ours = {name: values[name] for name in _SAME_NAME if values.get(name) is not None}
    return ModelConfig.parse({**ours, "max_position_embeddings": length or 4096,
                              "position": "rope" if rotary else "alibi",
                              "norm_eps": values.get("rms_norm_eps", 1e-6),
                              "head": "normalized" if second else "linear", "layout": LAYOUT})


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    rotary, second = config.position == "rope", config.head == "normalized"
    name = "BaiChuanForCausalLM" if rotary and not second else "BaichuanForCausalLM"
    values: dict[str, Any] = {"architectures": [name], "model_type": MODEL_TYPE, "hidden_act": "silu",
                              **{name: getattr(config, name) for name in _SAME_NAME}, "rms_norm_eps": config.norm_eps}
    values["max_position_embeddings" if rotary else "model_max_length"] = config.max_position_embeddings
    if second:
        values["tokenizer_class"] = "BaichuanTokenizer"
    return values


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor's names."""
    yield from outside()
    for layer in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield from renamed(f"{ours}.attention.qkv", f"{theirs}.self_attn.W_pack")
        yield from stacked(f"{ours}.feedforward.up", [f"{theirs}.mlp.{part}_proj" for part in ("gate", "up")],
                           [config.intermediate_size] * 2)
        yield from inside(ours, theirs)
