"""GLM (2021, blank infilling; GLM-10B and its sizes): official configuration and weight names, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.chatglm import block
from headwater.model.families.names import Entry, differing, renamed

LAYOUT, MODEL_TYPE = "glm", "glm"
WRITES_TIED_HEAD = False
NAMES = {"vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_hidden_layers": "num_layers",
          "num_attention_heads": "num_attention_heads", "max_position_embeddings": "max_sequence_length",
          "initializer_range": "initializer_range"}
_FIXED = {"position": "learned_2d", "norm": "layernorm", "norm_eps": 1e-5, "norm_placement": "pre",
          "activation": "gelu", "attention_bias": True, "output_bias": True, "mlp_bias": True, "head": "linear",
          "tie_word_embeddings": True}


def recognises(values: dict[str, Any]) -> bool:
    """Whether a `glm` configuration is of 2021; transformers took the name again for GLM-4."""
    return "num_layers" in values or "GLMModel" in (values.get("architectures") or [])


def unsaid(config: ModelConfig) -> list[str]:
    """What of `config` the official configuration cannot say."""
    return differing(config, {**_FIXED, "head_dim": config.hidden_size // config.num_attention_heads,
                              "num_key_value_heads": config.num_attention_heads, "prefix_ids": (),
                              "intermediate_size": 4 * config.hidden_size})


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises `ValueError` or `SettingsError`."""
    if not values.get("block_position_encoding", True) or values.get("relative_encoding", False):
        raise ValueError("only block_position_encoding true and relative_encoding false are supported")
    ours = {mine: values[theirs] for mine, theirs in NAMES.items() if values.get(theirs) is not None}
    if isinstance(values.get("hidden_size"), int):
        ours["intermediate_size"] = 4 * values["hidden_size"]
    return ModelConfig.parse({**ours, **_FIXED, "layout": LAYOUT})


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    return {"architectures": ["GLMModel"], "model_type": MODEL_TYPE, "block_position_encoding": True,
            "relative_encoding": False, **{theirs: getattr(config, mine) for mine, theirs in NAMES.items()}}


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor's names, those of the bare `GLMModel`."""
    for ours, theirs in (("embedding", "word_embeddings"), ("norm", "transformer.final_layernorm"),
                         ("positions.position", "transformer.position_embeddings"),
                         ("positions.block", "transformer.block_position_embeddings")):
        yield from renamed(ours, theirs)
    for layer in range(config.num_hidden_layers):
        yield from block(f"blocks.{layer}", f"transformer.layers.{layer}", heads=0)
