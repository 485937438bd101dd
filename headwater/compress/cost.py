"""What a model says and what it costs, in a row that is held against the row of another."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from headwater import plan
from headwater.compress.quality import Quality
from headwater.model import Decoder
from headwater.model.removal import without_blocks
from headwater.model.stepper import stepper_of

DECODED, ROUNDS, PROMPT = 32, 7, 32
"""Tokens one by one, times that they are timed, and tokens before them."""


class Cost(NamedTuple):
    """Of one model."""

    bits_per_byte: dict[str, float]
    """By language, of validation text."""
    accuracy: dict[str, float]
    """By BENCHMARK.LANGUAGE, of questions with four choices."""
    parameters: int
    bytes: int
    """Of the weights."""
    memory: int
    """With the keys and values of one text as long as the model reads."""
    tokens_per_second: float
    """Decoded at batch 1."""

    @classmethod
    def of(cls, model: Decoder, quality: Quality, speed: float) -> Cost:
        """speed: its tokens a second."""
        weights, config = weight_bytes(model), model.config
        cached = config.seen(config.longest) * plan.cache_bytes_per_token(config, model.dtype.itemsize)
        return cls(quality.bits_per_byte(model), quality.accuracy(model), plan.parameters(config), weights,
                   weights + cached, speed)

    def figures(self, when: str) -> dict[str, float]:
        """Named QUANTITY.WHEN."""
        said = {f"text.{language}.bits_per_byte.{when}": value for language, value in self.bits_per_byte.items()}
        right = {f"{name}.accuracy.{when}": value for name, value in self.accuracy.items()}
        rest = {name: float(getattr(self, name)) for name in ("parameters", "bytes", "memory", "tokens_per_second")}
        return {**said, **right, **{f"{name}.{when}": value for name, value in rest.items()}}


def weight_bytes(model: Decoder) -> int:
    """Of the weights, a tied head counted once."""
    own = {id(one): one for one in model.state_dict(keep_vars=True).values()}
    return sum(one.nbytes for one in own.values())


@torch.inference_mode()
def decoding_speeds(model: Decoder, layers: Collection[int], prompt: Tensor) -> tuple[float, float]:
    """Tokens a second with these blocks and without, one by one behind a prompt [T]: the fastest of rounds in turn."""
    whole = without = 0.0
    for _ in range(ROUNDS):
        whole = max(whole, _speed(model, prompt[:PROMPT]))
        with without_blocks(model, layers):
            without = max(without, _speed(model, prompt[:PROMPT]))
    return whole, without


def speeds_in_turn(one: Decoder, other: Decoder, prompt: Tensor) -> tuple[float, float]:
    """The same of two models."""
    rounds = [(_speed(one, prompt[:PROMPT]), _speed(other, prompt[:PROMPT])) for _ in range(ROUNDS)]
    return max(first for first, _ in rounds), max(second for _, second in rounds)


def decoding_speed(model: Decoder, prompt: Tensor) -> float:
    """The same of one."""
    return max(_speed(model, prompt[:PROMPT]) for _ in range(ROUNDS))


@torch.inference_mode()
def _speed(model: Decoder, prompt: Tensor) -> float:
    cache = model.cache(1, len(prompt) + DECODED)
    token = int(model(prompt[None].to(model.device), cache=cache)[:, -1].argmax())
    step = stepper_of(model, cache)
    if step is not None:  # on a GPU the first compiles, and the second is captured
        for _ in range(2):
            step([token], [len(prompt)])
    start = time.perf_counter()
    for slot in range(len(prompt), len(prompt) + DECODED):
        logits = (model(torch.tensor([[token]], device=model.device), cache=cache)[:, -1] if step is None
                  else step([token], [slot]))
        token = int(logits.argmax())
    return DECODED / (time.perf_counter() - start)


def cost_table(models: Mapping[str, Cost]) -> Table:
    """A column for each model."""
    table = Table(title="what it says and what it costs", title_justify="left")
    table.add_column("")
    for name in models:
        table.add_column(name, justify="right")
    for quantity, cells in _cells(list(models.values())):
        table.add_row(quantity, *cells)
    return table


def _cells(costs: Sequence[Cost]) -> Iterator[tuple[str, list[str]]]:
    for language in costs[0].bits_per_byte:
        yield f"bits per byte, {language}", [f"{one.bits_per_byte[language]:.4f}" for one in costs]
    for name in costs[0].accuracy:
        yield f"{name.replace('.', ', ')}, right", [f"{one.accuracy[name]:.1%}" for one in costs]
    yield "parameters", [f"{one.parameters:,}" for one in costs]
    yield "weights, MB", [f"{one.bytes / 1e6:,.1f}" for one in costs]
    yield "with a full context, MB", [f"{one.memory / 1e6:,.1f}" for one in costs]
    yield "tokens/s, batch 1", [f"{one.tokens_per_second:,.0f}" for one in costs]
