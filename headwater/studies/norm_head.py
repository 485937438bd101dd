"""Does NormHead, an output projection whose rows have length one, make training steadier?

Baichuan 2 (2309.10305, section 2.6) found that the rows of rare tokens shrink in training, which disturbs it, and that
the distance of a row tells little of meaning: with rows brought to length one, training was "considerably" steadier.
The same models with both heads, at a usual learning rate and at a large one. Expected, if the claim holds: without it
the rows of rare tokens are shorter than 0.8 of those of frequent ones, with it all in use have length one and the plain
matrix made from them gives the same logits; the loss rises less from the usual rate to the large one, and the
gradient's norm varies less from step to step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from headwater.artifacts import read_jsonl
from headwater.model import Decoder
from headwater.plots import bars
from headwater.progress import say
from headwater.studies.learners import ComparedSettings, ShapedSettings, Text, train
from headwater.studies.trials import Estimate, Verdict, fact, judge, keep, make_table, once, tell

Head = Literal["linear", "normalized"]
HEADS: tuple[Head, ...] = ("linear", "normalized")
RARER = 0.8
"""Of the length of frequent tokens' rows."""
SAME = 1e-4
"""Largest difference of logits between NormHead and the plain head made from it, and of its rows from one."""
COLUMNS = {"loss": "loss, nats a token", "unrest": "step-to-step change of the gradient's norm",
           "rarity": "row lengths, rare / frequent"}


class NormHeadSettings(ShapedSettings, ComparedSettings):
    """The models and the two rates."""

    large_rate: Annotated[float, Field(gt=1)] = 8.0
    """The large learning rate, as a multiple of the usual one."""


class Result(NamedTuple):
    """One model."""

    head: Head
    rate: float
    seed: int
    loss: float
    """On unseen text."""
    unrest: float
    """Mean absolute change of the logarithm of the gradient's norm between two steps, after the warm-up."""
    rarity: float
    """Mean length of the rows in use of the rarer half of the tokens that were read, over that of the tenth of them
    that is most frequent."""
    off_one: float
    """The most that a row in use is off the length one."""
    converted: float
    """The most that logits of the plain head made from it differ."""


def run(out: Path, settings: NormHeadSettings) -> list[Result]:
    """Train every kind of model; print the table, write `normhead.json` and `normhead.svg` into `out`. A model that is
    trained already is not trained again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    text = settings.text(out / "text")
    rates = (settings.learning_rate, settings.learning_rate * settings.large_rate)
    found = [_result(head, rate, seed, settings, text, out) for seed in settings.each_seed() for rate in rates
             for head in HEADS]
    means = {(rate, head): {name: Estimate.of(getattr(one, name) for one in found if (one.rate, one.head) ==
                                              (rate, head)) for name in COLUMNS} for rate in rates for head in HEADS}
    table = make_table(f"NormHead, {settings.seeds} models each", ["rate, head", *COLUMNS.values()],
                       [(f"{rate:g}, {head}", *(row[name].words() for name in COLUMNS))
                        for (rate, head), row in means.items()])
    drawn = {words: {f"{head}\n{rate:g}": (row[name].mean, 2 * row[name].error)
                     for (rate, head), row in means.items()} for name, words in COLUMNS.items()}
    tell(out, "normhead", [one._asdict() for one in found], table, verdicts(found, rates),
         bars(drawn, title="Plain head and NormHead at two learning rates"))
    return found


def verdicts(results: list[Result], rates: tuple[float, float]) -> list[Verdict]:
    """Models of one seed are compared with each other."""
    def of(head: Head, rate: float) -> list[Result]:
        return [one for one in results if (one.head, one.rate) == (head, rate)]

    usual, large = rates
    normalized = [one for one in results if one.head == "normalized"]
    found = [fact(f"NormHead's rows in use have length one (off by {max(one.off_one for one in normalized):.1e})",
                  SAME - max(one.off_one for one in normalized)),
             fact("the plain head made from it gives the same logits (off by "
                  f"{max(one.converted for one in normalized):.1e})",
                  SAME - max(one.converted for one in normalized))]
    for rate in rates:
        plain, other = of("linear", rate), of("normalized", rate)
        pairs = list(zip(plain, other))
        found += [judge(f"at rate {rate:g} the plain head's rows of rare tokens are shorter than {RARER} of frequent "
                        "tokens'", [RARER - one.rarity for one in plain]),
                  judge(f"at rate {rate:g} NormHead's loss is lower", [one.loss - two.loss for one, two in pairs]),
                  judge(f"at rate {rate:g} NormHead's gradient norm varies less",
                        [one.unrest - two.unrest for one, two in pairs])]
    rises = [[far.loss - near.loss for near, far in zip(of(head, usual), of(head, large))] for head in HEADS]
    return [*found, judge("from the usual rate to the large one NormHead's loss rises less",
                          [plain - other for plain, other in zip(*rises)])]


def _result(head: Head, rate: float, seed: int, settings: NormHeadSettings, text: Text, out: Path) -> Result:
    name = f"{head}-{rate:g}-{seed}"

    def measure() -> dict[str, float]:
        say(f"normhead: {name}")
        trainer = settings.trainer(learning_rate=rate, log_every=1)
        model = train(out / name, settings.shaped(text.vocabulary, head=head), settings.stream(text, seed), trainer,
                      seed)
        norms = np.array([row["grad_norm"] for row in read_jsonl(out / name / "metrics.jsonl")])
        return {"loss": settings.losses(model, text).cross_entropy,
                "unrest": float(np.abs(np.diff(np.log(norms[trainer.optimizer.warmup_steps:]))).mean()),
                **_rows(model, _counts(settings, text, seed, model.config.vocab_size)),
                "converted": _converted(model, settings, text)}

    return Result(head, rate, seed, **once(out / f"{name}.json", measure))


def _counts(settings: NormHeadSettings, text: Text, seed: int, vocabulary: int) -> NDArray[np.int64]:
    """How often training has read each token."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    stream = settings.stream(text, seed)
    for step in range(settings.steps):
        counts += np.bincount(stream.batch(step).tokens.flatten().numpy(), minlength=vocabulary)
    return counts


def _rows(model: Decoder, counts: NDArray[np.int64]) -> dict[str, float]:
    lengths = model.head.matrix(model.head.weight).detach().norm(dim=1).numpy()
    read = np.flatnonzero(counts)
    by_count = read[np.argsort(-counts[read], kind="stable")]
    frequent, rare = by_count[: max(1, len(read) // 10)], by_count[len(read) // 2:]
    return {"rarity": float(lengths[rare].mean() / lengths[frequent].mean()),
            "off_one": float(np.abs(lengths - 1).max())}


@torch.no_grad()
def _converted(model: Decoder, settings: NormHeadSettings, text: Text) -> float:
    """Between the model and the same with a plain head."""
    tokens = settings.unseen(text).batch(0).tokens[:2]
    plain = Decoder(model.config.model_copy(update={"head": "linear"}))
    plain.load_state_dict({**model.state_dict(), "head.weight": model.head.matrix(model.head.weight)})
    return float((plain.eval()(tokens) - model(tokens)).abs().max())
