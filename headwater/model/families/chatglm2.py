"""ChatGLM2-6B, ChatGLM3-6B, their 32K models, and GLM-4-9B in its remote-code form: configuration and weight names.

`rope_ratio` has two meanings under one `model_type`: ChatGLM2-6B-32K divides positions by it, ChatGLM3-6B-32K and
GLM-4 multiply the base with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.names import Entry, differing, renamed
from headwater.model.scalings import PositionInterpolation

LAYOUT, MODEL_TYPE = "chatglm2", "chatglm"
WRITES_TIED_HEAD = False
NAMES = {"vocab_size": "padded_vocab_size", "hidden_size": "hidden_size", "intermediate_size": "ffn_hidden_size",
          "num_hidden_layers": "num_layers", "num_attention_heads": "num_attention_heads", "head_dim": "kv_channels",
          "num_key_value_heads": "multi_query_group_num", "max_position_embeddings": "seq_length",
          "norm_eps": "layernorm_epsilon"}
_EXPECTED = {"rmsnorm": True, "post_layer_norm": True, "apply_residual_connection_post_layernorm": False,
             "multi_query_attention": True, "original_rope": True, "add_bias_linear": False}
"""What every released model says; the official code has branches for more."""
_EXPRESSES = {"position": "rope", "rope_layout": "interleaved", "norm": "rmsnorm", "norm_placement": "pre",
              "activation": "swiglu", "output_bias": False, "mlp_bias": False, "head": "linear", "prefix_ids": ()}
_BASE = 10000.0
GLM4_EPS = 1.5625e-07
_MEANING = "rope_ratio_applies_to"
"""Our own key beside the official ones: `positions` or `base`. The official code ignores it."""


def unsaid(config: ModelConfig) -> list[str]:
    """What of `config` the official configuration cannot say."""
    scaling = config.rope_scaling
    rope: dict[str, Any] = {"rope_dims": config.head_dim // 2}
    if scaling is not None:
        rope |= {"rope_theta": _BASE, **({} if scaling.kind == "linear" else {"rope_scaling": None})}
    return differing(config, {**_EXPRESSES, **rope})


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises `ValueError` or `SettingsError`."""
    for name, usual in _EXPECTED.items():
        if values.get(name, usual) != usual:
            raise ValueError(f"{name} {values[name]} is not supported: every released model has {usual}")
    ours = {mine: values[theirs] for mine, theirs in NAMES.items() if values.get(theirs) is not None}
    ratio, head_dim = values.get("rope_ratio", 1), values.get("kv_channels", 128)
    rope: dict[str, Any] = {"rope_theta": _BASE * ratio}
    if ratio != 1 and _divides_positions(values):
        rope = {"rope_theta": _BASE, "rope_scaling": PositionInterpolation(factor=ratio)}
    return ModelConfig.parse({**ours, **rope, "rope_layout": "interleaved", "head_dim": head_dim,
                              "rope_dims": head_dim // 2, "attention_bias": bool(values.get("add_qkv_bias", True)),
                              "tie_word_embeddings": bool(values.get("tie_word_embeddings", False)), "layout": LAYOUT})


def _divides_positions(values: dict[str, Any]) -> bool:
    """Told by our own key, else by the model's name, else by what only the later generations say: ChatGLM3 and GLM-4
    a classifier, GLM-4 a second count of layers and its own eps. Raises `ValueError` where nothing tells."""
    if _MEANING in values:
        return bool(values[_MEANING] == "positions")
    name = str(values.get("_name_or_path", "")).rstrip("/").rpartition("/")[2].lower()
    if name.startswith(("chatglm2", "chatglm3", "glm-4")):
        return name.startswith("chatglm2")
    later = ("ChatGLMForSequenceClassification" in str(values.get("auto_map", "")), "classifier_dropout" in values,
             "num_hidden_layers" in values, values.get("layernorm_epsilon") == GLM4_EPS)
    if not any(later) and "auto_map" not in values:
        raise ValueError(f"rope_ratio {values['rope_ratio']} divides positions in ChatGLM2 and multiplies the base in "
                         f"ChatGLM3 and GLM-4; nothing here tells which: add {_MEANING!r}: 'positions' or 'base'")
    return not any(later)


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    scaling = config.rope_scaling
    ratio = scaling.factor if scaling else config.rope_theta / _BASE
    values: dict[str, Any] = {"architectures": ["ChatGLMModel"], "model_type": MODEL_TYPE, **_EXPECTED,
                              **{theirs: getattr(config, mine) for mine, theirs in NAMES.items()},
                              "add_qkv_bias": config.attention_bias, "tie_word_embeddings": config.tie_word_embeddings}
    if ratio != 1:
        values["rope_ratio"] = int(ratio) if float(ratio).is_integer() else ratio
        values[_MEANING] = "positions" if scaling else "base"
    return values


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor's names."""
    for ours, theirs in (("embedding", "embedding.word_embeddings"), ("norm", "encoder.final_layernorm"),
                         ("head", "output_layer")):
        yield from renamed(ours, f"transformer.{theirs}")
    for layer in range(config.num_hidden_layers):
        for ours, theirs in (("attention_norm", "input_layernorm"), ("feedforward_norm", "post_attention_layernorm"),
                             ("attention.qkv", "self_attention.query_key_value"),
                             ("attention.out", "self_attention.dense"), ("feedforward.up", "mlp.dense_h_to_4h"),
                             ("feedforward.down", "mlp.dense_4h_to_h")):
            yield from renamed(f"blocks.{layer}.{ours}", f"transformer.encoder.layers.{layer}.{theirs}")
