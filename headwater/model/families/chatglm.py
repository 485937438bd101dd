"""ChatGLM-6B, the first generation: official configuration and weight names, both ways."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.names import Entry, differing, renamed

LAYOUT, MODEL_TYPE = "chatglm", "chatglm"
WRITES_TIED_HEAD = True
RESIDUAL_SCALE = math.sqrt(2 * 28)
"""The official model never passes its number of layers on, so its blocks always take 28."""
NAMES = {"vocab_size": "vocab_size", "hidden_size": "hidden_size", "intermediate_size": "inner_hidden_size",
          "num_hidden_layers": "num_layers", "num_attention_heads": "num_attention_heads",
          "max_position_embeddings": "max_sequence_length", "norm_eps": "layernorm_epsilon"}
FIXED = {"position": "rope_2d", "rope_layout": "half", "rope_theta": 10000.0, "rope_rounding": "float16",
          "norm": "layernorm", "norm_placement": "scaled_residual", "residual_scale": RESIDUAL_SCALE,
          "activation": "gelu_tanh", "attention_bias": True, "output_bias": True, "mlp_bias": True,
          "head": "linear", "tie_word_embeddings": True}
_IDS = ("gmask_token_id", "mask_token_id", "bos_token_id")
_FIRST_IDS = {150528: (150001, 150000, 150004)}
"""By vocabulary: of the first release, whose configuration does not name them."""


def recognises(values: dict[str, Any]) -> bool:
    """Whether a `chatglm` configuration is of this generation."""
    return "position_encoding_2d" in values or "inner_hidden_size" in values


def unsaid(config: ModelConfig) -> list[str]:
    """What of `config` the official configuration cannot say."""
    ids = config.prefix_ids if len(config.prefix_ids) == len(_IDS) else _FIRST_IDS[150528]
    return differing(config, {**FIXED, "head_dim": config.hidden_size // config.num_attention_heads,
                              "num_key_value_heads": config.num_attention_heads, "prefix_ids": ids})


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises `ValueError` or `SettingsError`."""
    if not values.get("position_encoding_2d", True):
        raise ValueError("position_encoding_2d false is not supported: no ChatGLM-6B was released with it")
    ours = {mine: values[theirs] for mine, theirs in NAMES.items() if values.get(theirs) is not None}
    usual = _FIRST_IDS.get(values.get("vocab_size", 0), (130001, 130000, 130004))
    ids = tuple(values.get(name, default) for name, default in zip(_IDS, usual, strict=True))
    if "intermediate_size" not in ours and isinstance(values.get("hidden_size"), int):
        ours["intermediate_size"] = 4 * values["hidden_size"]
    return ModelConfig.parse({"norm_eps": 1e-5, **ours, **FIXED, "prefix_ids": ids, "layout": LAYOUT})


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    return {"architectures": ["ChatGLMModel"], "model_type": MODEL_TYPE, "position_encoding_2d": True,
            **{theirs: getattr(config, mine) for mine, theirs in NAMES.items()},
            **dict(zip(_IDS, config.prefix_ids, strict=True))}


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor's names."""
    for ours, theirs in (("embedding", "transformer.word_embeddings"), ("norm", "transformer.final_layernorm"),
                         ("head", "lm_head")):
        yield from renamed(ours, theirs)
    for layer in range(config.num_hidden_layers):
        yield from block(f"blocks.{layer}", f"transformer.layers.{layer}", heads=config.num_attention_heads)


def block(ours: str, theirs: str, *, heads: int) -> Iterator[Entry]:
    """A block in the names of GLM and ChatGLM-6B; heads: of a matrix grouped by head, 0 for [q | k | v]."""
    yield from renamed(f"{ours}.attention.qkv", f"{theirs}.attention.query_key_value", heads=heads)
    for mine, official in (("attention_norm", "input_layernorm"), ("feedforward_norm", "post_attention_layernorm"),
                           ("attention.out", "attention.dense"), ("feedforward.up", "mlp.dense_h_to_4h"),
                           ("feedforward.down", "mlp.dense_4h_to_h")):
        yield from renamed(f"{ours}.{mine}", f"{theirs}.{official}")
