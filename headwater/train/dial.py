"""One number from which the rest of a pretraining follows: shape, horizon, batch, learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from headwater.settings import Settings

WIDTH_PER_LAYER = 64
"""hidden_size / layers: between LLaMA's 102 at 13B and the Baichuan 2 scaling series' 64 to 117 at small sizes."""
LARGEST_DEPTH = 256


class DialSettings(Settings):
    """Give `depth` or `parameters`, and every setting that is not given follows."""

    depth: int | None = Field(default=None, ge=1, le=LARGEST_DEPTH)
    """Layers; the hidden size is 64 times as much."""
    parameters: float | None = Field(default=None, ge=1e4)
    """Or: about so many parameters, embeddings not counted."""
    tokens_per_parameter: float = Field(default=20.0, gt=0)
    """Tokens read for each of them (Chinchilla's rule); more for a model that will be used much."""

    @model_validator(mode="after")
    def _one(self) -> DialSettings:
        if self.depth is not None and self.parameters is not None:
            raise ValueError("give one of depth and parameters")
        return self

    @property
    def turned(self) -> bool:
        return self.depth is not None or self.parameters is not None


class Derived(NamedTuple):
    """What follows from the dial."""

    layers: int
    hidden: int
    heads: int
    feed: int
    parameters: int
    """Of the blocks."""
    tokens: float
    """The horizon."""
    batch_tokens: float
    learning_rate: float

    def model(self) -> dict[str, Any]:
        return {"num_hidden_layers": self.layers, "hidden_size": self.hidden, "num_attention_heads": self.heads,
                "intermediate_size": self.feed}

    def trainer(self, length: int) -> dict[str, Any]:
        """Rows of `length` tokens, a power of two; steps; the optimizer's rate, warmed up over a fiftieth of them."""
        rows = 2 ** max(0, round(math.log2(self.batch_tokens / length)))
        steps = max(10, round(self.tokens / (rows * length)))
        return {"rows": rows, "steps": steps,
                "optimizer": {"learning_rate": float(f"{self.learning_rate:.2g}"), "warmup_steps": max(1, steps // 50)}}

    def words(self) -> str:
        return (f"{self.layers} layers of {self.hidden} with {self.heads} heads and {self.feed} in between, "
                f"{self.parameters / 1e6:.2f} M parameters without embeddings, {self.tokens / 1e6:,.1f} M tokens, "
                f"{self.batch_tokens:,.0f} tokens a batch, learning rate {self.learning_rate:.2g}")

    def overruled(self, model: Mapping[str, Any], trainer: Mapping[str, Any]) -> list[str]:
        """What settings say otherwise, as NAME=VALUE."""
        rest = self.trainer(trainer["sequence_length"])
        groups = (("model", self.model(), model), ("trainer.optimizer", rest.pop("optimizer"), trainer["optimizer"]),
                  ("trainer", rest, trainer))
        return [f"{group}.{name}={given[name]}" for group, dial, given in groups for name in dial
                if given[name] != dial[name]]


def derive(settings: DialSettings) -> Derived:
    """Shape by depth; tokens by their ratio; batch and rate by the compute C = 6 N D."""
    depth = settings.depth or min(range(1, LARGEST_DEPTH + 1),
                                  key=lambda one: abs(math.log(_blocks(one) / (settings.parameters or 1.0))))
    hidden = WIDTH_PER_LAYER * depth
    parameters = _blocks(depth)
    tokens = settings.tokens_per_parameter * parameters
    return Derived(depth, hidden, hidden // _head(hidden), _feed(hidden), parameters, tokens,
                   *batch_and_rate(6.0 * parameters * tokens))


def batch_and_rate(compute: float) -> tuple[float, float]:
    """Tokens of a batch and the learning rate for so many FLOPs, as fitted in DeepSeek LLM (2401.02954, section 3.1):
    0.2920 C^0.3271 and 0.3118 C^-0.125. Its own models, 7B and 67B on 2e12 tokens, are within 3 % of it."""
    return 0.2920 * compute**0.3271, 0.3118 * compute**-0.125


def _head(hidden: int) -> int:
    """LLaMA's heads of 128 from a width on that leaves 16 of them."""
    return 128 if hidden >= 2048 and hidden % 128 == 0 else 64


def _feed(hidden: int) -> int:
    """8/3 of the hidden size, up to a multiple of 128 (Baichuan 2's rule)."""
    return math.ceil(8 * hidden / 3 / 128) * 128


def _blocks(depth: int) -> int:
    """Parameters of the blocks at a depth: attention, gated feed-forward and two norms."""
    hidden = WIDTH_PER_LAYER * depth
    return depth * (4 * hidden**2 + 3 * hidden * _feed(hidden) + 2 * hidden)
