"""Does the max-z loss keep logits small, and answers robust to a repetition penalty?

Baichuan 2 (2309.10305, section 2.7) adds 2e-4 (max z)^2 to the loss: unbounded logits drift upwards, and a repetition
penalty, which divides logits, then moves the distribution by an amount that depends on where they drifted to. The same
models without the term and with it at several weights, at a large rate and without weight decay, so that logits may
grow. Expected, if the claim holds: with it the mean largest logit is lower by 30 % or more, the cross-entropy within
1 %, and a repetition penalty of 1.1 moves the top-p distribution (total variation) less.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from headwater.generate.sampling import repetition_penalised
from headwater.model import Decoder
from headwater.plots import bars
from headwater.progress import say
from headwater.studies.learners import ComparedSettings, ShapedSettings, Text, train
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, once, tell
from headwater.train.loss import Penalties
from headwater.train.objective import NextToken
from headwater.train.optimizer import OptimizerSettings

LOWER, NEAR = 0.30, 0.01
"""Shares: by which the largest logit falls at least, and by which the cross-entropy may differ."""
COLUMNS = {"max_logit": "mean largest logit", "cross_entropy": "cross-entropy, nats",
           "moved": "moved by the penalty"}


class MaxZSettings(ShapedSettings, ComparedSettings):
    """The models, the term's weight and the repetition penalty."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """Large on purpose."""
    hidden_size: Annotated[int, Field(ge=16)] = 64
    layers: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 2
    weights: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (2e-4, 2e-3, 2e-2)
    """Of the term: Baichuan's, whose pull adds up over its many steps, and larger ones for the hundreds of these."""
    steps: Annotated[int, Field(ge=1)] = 600
    repetition_penalty: Annotated[float, Field(gt=1)] = 1.1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9


class Result(NamedTuple):
    """One model on unseen text."""

    weight: float
    seed: int
    cross_entropy: float
    max_logit: float
    moved: float
    """Mean total variation between the top-p distributions with and without the repetition penalty."""


def run(out: Path, settings: MaxZSettings) -> list[Result]:
    """Train both kinds of model; print the table, write `max-z.json` and `max-z.svg` into `out`. A model that is
    trained already is not trained again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    text = settings.text(out / "text")
    weights = (0.0, *settings.weights)
    found = [_result(weight, seed, settings, text, out) for seed in settings.each_seed() for weight in weights]
    means = {weight: {name: Estimate.of(getattr(one, name) for one in found if one.weight == weight)
                      for name in COLUMNS} for weight in weights}
    table = make_table(f"Max-z loss at a learning rate of {settings.learning_rate:g}, {settings.seeds} models each",
                       ["weight", *COLUMNS.values()],
                       [(f"{weight:g}", *(row[name].words() for name in COLUMNS)) for weight, row in means.items()])
    drawn = {words: {f"{weight:g}": (row[name].mean, 2 * row[name].error) for weight, row in means.items()}
             for name, words in COLUMNS.items()}
    tell(out, "max-z", [one._asdict() for one in found], table,
         [verdict for weight in settings.weights for verdict in verdicts(found, weight)],
         bars(drawn, title="Max-z loss, by its weight"))
    return found


def verdicts(results: list[Result], weight: float) -> list[Verdict]:
    """By pairs of models of one seed, without the term and with it at this weight."""
    pairs = list(zip([one for one in results if not one.weight], [one for one in results if one.weight == weight]))
    lower = [1 - with_it.max_logit / without.max_logit for without, with_it in pairs]
    off = Estimate.of(with_it.cross_entropy / without.cross_entropy - 1 for without, with_it in pairs)
    return [
        judge(f"at {weight:g} the mean largest logit is lower by {LOWER:.0%} or more "
              f"({Estimate.of(lower).words('.1%')})", [share - LOWER for share in lower]),
        judge(f"at {weight:g} the cross-entropy is within {NEAR:.0%} ({off.words('+.2%')})",
              Estimate(NEAR - abs(off.mean), off.error, off.number)),
        judge(f"at {weight:g} a repetition penalty moves the top-p distribution less",
              [without.moved - with_it.moved for without, with_it in pairs])]


def _result(weight: float, seed: int, settings: MaxZSettings, text: Text, out: Path) -> Result:
    name = f"weight-{weight:g}-{seed}"

    def measure() -> dict[str, float]:
        say(f"max-z: {name}")
        optimizer = OptimizerSettings(learning_rate=settings.learning_rate, weight_decay=0.0, warmup_steps=20)
        model = train(out / name, settings.shaped(text.vocabulary), settings.stream(text, seed),
                      settings.trainer(optimizer=optimizer), seed, NextToken(Penalties(max_z=weight)))
        found = settings.losses(model, text)
        return {"cross_entropy": found.cross_entropy, "max_logit": found.max_logit,
                "moved": _moved(model, settings, text)}

    return Result(weight, seed, **once(out / f"{name}.json", measure))


@torch.no_grad()
def _moved(model: Decoder, settings: MaxZSettings, text: Text) -> float:
    """Over the second halves of rows of unseen text, the penalty on every token of the row so far."""
    tokens = settings.unseen(text).batch(0).tokens  # [B,T]
    logits, half = model(tokens)[:, settings.length // 2:].float(), settings.length // 2
    moved = []
    for place in range(logits.shape[1]):
        seen = torch.zeros(logits[:, place].shape, dtype=torch.bool).scatter_(1, tokens[:, : half + place + 1], True)
        penalty = torch.full((len(tokens),), settings.repetition_penalty)
        changed = repetition_penalised(logits[:, place], seen, penalty)
        moved.append(total_variation(top_p(logits[:, place], settings.top_p), top_p(changed, settings.top_p)))
    return float(torch.cat(moved).mean())


def top_p(logits: Tensor, p: float) -> Tensor:
    """Probabilities [B,V] of the smallest set of likeliest tokens whose mass is p or more, 0 elsewhere."""
    values, order = logits.softmax(-1).sort(-1, descending=True)
    kept = values * (values.cumsum(-1) - values < p)
    return torch.zeros_like(values).scatter_(-1, order, kept / kept.sum(-1, keepdim=True))


def total_variation(left: Tensor, right: Tensor) -> Tensor:
    """Half of the sum of the differences between distributions [B,V]: [B], from 0 to 1."""
    return (left - right).abs().sum(-1) / 2
