"""A model's configuration for a longer context: every method by name, each from the length that was trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_validator

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.scalings import DynamicNtk, Llama3, PositionInterpolation, Yarn
from headwater.settings import Settings


class ContextSettings(Settings):
    """The tokens that a model reads, beyond those that it was trained on."""

    length: int | None = Field(default=None, gt=1)
    """Tokens; the model's own when not set."""
    method: Literal["linear", "ntk", "dynamic", "yarn", "llama3", "base", "ratio"] | None = None
    """How rotary positions reach further. linear: position interpolation. ntk: a larger base, by which the slowest
    dimension alone is interpolated whole. dynamic: the same as far as the text is long. yarn: the slow dimensions
    interpolated, scores sharpened. llama3: LLaMA 3.1's way. base: another base (ABF). ratio: ChatGLM3's and GLM-4's
    base times a ratio."""
    base: float | None = Field(default=None, gt=1)
    """base: the new one; `headwater context bound length=...` says how large it has to be."""
    ratio: float | None = Field(default=None, ge=1)
    """ratio: what the base is multiplied with."""

    log_n: bool = False
    """Sharpen the scores of tokens beyond the trained length, whatever the positions: by ln(position) / ln(length)."""

    @model_validator(mode="after")
    def _fits(self) -> ContextSettings:
        if self.method is not None and self.length is None:
            raise ValueError(f"method {self.method} needs a length")
        if self.log_n and self.length is None:
            raise ValueError("log_n needs a length")
        for name in ("base", "ratio"):
            if (getattr(self, name) is not None) != (self.method == name):
                raise ValueError(f"method {name} needs {name}" if self.method == name else
                                 f"{name} has no effect with method {self.method}")
        return self


def extended(config: ModelConfig, context: ContextSettings) -> ModelConfig:
    """The configuration of the same weights for a longer context. Raises `InputError` where that cannot be."""
    length, trained = context.length, config.max_position_embeddings
    if length is None or (length <= trained and context.method is None):
        return config
    if config.position.endswith("_2d"):
        raise InputError(f"positions of kind '{config.position}' end at {trained:,}", where="context",
                         fix="leave context out, or give a model with RoPE or ALiBi")
    sharper = {"log_n_length": trained} if context.log_n else {}
    if config.position != "rope":
        if context.method is not None:
            raise InputError(f"method {context.method} stretches rotary positions, and this model's are "
                             f"'{config.position}'", where="context", fix="give the length alone")
        return config.model_copy(update={"max_position_embeddings": length, **sharper})
    if context.method is None and not context.log_n:
        raise InputError(f"this model reads {trained:,} tokens, and rotary positions beyond are new to it",
                         where="context.length", fix=f"give context.method=yarn, or one of {', '.join(_METHODS)}")
    if config.rope_scaling is not None:
        raise InputError(f"this model's positions are stretched already ({config.rope_scaling.kind} x "
                         f"{config.rope_scaling.factor:g})", where="context.method",
                         fix="leave context out, or begin with the model before it was stretched")
    if length <= trained:
        raise InputError(f"this model reads {trained:,} tokens without it", where="context.length",
                         fix="give a longer one, or no method")
    changes = {} if context.method is None else _METHODS[context.method](config, length / trained, context)
    return ModelConfig.parse({**config.model_dump(), "max_position_embeddings": length, **sharper, **changes},
                             where="context")


def ntk_base(base: float, factor: float, dims: int) -> float:
    """NTK-aware scaling: base s^(d/(d-2)), so that theta_(d/2-1) is divided by s whole and theta_0 not at all
    (bloc97's note of 2023; equation 10 of 2309.00071)."""
    return float(base * factor ** (dims / (dims - 2)))


def _linear(config: ModelConfig, factor: float, _: ContextSettings) -> dict[str, Any]:
    return {"rope_scaling": PositionInterpolation(factor=factor)}


def _ntk(config: ModelConfig, factor: float, _: ContextSettings) -> dict[str, Any]:
    return {"rope_theta": ntk_base(config.rope_theta, factor, config.rope_dims)}


def _dynamic(config: ModelConfig, factor: float, _: ContextSettings) -> dict[str, Any]:
    """The trained length stays in the configuration: the official form has no other place for it."""
    return {"rope_scaling": DynamicNtk(factor=factor), "max_position_embeddings": config.max_position_embeddings}


def _yarn(config: ModelConfig, factor: float, _: ContextSettings) -> dict[str, Any]:
    return {"rope_scaling": Yarn(factor=factor, original_length=config.max_position_embeddings)}


def _llama3(config: ModelConfig, factor: float, _: ContextSettings) -> dict[str, Any]:
    return {"rope_scaling": Llama3(factor=factor, original_length=config.max_position_embeddings)}


def _base(_: ModelConfig, __: float, context: ContextSettings) -> dict[str, Any]:
    return {"rope_theta": context.base}


def _ratio(config: ModelConfig, _: float, context: ContextSettings) -> dict[str, Any]:
    assert context.ratio is not None
    return {"rope_theta": config.rope_theta * context.ratio}


_METHODS: dict[str, Callable[[ModelConfig, float, ContextSettings], dict[str, Any]]] = {
    "linear": _linear, "ntk": _ntk, "dynamic": _dynamic, "yarn": _yarn, "llama3": _llama3, "base": _base,
    "ratio": _ratio}
