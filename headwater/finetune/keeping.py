"""Keeping what a model knew while it learns to converse: replay of general text, nearness to the model that it was."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field, model_validator

from headwater.model import Decoder
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, Batch, Batches, own_rows
from headwater.train.layouts import Causal
from headwater.train.loss import divergence
from headwater.train.objective import Outcome, Reference, head_matrix, next_token
from headwater.train.stage import split_shards
from headwater.train.streams import StreamBatches


class ReplaySettings(Settings):
    """General text between the dialogues."""

    corpus: InputPath | None = None
    """A corpus folder; its training split is read."""
    share: float = Field(default=0.0, ge=0, lt=1)
    """Of the rows of every batch; predicted token by token as in pretraining."""

    @model_validator(mode="after")
    def _goes_together(self) -> ReplaySettings:
        if (self.corpus is None) != (self.share == 0):
            raise ValueError("replay needs both a corpus and a share")
        return self

    def rows(self, rows: int) -> int:
        """Of so many, those that replay. Raises `ValueError` where the share leaves none of either."""
        found = round(rows * self.share)
        if self.share and not 0 < found < rows:
            raise ValueError(f"replay.share {self.share} of {rows} rows is {found}: give more rows, or another share")
        return found


class Replayed(NamedTuple):
    """Batches of dialogues whose last rows are general text."""

    dialogues: Batches
    texts: Batches
    rows: int
    tokens: int
    """Of all dialogues, behind which the texts' places are counted."""

    @property
    def batches_per_epoch(self) -> float:
        """That read the dialogues once."""
        return self.dialogues.batches_per_epoch

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        own, texts = list(own_rows(self.rows, rank, ranks)), self.texts.batch(step)
        texts = texts._replace(places=torch.where(texts.places < 0, -1, texts.places + self.tokens))
        both = zip(self.dialogues.batch(step), texts, strict=True)
        return Batch(*(torch.cat(pair)[own] for pair in both))


def texts_of(settings: ReplaySettings, tokenizer: Tokenizer, source: Path, out: Path, *, rows: int, length: int,
             seed: int, axes: int) -> StreamBatches:
    """So many rows of general text a batch, for `Replayed`. source: where the tokenizer was loaded from."""
    assert settings.corpus is not None
    shards = split_shards(settings.corpus, "train", tokenizer, source, out)
    return StreamBatches(shards, rows=rows, length=length, seed=seed, layout=Causal(axes), pad=tokenizer.pad)


class NearBase:
    """The next token's cross-entropy and, at the same targets, `weight` times KL(base || model)."""

    def __init__(self, weight: float, base: Reference) -> None:
        self.weight, self.base = weight, base

    def __call__(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        hidden = model.hidden(batch.tokens, batch.intervals, batch.positions)  # [B,T,D]
        plain = next_token.of(model, hidden, batch, divisor)
        used = batch.targets != IGNORE
        near, near_weight = self.base(model, batch)
        apart = divergence(hidden[used], head_matrix(model)[0], near[used], near_weight, divisor)
        return Outcome(plain.loss + self.weight * apart, {**plain.sums, "divergence": apart.detach() * divisor})
