"""Our own names, for decoders that no official configuration can express (ALiBi with GQA, LayerNorm with SwiGLU)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.names import Entry, renamed

LAYOUT = MODEL_TYPE = "headwater"
WRITES_TIED_HEAD = False


def unsaid(config: ModelConfig) -> list[str]:
    """Nothing."""
    return []


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from its own fields in `config.json`."""
    return ModelConfig.parse({name: value for name, value in values.items() if name in ModelConfig.model_fields})


def config_to(config: ModelConfig) -> dict[str, Any]:
    """All fields."""
    return {"architectures": ["HeadwaterDecoder"], "model_type": MODEL_TYPE, **config.model_dump(mode="json")}


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor under its own name."""
    outside = ["embedding", "norm", "head", "positions.position", "positions.block"]
    inside = ["attention_norm", "feedforward_norm", "attention_output_norm", "feedforward_output_norm",
              "attention.qkv", "attention.out", "feedforward.up", "feedforward.down"]
    for name in [*outside, *(f"blocks.{layer}.{part}" for layer in range(config.num_hidden_layers) for part in inside)]:
        yield from renamed(name, name)
