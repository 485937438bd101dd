"""Our own names, for decoders that no official configuration can express (ALiBi with GQA, LayerNorm with SwiGLU)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from headwater.model.config import ModelConfig

MODEL_TYPE = "headwater"


def expresses(config: ModelConfig) -> bool:
    return True


def config_from(values: dict[str, Any]) -> ModelConfig:
    return ModelConfig.parse({name: value for name, value in values.items() if name in ModelConfig.model_fields})


def config_to(config: ModelConfig) -> dict[str, Any]:
    return {"architectures": ["HeadwaterDecoder"], "model_type": MODEL_TYPE, **config.model_dump()}


def weights_from(official: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    return dict(official)


def weights_to(ours: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in ours.items()}
