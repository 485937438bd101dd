"""Does splitting numbers into digits help a model to add?

LLaMA and Baichuan make every digit a token; GPT-4's tokenizer takes up to three together. The same tiny decoder learns
a + b = c with both, from several seeds, and reads the very same problems at every step (split they are nearly twice as
many tokens). Expected, if the claim holds: with digits split the share of right sums is higher, the more so the longer
the numbers.
"""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from headwater.model import Decoder, ModelConfig
from headwater.plots import lines_with_errors
from headwater.progress import say
from headwater.settings import Seed, Settings
from headwater.studies.learners import train
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, once, tell
from headwater.train.batches import IGNORE, Batch
from headwater.train.optimizer import OptimizerSettings
from headwater.train.settings import TrainerSettings

PAD, END, PLUS, EQUALS, FIRST = 0, 1, 2, 3, 4
"""Ids before those of numbers."""
Cut = Callable[[str], list[str]]
CUTS: dict[str, Cut] = {"digits split": list, "up to three together": lambda number: re.findall(r"\d{1,3}", number)}


class DigitSettings(Settings):
    """The problems, the model and its training."""

    digits: Annotated[int, Field(ge=1, le=8)] = 4
    """Digits of the longest numbers."""
    problems: Annotated[int, Field(ge=100)] = 60_000
    """Sums to learn from."""
    questions: Annotated[int, Field(ge=10)] = 200
    """Unseen sums asked for each number of digits."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Models trained of each kind; the error bars are their standard deviation."""
    seed: Seed = 0
    hidden_size: Annotated[int, Field(ge=16)] = 128
    layers: Annotated[int, Field(ge=1)] = 4
    steps: Annotated[int, Field(ge=1)] = 3000
    """Optimizer steps of each model."""
    batch: Annotated[int, Field(ge=1)] = 160
    """Sums read at a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 means all cores."""

    @model_validator(mode="after")
    def _a_batch_is_there(self) -> DigitSettings:
        if self.batch > self.problems:
            raise ValueError(f"a batch of {self.batch} needs at least as many problems, there are {self.problems}")
        return self

    def trainer(self, length: int) -> TrainerSettings:
        """How each model is trained on rows of so many tokens."""
        return TrainerSettings(steps=self.steps, rows=self.batch, sequence_length=length, precision="float32",
                               threads=self.threads, optimizer=OptimizerSettings(learning_rate=self.learning_rate,
                                                                                 warmup_steps=min(100, self.steps)))


class Result(NamedTuple):
    """Share of right sums of one model: by the digits of both numbers."""

    cut: str
    seed: int
    digits: int
    right: float


class Numbers:
    """Sums as ids: a token for each piece that a way to cut numbers gives."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        pieces = [str(number).zfill(width) for width in (1, 2, 3) for number in range(10**width)
                  if len(cut(str(number).zfill(width))) == 1]
        self.ids = {piece: FIRST + index for index, piece in enumerate(pieces)}
        self.size = FIRST + len(pieces)

    def number(self, value: int) -> list[int]:
        return [self.ids[piece] for piece in self.cut(str(value))]

    def question(self, a: int, b: int) -> list[int]:
        return [*self.number(a), PLUS, *self.number(b), EQUALS]

    def answer(self, a: int, b: int) -> list[int]:
        return [*self.number(a + b), END]


class Sums:
    """Problems as batches, a row each: the same ones at the same step whatever the way to cut (see `Batches`)."""

    def __init__(self, numbers: Numbers, pairs: Sequence[tuple[int, int]], rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        asked = [numbers.question(a, b) for a, b in pairs]
        said = [numbers.answer(a, b) for a, b in pairs]
        self.length = max(len(question) + len(answer) for question, answer in zip(asked, said))
        self.tokens = np.full((len(pairs), self.length), PAD)
        self.targets = np.full((len(pairs), self.length), IGNORE)
        for row, (question, answer) in enumerate(zip(asked, said)):
            end = len(question) + len(answer)
            self.tokens[row, :end] = [*question, *answer]
            self.targets[row, len(question) - 1:end - 1] = answer

    @property
    def batches_per_epoch(self) -> float:
        return len(self.tokens) // self.rows

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        epoch, number = divmod(step, int(self.batches_per_epoch))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.tokens))
        chosen = order[number * self.rows:(number + 1) * self.rows][rank::ranks]
        positions = np.tile(np.arange(self.length), (len(chosen), 1))
        places = np.where(self.tokens[chosen] == PAD, -1, chosen[:, None] * self.length + positions)
        return Batch(*map(torch.from_numpy, (self.tokens[chosen], self.targets[chosen], positions,
                                             np.zeros_like(positions), positions, places)))


def run(out: Path, settings: DigitSettings) -> list[Result]:
    """Train and ask every model; print the table, write `digits.json` and `digits.svg` into `out`. A model that is
    trained already is not trained again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    results = []
    for cut in CUTS:
        for seed in range(settings.seeds):
            say(f"digits: {cut}, model {seed + 1} of {settings.seeds}")
            results += _answers(cut, seed, settings, out)
    lengths = range(1, settings.digits + 1)
    means = {cut: [_spread(results, cut, digits) for digits in lengths] for cut in CUTS}
    table = make_table(f"Right sums of unseen numbers, {settings.seeds} models each", ["digits", *CUTS],
                       [(str(digits), *(f"{row[digits - 1].mean:.1%} ± {row[digits - 1].deviation:.1%}"
                                        for row in means.values())) for digits in lengths])
    plot = lines_with_errors({cut: [(one.mean, one.deviation) for one in row] for cut, row in means.items()}, lengths,
                             x="digits of both numbers", y="share of right sums", title="Sums of unseen numbers")
    tell(out, "digits", [result._asdict() for result in results], table, [verdict(results)], plot)
    return results


def problems(settings: DigitSettings) -> tuple[list[tuple[int, int]], dict[int, list[tuple[int, int]]]]:
    """(pairs to learn from, unseen pairs by their number of digits), the same for every model."""
    draw = random.Random(settings.seed)

    def pair(digits: int) -> tuple[int, int]:
        low = 10 ** (digits - 1) if digits > 1 else 0
        return draw.randrange(low, 10**digits), draw.randrange(low, 10**digits)

    asked: dict[int, list[tuple[int, int]]] = {}
    for digits in range(1, settings.digits + 1):
        most = min(settings.questions, 100 ** digits // 4)  # of 100 sums of one digit a quarter is kept back
        chosen: dict[tuple[int, int], None] = {}
        while len(chosen) < most:
            chosen[pair(digits)] = None
        asked[digits] = list(chosen)
    held = {one for pairs in asked.values() for one in pairs}
    learnt: list[tuple[int, int]] = []
    while len(learnt) < settings.problems:
        one = pair(draw.randint(1, settings.digits))
        if one not in held:
            learnt.append(one)
    return learnt, asked


def _answers(cut: str, seed: int, settings: DigitSettings, out: Path) -> list[Result]:
    name = f"{cut.replace(' ', '-')}-{seed}"

    def measure() -> dict[str, float]:
        numbers, (learnt, asked) = Numbers(CUTS[cut]), problems(settings)
        batches = Sums(numbers, learnt, settings.batch, seed)
        config, trainer = _config(numbers, settings, batches.length), settings.trainer(batches.length)
        model = train(out / name, config, batches, trainer, seed)
        return {str(digits): _right(model, numbers, pairs) for digits, pairs in asked.items()}

    return [Result(cut, seed, int(digits), right) for digits, right in once(out / f"{name}.json", measure).items()]


def _config(numbers: Numbers, settings: DigitSettings, length: int) -> ModelConfig:
    return ModelConfig(vocab_size=-(-numbers.size // 64) * 64, hidden_size=settings.hidden_size,
                       intermediate_size=settings.hidden_size * 8 // 3, num_hidden_layers=settings.layers,
                       num_attention_heads=max(1, settings.hidden_size // 32),
                       max_position_embeddings=length, tie_word_embeddings=False)


@torch.inference_mode()
def _right(model: Decoder, numbers: Numbers, pairs: list[tuple[int, int]]) -> float:
    """The share of sums that greedy decoding gets right; questions of one length are asked together."""
    by_length: dict[int, list[tuple[int, int]]] = {}
    for a, b in pairs:
        by_length.setdefault(len(numbers.question(a, b)), []).append((a, b))
    right = 0
    for together in by_length.values():
        wanted = [numbers.answer(a, b) for a, b in together]
        ids = torch.tensor([numbers.question(a, b) for a, b in together], device=model.device)
        start = ids.shape[1]
        for _ in range(max(map(len, wanted))):
            ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], 1)
        said = ids[:, start:].tolist()
        right += sum(row[:len(answer)] == answer for row, answer in zip(said, wanted))
    return right / len(pairs)


def _spread(results: list[Result], cut: str, digits: int) -> Estimate:
    """Over the seeds."""
    return Estimate.of(result.right for result in results if (result.cut, result.digits) == (cut, digits))


def verdict(results: list[Result]) -> Verdict:
    """Whether the claim was seen: the mean over all lengths, with two standard errors of the difference."""
    seeds = sorted({result.seed for result in results})
    split, joined = (Estimate.of(statistics.fmean(result.right for result in results
                                                  if (result.cut, result.seed) == (cut, seed))
                                 for seed in seeds) for cut in CUTS)
    difference = split.minus(joined)
    return judge(f"splitting digits raises the share of right sums ({difference.mean:+.3f})", difference)
