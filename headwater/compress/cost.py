"""What a model says and what it costs, in a row that is held against the row of another."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from headwater import plan
from headwater.model import Decoder
from headwater.model.removal import without_blocks
from headwater.model.stepper import stepper_of
from headwater.tokenizer.shards import Documents
from headwater.train.blanks import BlankInfilling
from headwater.train.validation import TOKENS_PER_BATCH, bits_per_byte

DECODED, ROUNDS, PROMPT = 32, 7, 32
"""Tokens one by one, times that they are timed, and tokens before them."""


class Cost(NamedTuple):
    """Of one model."""

    bits_per_byte: dict[str, float]
    """By language, of validation text."""
    parameters: int
    bytes: int
    """Of the weights."""
    memory: int
    """With the keys and values of one text as long as the model reads."""
    tokens_per_second: float
    """Decoded at batch 1."""

    @classmethod
    def of(cls, model: Decoder, held_out: Documents | None, speed: float, blank: BlankInfilling | None = None) -> Cost:
        """held_out: the validation text; speed: its tokens a second."""
        length = min(model.config.longest, TOKENS_PER_BATCH)
        said = {} if held_out is None else bits_per_byte(model, held_out, length, blank)
        weights, config = weight_bytes(model), model.config
        cached = config.seen(config.longest) * plan.cache_bytes_per_token(config, model.dtype.itemsize)
        return cls(said, plan.parameters(config), weights, weights + cached, speed)

    def figures(self, when: str) -> dict[str, float]:
        """Named QUANTITY.WHEN."""
        said = {f"text.{language}.bits_per_byte.{when}": value for language, value in self.bits_per_byte.items()}
        rest = {name: float(getattr(self, name)) for name in ("parameters", "bytes", "memory", "tokens_per_second")}
        return {**said, **{f"{name}.{when}": value for name, value in rest.items()}}


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


@torch.inference_mode()
def _speed(model: Decoder, prompt: Tensor) -> float:
    cache = model.cache(1, len(prompt) + DECODED)
    token = int(model(prompt[None].to(model.device), cache=cache)[:, -1].argmax())
    step = stepper_of(model, cache)
    start = time.perf_counter()
    for slot in range(len(prompt), len(prompt) + DECODED):
        logits = (model(torch.tensor([[token]], device=model.device), cache=cache)[:, -1] if step is None
                  else step([token], [slot]))
        token = int(logits.argmax())
    return DECODED / (time.perf_counter() - start)


def cost_table(rows: Mapping[str, Cost]) -> Table:
    """A row for each model."""
    table = Table(title="what it says and what it costs", title_justify="left")
    languages = list(next(iter(rows.values())).bits_per_byte)
    for name in ("", *(f"bits per byte, {language}" for language in languages), "parameters", "weights, MB",
                 "with a full context, MB", "tokens/s, batch 1"):
        table.add_column(name, justify="right" if name else "left")
    for name, row in rows.items():
        table.add_row(name, *(f"{row.bits_per_byte[language]:.4f}" for language in languages), f"{row.parameters:,}",
                      f"{row.bytes / 1e6:,.1f}", f"{row.memory / 1e6:,.1f}", f"{row.tokens_per_second:,.0f}")
    return table
