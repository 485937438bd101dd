"""What a model learns when: any evaluation over the snapshots of a pretraining.

A run with `trainer.snapshot_tokens` leaves its model as a folder of its own every so many tokens. Each is evaluated as
the evaluation stage does it, and every figure drawn against the tokens read. Expected of a sound run: each figure ends
better than it began, and bits per byte have fallen by at least half of their way before half of the tokens are read
(losses follow a power law, so most is learnt early).
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from headwater.errors import InputError
from headwater.evaluate.choice import Style
from headwater.evaluate.stage import EvaluatedModel, EvaluateSettings
from headwater.evaluate.stage import run as evaluate
from headwater.progress import say
from headwater.settings import InputPath, Settings
from headwater.studies.plots import Line, Panel, panels
from headwater.studies.trials import Verdict, fact, keep, make_table, once, tell

DECADES_APART = 30.0
"""The axis of tokens is logarithmic where the last snapshot has so many times the tokens of the first."""
FALLING = "bits_per_byte"
"""The metric that is better the lower it is; of all others the higher is better."""


class DynamicsSettings(Settings):
    """What is measured; without settings the bits per byte on the corpus beside the run's pretraining."""

    corpus: InputPath | None = None
    """Corpus folder; bits per byte are taken on its validation split."""
    choice: dict[str, dict[str, InputPath]] = {}
    """Benchmark name -> language -> folder in MMLU or C-Eval layout."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many questions of each benchmark and language; None: all."""
    style: Style = "plain"
    """How questions are asked: as text to continue (plain), or through the chat template."""


class Snapshot(NamedTuple):
    tokens: int
    """Read until then."""
    folder: Path


def run(source: Path, out: Path, settings: DynamicsSettings) -> None:
    """Evaluate the snapshots below `source`, a run's folder or its pretraining's; write `dynamics.json` and
    `dynamics.svg` into `out`.

    A snapshot that is evaluated already is not evaluated again: a run that goes on can be studied on. Raises
    `InputError` where there are no snapshots, or nothing to evaluate them on.
    """
    found = snapshots(source)
    asked = _completed(settings, source)
    keep(out, asked)
    figures = {one.tokens: _figures(one, out, asked) for one in found}
    names = list(figures[found[0].tokens])
    rows = [(f"{tokens:,}", *(f"{row[name]:.4f}" for name in names)) for tokens, row in figures.items()]
    table = make_table(f"Over {len(found)} snapshots of {source}", ["tokens", *names], rows)
    tell(out, "dynamics", figures, table, verdicts(figures), plot(figures))


def snapshots(source: Path) -> list[Snapshot]:
    """In the order of their tokens. Raises `InputError` for a folder that has none."""
    for folder in (source / "snapshots", source / "pretrain" / "snapshots"):
        named = [(re.fullmatch(r"tokens-(\d+)", path.name), path) for path in folder.glob("tokens-*")]
        found = [Snapshot(int(name[1]), path) for name, path in named if name]
        if found:
            return sorted(found)
    raise InputError("no snapshots of a pretraining here", where=source,
                     fix="give a run, or its pretrain folder, that was trained with trainer.snapshot_tokens=N")


def _completed(settings: DynamicsSettings, source: Path) -> DynamicsSettings:
    """With the corpus of the run where there is one and no other is given."""
    if settings.corpus is not None:
        return settings
    beside = [folder for folder in (source / "corpus", source.parent / "corpus") if folder.is_dir()]
    if not beside and not settings.choice:
        raise InputError("there is no corpus folder beside the pretraining", where=source,
                         fix="set corpus=DIR, or choice.NAME.LANGUAGE=DIR for multiple-choice questions")
    return settings.model_copy(update={"corpus": beside[0] if beside else None})


def _figures(snapshot: Snapshot, out: Path, settings: DynamicsSettings) -> dict[str, float]:
    """By TASK.LANGUAGE.METRIC."""
    def measure() -> dict[str, float]:
        say(f"dynamics: {snapshot.tokens:,} tokens")
        model = EvaluatedModel(path=snapshot.folder, style=settings.style)
        found = evaluate(EvaluateSettings(models={"snapshot": model}, corpus=settings.corpus, choice=settings.choice,
                                          limit=settings.limit), out / "evaluation")
        return {name.removeprefix("snapshot/"): value for name, value in found.items()}

    kept: dict[str, float] = once(out / f"{snapshot.folder.name}.json", measure)
    return kept


def verdicts(figures: dict[int, dict[str, float]]) -> list[Verdict]:
    """How every figure moved; `figures` by the tokens of their snapshots, in order."""
    tokens, found = list(figures), []
    if len(tokens) < 2:
        return []
    first, last = figures[tokens[0]], figures[tokens[-1]]
    for name in first:
        falls = name.endswith(FALLING)
        gain = (first[name] - last[name]) * (1 if falls else -1)
        found.append(fact(f"{name} ends better than it began ({first[name]:.4f} to {last[name]:.4f})", gain))
        if falls and gain > 0:
            half = _reached(figures, name, (first[name] + last[name]) / 2)
            found.append(fact(f"half of that is learnt by {half:,.0f} tokens, before half of the {tokens[-1]:,}",
                              1 - 2 * half / tokens[-1]))
    return found


def _reached(figures: dict[int, dict[str, float]], name: str, level: float) -> float:
    """The tokens at which a falling figure first is at the level, on straight lines between the snapshots."""
    for (before, high), (after, low) in pairwise((tokens, row[name]) for tokens, row in figures.items()):
        if low <= level:
            return before + (after - before) * (high - level) / max(high - low, 1e-12)
    raise AssertionError("the last snapshot is below the level")


def plot(figures: dict[int, dict[str, float]]) -> str:
    """A panel for each metric of a task, with a line for each language."""
    tokens = list(figures)
    far = tokens[-1] >= DECADES_APART * tokens[0]
    lines: dict[str, list[Line]] = {}
    for name in figures[tokens[0]]:
        task, language, metric = name.split(".", 2)
        lines.setdefault(f"{task}, {metric.replace('_', ' ')}", []).append(
            Line(language, tokens, [row[name] for row in figures.values()]))
    return panels([Panel(drawn, "tokens read", metric, metric, log_x=far) for metric, drawn in lines.items()])
