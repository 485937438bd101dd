"""A model's configuration for a longer context: every method by name, each from the length that was trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.scalings import DynamicNtk, Llama3, PositionInterpolation, Yarn
from headwater.settings import InputPath, Settings

Method = Literal["linear", "ntk", "dynamic", "yarn", "llama3", "base", "ratio", "vectors", "window"]
_NEEDS = {"base": "base", "ratio": "ratio", "vectors": "vectors"}
"""Methods, and the field without which they are nothing."""
_OWN = {"base": ("base",), "ratio": ("ratio", "vectors", "window"), "vectors": ("vectors",), "layer": ("vectors",),
        "strength": ("vectors",), "score_scale": ("window",)}
"""Fields, and the methods that take them."""


class ContextSettings(Settings):
    """The tokens that a model reads, beyond those that it was trained on."""

    length: int | None = Field(default=None, gt=1)
    """Tokens; the model's own when not set."""
    method: Method | None = None
    """How positions reach further. linear: position interpolation. ntk: a larger base, by which the slowest dimension
    alone is interpolated whole. dynamic: the same as far as the text is long. yarn: the slow dimensions interpolated,
    scores sharpened. llama3: LLaMA 3.1's way. base: another base (ABF). ratio: ChatGLM3's and GLM-4's base times a
    ratio. Without positions: vectors: positional vectors replaced by stretched ones. window: a wider window."""
    base: float | None = Field(default=None, gt=1, le=1e12)
    """base: the new one; `headwater context bound length=...` says how large it has to be."""
    ratio: float | None = Field(default=None, ge=1, le=1e6)
    """ratio: what the base is multiplied with. vectors, window: how far they are stretched; by as much as the context
    when not set."""
    vectors: InputPath | None = None
    """vectors: the model's own over `length` tokens, as `headwater context positions` writes them."""
    layer: int = Field(default=4, ge=1)
    """vectors: the block behind which they are replaced, from 1."""
    strength: float = Field(default=1.0, gt=0, le=100)
    """vectors: what the new ones are multiplied with; above 1 against their fading in later layers."""
    score_scale: float = Field(default=1.0, gt=0, le=100)
    """window: what scores are multiplied with."""

    window: int | None = Field(default=None, gt=0)
    """Let a token see the last so many alone, itself among them: what is kept of a text no longer grows with it."""
    sinks: int = Field(default=0, ge=0)
    """And beside the window the first so many tokens of the text, at which attention comes to rest."""
    log_n: bool = False
    """Sharpen the scores of tokens beyond the trained length, whatever the positions: by ln(position) / ln(length)."""

    @model_validator(mode="after")
    def _fits(self) -> ContextSettings:
        if self.method is not None and self.length is None:
            raise ValueError(f"method {self.method} needs a length")
        if self.log_n and self.length is None:
            raise ValueError("log_n needs a length")
        if self.sinks and not self.window:
            raise ValueError("sinks need a window")
        if self.window and self.method in ("vectors", "window"):
            raise ValueError(f"method {self.method} is for what the model saw in its training; leave window out")
        needed = _NEEDS.get(self.method or "")
        if needed and getattr(self, needed) is None:
            raise ValueError(f"method {self.method} needs {needed}")
        for name, methods in _OWN.items():
            if self.method not in methods and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect " + (f"with method {self.method}" if self.method else
                                                             f"without method {' or '.join(methods)}"))
        return self


class KeptContext(ContextSettings):
    """One that a model folder can keep."""

    @model_validator(mode="after")
    def _is_kept(self) -> KeptContext:
        if self.method == "vectors":
            raise ValueError("method vectors is for reading alone: a model folder does not keep positional vectors")
        return self


def extended(config: ModelConfig, context: ContextSettings) -> ModelConfig:
    """The configuration of the same weights for a longer context. Raises `InputError` where that cannot be."""
    own, config = config, _windowed(config, context)
    length, trained = context.length, config.longest
    if length is None or (length == trained and context.method is None and not context.log_n):
        return config
    if length <= trained:
        raise InputError(f"this model reads {trained:,} tokens without it", where="context.length",
                         fix="give a longer one, or leave it out")
    if config.position.endswith("_2d"):
        raise InputError(f"positions of kind '{config.position}' end at {trained:,}", where="context",
                         fix="leave context out, or give a model with RoPE or ALiBi")
    if context.method is not None:
        _check(own, context.method)
    elif config.position == "rope" and not (config.sliding_window or (context.log_n and not _follows(config))):
        raise InputError(f"this model reads {trained:,} tokens, and rotary positions beyond are new to it",
                         where="context.length", fix=_UNSTRETCHED if config.rope_scaling is not None else
                         f"give context.method=yarn, or one of {', '.join(sorted(_ROTARY - {'yarn'}))}; or "
                         "context.window")
    sharper = {"log_n_length": config.log_n_length or trained} if context.log_n else {}
    changes = {} if context.method is None else _METHODS[context.method](config, length / trained, context)
    return ModelConfig.parse({**config.model_dump(), "max_position_embeddings": length, **sharper, **changes},
                             where="context")


def _follows(config: ModelConfig) -> bool:
    """Whether angles follow the length that the configuration names."""
    return isinstance(config.rope_scaling, DynamicNtk)


def check_window(context: ContextSettings, length: int) -> None:
    """Raises `InputError` for a window that leaves nothing of a text so long out."""
    if context.window is not None and context.window + context.sinks >= length:
        raise InputError(f"a window of {context.window:,} tokens and {context.sinks:,} sinks leave nothing of "
                         f"{length:,} out", where="context.window", fix="give a smaller one, or none")


def _windowed(config: ModelConfig, context: ContextSettings) -> ModelConfig:
    if context.window is None:
        return config
    seen = config.seen(config.longest)
    if context.method is None and config.position == "rope" and context.window + context.sinks > seen:
        raise InputError(f"a window of {context.window:,} tokens and {context.sinks:,} sinks reach further than the "
                         f"{seen:,} that this model sees", where="context.window",
                         fix=f"give at most {seen:,} together" + (
                             ", or begin with the model before it had a window" if config.sliding_window else ""))
    if context.length is not None:
        check_window(context, context.length)
    return ModelConfig.parse({**config.model_dump(), "sliding_window": context.window,
                              "attention_sinks": context.sinks}, where="context")


def _check(config: ModelConfig, method: Method) -> None:
    """Raises `InputError` for a model that the method is not made for."""
    if method in _ROTARY and config.position != "rope":
        raise InputError(f"method {method} stretches rotary positions, and this model's are '{config.position}'",
                         where="context", fix="give the length alone" + (
                             ", or method window" if config.position == "none" and config.sliding_window else ""))
    if method not in _ROTARY and config.position != "none":
        raise InputError(f"method {method} is for models without positions of their own, and this model's are "
                         f"'{config.position}'", where="context.method", fix="give context.method=yarn"
                         if config.position == "rope" else "give the length alone")
    if (method == "window") != bool(config.sliding_window) and method not in _ROTARY:
        raise InputError(f"method {method} is for models that see " + ("a window" if method == "window" else
                         "all tokens before, and this one sees a window"), where="context.method",
                         fix="give method " + ("vectors" if method == "window" else "window"))
    if config.rope_scaling is not None:
        raise InputError(f"this model's positions are stretched already ({config.rope_scaling.kind} x "
                         f"{config.rope_scaling.factor:g})", where="context.method", fix=_UNSTRETCHED)
    if method in _ROTARY and config.sliding_window:
        raise InputError(f"this model sees a window of {config.sliding_window:,} tokens, and no distance within it is "
                         "new, however long the text", where="context.method", fix="give the length alone")


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


def _vectors(config: ModelConfig, _: float, context: ContextSettings) -> dict[str, Any]:
    """Nothing of the configuration: `replacement` puts them between the blocks."""
    if context.layer >= config.num_hidden_layers:
        raise InputError(f"layer {context.layer} of {config.num_hidden_layers}, behind which no block reads",
                         where="context.layer", fix=f"give at most {config.num_hidden_layers - 1}")
    return {}


def _window(config: ModelConfig, factor: float, context: ContextSettings) -> dict[str, Any]:
    """Attention window extension (2405.18009, section 4.2): positional vectors spread by a window each layer, so that a
    wider one stretches them."""
    return {"sliding_window": round(config.sliding_window * (context.ratio or factor)),
            "score_scale": config.score_scale * context.score_scale}


_METHODS: dict[str, Callable[[ModelConfig, float, ContextSettings], dict[str, Any]]] = {
    "linear": _linear, "ntk": _ntk, "dynamic": _dynamic, "yarn": _yarn, "llama3": _llama3, "base": _base,
    "ratio": _ratio, "vectors": _vectors, "window": _window}
_ROTARY = set(get_args(Method)) - {"vectors", "window"}
_UNSTRETCHED = "leave context out, or begin with the model before it was stretched"
