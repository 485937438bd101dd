"""Rotary positions stretched past the trained length: a class for each method, with its computation and its official
form (transformers' `rope_scaling`) side by side.

Three methods change nothing but the base and so need no class here: NTK-aware scaling, an adjusted base (ABF) and
ChatGLM's `rope_ratio`; `headwater.model.extension` has them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from headwater.settings import Settings


def rope_frequencies(dims: int, theta: float) -> Tensor:
    """theta^(-2i/d), i < d/2 (RoFormer, 2104.09864, eq. 15), [d/2].

    In float32 throughout, as every official implementation computes it: at a position of 100,000 one unit in the
    last place of a frequency is an angle of 0.006.
    """
    return 1.0 / (theta ** (torch.arange(0, dims, 2).float() / dims))


class Scaling(Settings):
    """What the methods have in common."""

    kind: str
    factor: float = Field(ge=1)
    """Times the trained length."""

    NAMES: ClassVar[dict[str, str]] = {"factor": "factor"}
    """Fields and their official names."""
    BESIDE: ClassVar[frozenset[str]] = frozenset()
    """Official names that may stand beside them and are read in `read`, or change nothing."""

    @property
    def magnitude(self) -> float:
        """What multiplies cos and sin, and so the scores by its square."""
        return 1.0

    @abstractmethod
    def frequencies(self, dims: int, theta: float, *, longest: int, trained: int) -> Tensor:
        """Radians a token, float32 [dims/2].

        longest: one more than the largest position in use. trained: the model's own length.
        """

    @classmethod
    def read(cls, official: dict[str, Any], trained: int | None) -> dict[str, Any]:
        """The fields of a `rope_scaling` that are there; trained: the model's own length."""
        return {ours: official[theirs] for ours, theirs in cls.NAMES.items() if official.get(theirs) is not None}

    def official(self) -> dict[str, Any]:
        """The `rope_scaling` of a `config.json`, with the type under its older name too."""
        fields = {theirs: getattr(self, ours) for ours, theirs in self.NAMES.items() if getattr(self, ours) is not None}
        return {**fields, "rope_type": self.kind, "type": self.kind}


class PositionInterpolation(Scaling):
    """All positions divided by the factor (2306.15595, eq. 4): nothing is beyond what was trained, everything closer.
    Made for a short training afterwards."""

    kind: Literal["linear"] = "linear"

    def frequencies(self, dims: int, theta: float, *, longest: int, trained: int) -> Tensor:
        return rope_frequencies(dims, theta) / self.factor


class DynamicNtk(Scaling):
    """The base grows with the length in use, from the trained one on: s^(d/(d-2)) for s = factor l / L - (factor - 1).
    Short texts are read as they were trained."""

    kind: Literal["dynamic"] = "dynamic"

    def frequencies(self, dims: int, theta: float, *, longest: int, trained: int) -> Tensor:
        if longest <= trained:
            return rope_frequencies(dims, theta)
        stretch = self.factor * longest / trained - (self.factor - 1)
        return rope_frequencies(dims, theta * stretch ** (dims / (dims - 2)))


class _OfLength(Scaling):
    """A method that weighs wavelengths against the length that was trained before stretching."""

    original_length: int = Field(gt=0)

    NAMES: ClassVar[dict[str, str]] = {**Scaling.NAMES, "original_length": "original_max_position_embeddings"}


class Yarn(_OfLength):
    """YaRN (2309.00071): quick dimensions stay, slow ones are divided by the factor, a ramp between; scores are
    multiplied by (0.1 ln factor + 1)^2. As released: the ramp is linear in the index of the dimension, where the paper
    has it in its rotations."""

    kind: Literal["yarn"] = "yarn"
    beta_fast: float = Field(default=32.0, gt=0)
    """Dimensions that turn more often than this within original_length stay."""
    beta_slow: float = Field(default=1.0, gt=0)
    """Dimensions that turn less often than this are divided by `factor`."""
    truncate: bool = True
    """Whether the ends of the ramp are whole dimensions."""
    attention_factor: float | None = Field(default=None, gt=0)
    """Multiplies cos and sin; None means 0.1 ln(factor) + 1."""

    NAMES: ClassVar[dict[str, str]] = {**_OfLength.NAMES, **{name: name for name in (
        "beta_fast", "beta_slow", "truncate", "attention_factor")}}
    BESIDE: ClassVar[frozenset[str]] = frozenset({"mscale", "mscale_all_dim"})

    @property
    def magnitude(self) -> float:
        return _temperature(self.factor) if self.attention_factor is None else self.attention_factor

    def frequencies(self, dims: int, theta: float, *, longest: int, trained: int) -> Tensor:
        def index(rotations: float) -> float:
            return dims * math.log(self.original_length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

        low, high = index(self.beta_fast), index(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dims - 1)
        ramp = ((torch.arange(dims // 2).float() - low) / (high - low or 0.001)).clamp(0, 1)
        plain = rope_frequencies(dims, theta)
        return plain / self.factor * ramp + plain * (1 - ramp)

    @classmethod
    def read(cls, official: dict[str, Any], trained: int | None) -> dict[str, Any]:
        found = super().read(official, trained)
        found.setdefault("original_length", trained)
        weights: list[Any] = [official.get("mscale"), official.get("mscale_all_dim")]
        if all(weights) and "factor" in found:  # DeepSeek's form
            above, below = (_temperature(found["factor"], weight) for weight in weights)
            found.setdefault("attention_factor", above / below)
        return found


def _temperature(factor: float, weight: float = 1.0) -> float:
    return 0.1 * weight * math.log(max(1.0, factor)) + 1.0


class Llama3(_OfLength):
    """LLaMA 3.1: long wavelengths are divided by the factor, short ones stay, a blend between."""

    kind: Literal["llama3"] = "llama3"
    low_freq_factor: float = Field(default=1.0, gt=0)
    """Wavelengths above original_length / this are divided by `factor`."""
    high_freq_factor: float = Field(default=4.0, gt=0)
    """Wavelengths below original_length / this stay."""

    NAMES: ClassVar[dict[str, str]] = {**_OfLength.NAMES, "low_freq_factor": "low_freq_factor",
                                       "high_freq_factor": "high_freq_factor"}

    @model_validator(mode="after")
    def _has_a_blend(self) -> Llama3:
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError("low_freq_factor must be below high_freq_factor")
        return self

    def frequencies(self, dims: int, theta: float, *, longest: int, trained: int) -> Tensor:
        plain = rope_frequencies(dims, theta)
        wavelengths = 2 * math.pi / plain
        low, high = self.low_freq_factor, self.high_freq_factor
        blend = ((self.original_length / wavelengths - low) / (high - low)).clamp(0, 1)
        return (1 - blend) * plain / self.factor + blend * plain


RopeScaling = Annotated[PositionInterpolation | DynamicNtk | Yarn | Llama3, Field(discriminator="kind")]
SCALINGS: dict[str, type[Scaling]] = {"linear": PositionInterpolation, "dynamic": DynamicNtk, "yarn": Yarn,
                                      "llama3": Llama3}
"""By official name."""
