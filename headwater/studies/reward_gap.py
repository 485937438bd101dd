"""Does a reward model agree more with its annotators the surer they are, and do margins help where they are surest?

Baichuan 2 (2309.10305) reports a reward model's accuracy by the gap between two answers, from 54.5 % of the pairs that
annotators were unsure about to 81.5 % of the clearest; LLaMA 2 (2307.09288, appendix A.3.3) that its large margins
raise the accuracy of the clearest pairs and not of the closest. Here everything is planted: each token has a worth, an
answer is worth the sum of its tokens', an annotator sees the difference of two answers with logistic noise upon it, so
that the better one is preferred with the chance that Bradley and Terry's model gives it, and says from 1 to 5 how
large it looked. Small models learn from such pairs without margins and with LLaMA 2's. Expected, if the claims hold:
accuracy rises from gap to gap, by 20 points or more from the first to the last; the large margins raise it at the last,
and not as much at the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from headwater.align.preference_forms import RATINGS
from headwater.align.preferences import Preference
from headwater.align.ranking import Margins, Ranking
from headwater.align.reward_model import REWARD
from headwater.hardware import cores
from headwater.model import ModelConfig
from headwater.model.task_head import TaskHead
from headwater.plots import lines_with_errors
from headwater.progress import say
from headwater.settings import Seed, Settings
from headwater.studies.learners import train
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, once, tell
from headwater.train.batches import IGNORE
from headwater.train.optimizer import OptimizerSettings
from headwater.train.packing import PackedBatches, PrefixSample
from headwater.train.settings import TrainerSettings

GAPS = 5
ARMS: tuple[Margins, ...] = ("none", "small", "large")
NAMES = (*ARMS, "best")
PUBLISHED = (0.545, 0.611, 0.702, 0.778, 0.815)
"""Baichuan 2's, unsure to significantly better."""
RISE = 0.20
TOKENS, END = 64, 65
"""Ids 1 to 64 have a worth; 0 is padding."""


class RewardGapSettings(Settings):
    """The planted pairs and the models."""

    pairs: Annotated[int, Field(ge=10)] = 1000
    """That each model learns from."""
    epochs: Annotated[float, Field(gt=0)] = 4
    held_out: Annotated[int, Field(ge=50)] = 10_000
    answer: Annotated[int, Field(ge=1)] = 12
    """Tokens of an answer."""
    spread: Annotated[float, Field(gt=0)] = 1.2
    """Deviation of the planted difference of two answers, where that of the annotator's noise is 1.8."""
    seeds: Annotated[int, Field(ge=1)] = 16
    """Worlds, in each of which a model of every kind learns from the same pairs."""
    seed: Seed = 0
    hidden_size: Annotated[int, Field(ge=16, multiple_of=16)] = 32
    layers: Annotated[int, Field(ge=1)] = 2
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    rows: Annotated[int, Field(ge=1)] = 16
    """Of 8 pairs each, in a batch."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 means all cores."""

    @property
    def row(self) -> int:
        """Tokens of a row."""
        return 8 * 2 * (self.answer + 1)

    def trainer(self) -> TrainerSettings:
        return TrainerSettings(epochs=self.epochs, rows=self.rows, sequence_length=self.row, precision="float32",
                               threads=self.threads, compile="off", record_places=False,
                               optimizer=OptimizerSettings(learning_rate=self.learning_rate, warmup_steps=5))

    def config(self) -> ModelConfig:
        return ModelConfig.parse({"vocab_size": TOKENS + 2, "hidden_size": self.hidden_size, "num_attention_heads": 2,
                                  "num_hidden_layers": self.layers, "intermediate_size": 2 * self.hidden_size,
                                  "max_position_embeddings": self.row})


class Judgements(NamedTuple):
    """What an annotator said of pairs, the preferred answer first."""

    answers: Tensor
    """int64 [N,2,answer+1], each with the end mark."""
    gaps: Tensor
    """[N]: 1, unsure, to 5, clearest; as many of each."""
    right: Tensor
    """bool [N]: whether the preferred answer is worth more."""


class Result(NamedTuple):
    """One model, or one that knows what answers are worth."""

    margins: str
    seed: int
    accuracy: list[float]
    """By gap."""


def run(out: Path, settings: RewardGapSettings) -> list[Result]:
    """Train every kind of model; print the table, write `reward-gap.json` and `reward-gap.svg` into `out`. A model that
    is trained already is not trained again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    torch.set_num_threads(settings.threads or cores())
    seeds = range(settings.seed, settings.seed + settings.seeds)
    found = [_result(name, seed, settings, out) for seed in seeds for name in NAMES]
    means = {name: [Estimate.of(one.accuracy[gap] for one in found if one.margins == name) for gap in range(GAPS)]
             for name in NAMES}
    titles = {name: f"margins {name}" if name in ARMS else "who knows the worth" for name in means}
    rows = [(titles[name], *(one.words(".1%") for one in row)) for name, row in means.items()]
    rows.append(("Baichuan 2 (published)", *(f"{share:.1%}" for share in PUBLISHED)))
    table = make_table(f"Agreement with an annotator by gap, {settings.seeds} worlds",
                       ["", *(f"gap {gap}" for gap in range(1, GAPS + 1))], rows)
    drawn = {titles[name]: [(one.mean, 2 * one.error) for one in row] for name, row in means.items()}
    tell(out, "reward-gap", [one._asdict() for one in found], table, verdicts(found),
         lines_with_errors(drawn, range(1, GAPS + 1), x="gap that the annotator saw", y="agreement",
                           title="Reward models by gap"))
    return found


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """By worlds."""
    def of(name: str) -> list[list[float]]:
        return [one.accuracy for one in results if one.margins == name]

    def gains(gap: int) -> list[float]:
        return [large[gap] - none[gap] for none, large in zip(of("none"), of("large"))]

    rises = [row[-1] - row[0] for row in of("none")]
    steps = [min(high - low for low, high in pairwise(row)) for row in of("none")]
    return [judge(f"accuracy rises from each gap to the next, the least by {Estimate.of(steps).words('.1%')}", steps),
            judge(f"it rises by {RISE:.0%} or more from the first to the last ({Estimate.of(rises).words('.1%')})",
                  [rise - RISE for rise in rises]),
            judge(f"large margins raise the accuracy of the clearest pairs ({Estimate.of(gains(-1)).words('+.2%')})",
                  gains(-1)),
            judge(f"they raise it more than that of the closest ({Estimate.of(gains(0)).words('+.2%')})",
                  [last - first for first, last in zip(gains(0), gains(-1))])]


def _result(name: str, seed: int, settings: RewardGapSettings, out: Path) -> Result:
    def measure() -> list[float]:
        held_out = judgements(settings, seed, settings.held_out, 1)
        if name == "best":
            return _by_gap(held_out.right, held_out.gaps)
        say(f"reward-gap: margins {name}, world {seed}")
        return _learned(name, seed, settings, out / f"{name}-{seed}", held_out)  # type: ignore[arg-type]

    return Result(name, seed, once(out / f"{name}-{seed}.json", measure))


def _learned(name: Margins, seed: int, settings: RewardGapSettings, folder: Path, held_out: Judgements) -> list[float]:
    learned = judgements(settings, seed, settings.pairs, 0)
    preferences = [Preference([], [], None if gap == 1 else RATINGS[GAPS - gap]) for gap in learned.gaps.tolist()]
    head = TaskHead("regression", settings.hidden_size, [REWARD]).draw(seed)
    batches = PackedBatches([_sample(ids, number) for number, ids in enumerate(learned.answers.flatten(0, 1).tolist())],
                            rows=settings.rows, length=settings.row, seed=seed, pad=0, together=2)
    model = train(folder, settings.config(), batches, settings.trainer(), seed, Ranking(head, preferences, name))
    with torch.inference_mode():
        rewards = torch.cat([head(model.hidden(part)[:, -1])[:, 0]
                             for part in held_out.answers.flatten(0, 1).split(1000)]).view(-1, 2)
    return _by_gap(rewards[:, 0] > rewards[:, 1], held_out.gaps)


def _sample(ids: list[int], number: int) -> PrefixSample:
    return PrefixSample(ids, [False] * len(ids), targets=[IGNORE] * (len(ids) - 1) + [number])


def _by_gap(right: Tensor, gaps: Tensor) -> list[float]:
    return [float(right[gaps == gap].double().mean()) for gap in range(1, GAPS + 1)]


def judgements(settings: RewardGapSettings, seed: int, count: int, part: int) -> Judgements:
    """part: numbers independent draws in one world."""
    worth = np.random.default_rng([seed]).standard_normal(TOKENS)
    worth = (worth - worth.mean()) / worth.std()
    draw = np.random.default_rng([seed, 1 + part])
    tokens = draw.integers(TOKENS, size=(count, 2, settings.answer))
    values = worth[tokens].sum(-1)  # [N,2]
    seen = (values[:, 0] - values[:, 1]) * settings.spread / np.sqrt(2 * settings.answer)
    noisy = seen + draw.logistic(size=count)
    preferred = np.where(noisy[:, None] > 0, [[0, 1]], [[1, 0]])
    answers = np.concatenate((tokens + 1, np.full((count, 2, 1), END)), -1)
    ranks = np.abs(noisy).argsort().argsort()
    return Judgements(torch.from_numpy(np.take_along_axis(answers, preferred[:, :, None], 1)),
                      torch.from_numpy(1 + ranks * GAPS // count), torch.from_numpy((seen > 0) == (noisy > 0)))
