"""The families: each a file with its official configuration and weight names, both ways, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from headwater.errors import CheckpointError
from headwater.model.config import ModelConfig
from headwater.model.families import baichuan, chatglm, chatglm2, glm, glm4, llama, native
from headwater.model.families.names import Entry


class Family(Protocol):
    """What a family's module offers."""

    LAYOUT: str
    WRITES_TIED_HEAD: bool

    def unsaid(self, config: ModelConfig) -> list[str]: ...
    def config_from(self, values: dict[str, Any]) -> ModelConfig: ...
    def config_to(self, config: ModelConfig) -> dict[str, Any]: ...
    def entries(self, config: ModelConfig) -> Iterator[Entry]: ...


_ALL: tuple[Family, ...] = (llama, baichuan, chatglm, chatglm2, glm, glm4, native)
LAYOUTS: dict[str, Family] = {family.LAYOUT: family for family in _ALL}
MODEL_TYPES = ("llama", "baichuan", "chatglm", "glm", "glm4", "headwater")


def family_of(values: dict[str, Any]) -> Family:
    """The family that wrote a `config.json`. Raises `CheckpointError` naming what was found and what is known."""
    kind = values.get("model_type")
    if kind == "chatglm":
        return chatglm if chatglm.recognises(values) else chatglm2
    if kind == "glm" and glm.recognises(values):
        return glm
    simple: dict[str, Family] = {"llama": llama, "baichuan": baichuan, "glm": glm4, "glm4": glm4,
                                    "headwater": native}
    if not isinstance(kind, str) or kind not in simple:
        raise CheckpointError(f"unknown family: model_type {kind!r}, architectures {values.get('architectures')}",
                              fix=f"give a folder of a supported one: {', '.join(MODEL_TYPES)}")
    return simple[kind]


def family_for(config: ModelConfig) -> Family:
    """The family whose official form a model is written in: the one it came from while that can say all of it, else
    LLaMA where it can, else our own."""
    for family in (LAYOUTS.get(config.layout, llama), llama):
        if not family.unsaid(config):
            return family
    return native
