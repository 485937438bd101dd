"""Marks planted in a text and asked for at its end: a test of looking back that a model of a million parameters learns
within hundreds of steps, where needles of words and digits stay at chance.

Of each kind one mark stands in the text, one of several values; at the end a question of each kind is followed by the
value that was planted. Marks and questions are ids of their own behind the tokenizer's. So an answer takes one look
back, by what a mark is and whatever its distance, which is what RoPE's bound is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headwater.model import Decoder
from headwater.model.intervals import Intervals
from headwater.train.batches import IGNORE, Batch, Ints, Sample, counted, last_seen, lay, own_rows
from headwater.train.loss import Penalties, projected_cross_entropy
from headwater.train.objective import Outcome, head_matrix
from headwater.train.streams import StreamBatches

KINDS, VALUES = 4, 8
IDS = KINDS * VALUES + KINDS
"""Values by kind, then questions."""
TOKENS = 8192
"""Read in one pass."""


class Planted(NamedTuple):
    """A text as long as before, its last tokens given up for marks and questions."""

    tokens: Ints
    """[n]."""
    marks: Ints
    """[KINDS]: where they stand."""
    questions: Ints
    """[KINDS]: where they stand; the answer is the next token."""


def plant(ids: Ints, first: int, draw: np.random.Generator, depth: float | None = None) -> Planted:
    """Marks in a text [n], before tokens drawn evenly, or all at one depth, a share of the text. first: of the ids."""
    body = ids[: len(ids) - 3 * KINDS]
    values = first + np.arange(KINDS) * VALUES + draw.integers(VALUES, size=KINDS)
    # Behind the first token, which is <bos>.
    places = np.sort(draw.integers(1, len(body), size=KINDS)) if depth is None else np.full(
        KINDS, max(1, int(depth * len(body))))
    order = draw.permutation(KINDS)
    asked = draw.permutation(KINDS)
    tail = np.stack((first + KINDS * VALUES + asked, values[asked]), 1).ravel()
    marks = places + np.arange(KINDS)
    tokens = np.concatenate((np.insert(body, places, values[order]), tail))
    return Planted(tokens, marks, np.arange(KINDS) * 2 + len(body) + KINDS)


class PlantedBatches:
    """Rows of a text's stream, in the last `planted` of which marks are asked for."""

    def __init__(self, stream: StreamBatches, planted: int, first: int, seed: int) -> None:
        self.stream, self.planted, self.first, self.seed = stream, planted, first, seed

    @property
    def batches_per_epoch(self) -> float:
        return self.stream.batches_per_epoch

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        plain = self.stream.batch(step, rank, ranks)
        chosen = [place for place, row in enumerate(own_rows(self.stream.rows, rank, ranks))
                  if row >= self.stream.rows - self.planted]
        draws = [np.random.default_rng([self.seed, step, rank, place]) for place in chosen]
        rows = [self._sample(plain.tokens[place].numpy(), draw) for place, draw in zip(chosen, draws, strict=True)]
        kept = len(plain.tokens) - len(rows)
        written = lay([[row] for row in rows], self.stream.length, pad=self.stream.pad)
        return Batch(*(torch.cat((one[:kept], two)) for one, two in zip(plain, written, strict=True)))

    def _sample(self, ids: Ints, draw: np.random.Generator) -> Sample:
        """All of the row as one text; nobody can tell where a mark comes."""
        tokens, marks, _ = plant(ids, self.first, draw)
        targets, size = np.append(tokens[1:], IGNORE), len(tokens)
        targets[marks - 1] = IGNORE
        return Sample(tokens, targets, counted(size, 1), last_seen(size, 0), np.full(size, -1))


class Emphasised:
    """The next token's cross-entropy, in which an answer counts `weight` times: they are few."""

    def __init__(self, first: int, weight: float) -> None:
        self.questions, self.weight = first + KINDS * VALUES, weight

    def __call__(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        hidden = model.hidden(batch.tokens, batch.intervals, batch.positions).flatten(0, 1)
        matrix, group = head_matrix(model)
        answers = batch.targets.masked_fill(batch.tokens < self.questions, IGNORE)
        plain, more = (projected_cross_entropy(hidden, matrix, targets.flatten(), over, Penalties(), group)
                       for targets, over in ((batch.targets, divisor), (answers, divisor / (self.weight - 1))))
        return Outcome(plain.loss + more.loss, {"cross_entropy": plain.cross_entropy, "max_z": plain.max_z})


@torch.inference_mode()
def found(model: Decoder, texts: Tensor, first: int, depths: Sequence[float]) -> list[float]:
    """The share of marks found again in texts [N,T], by depth."""
    shares = []
    for depth in depths:
        rows = [plant(text.numpy(), first, np.random.default_rng([number, round(1000 * depth)]), depth)
                for number, text in enumerate(texts)]
        hits = [_hits(model, torch.from_numpy(np.stack([row.tokens for row in some])),
                      torch.from_numpy(np.stack([row.questions for row in some])))
                for some in _parts(rows, max(1, TOKENS // texts.shape[1]))]
        shares.append(float(torch.cat(hits).float().mean()))
    return shares


def _parts(rows: list[Planted], size: int) -> list[list[Planted]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _hits(model: Decoder, tokens: Tensor, questions: Tensor) -> Tensor:
    """Whether the likeliest token after each question [B,KINDS] is the answer."""
    rows = torch.arange(len(tokens))[:, None]
    hidden = model.hidden(tokens, Intervals.causal(torch.zeros_like(tokens)))[rows, questions]
    return model.head(hidden).argmax(-1) == tokens[rows, questions + 1]
