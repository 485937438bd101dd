"""What a model learns when: any evaluation over the snapshots of a pretraining.

A run with `trainer.snapshot_tokens` leaves its model as a folder of its own every so many tokens. Each is evaluated as
the evaluation stage does it, and every figure drawn against the tokens read. Expected of a sound run: each figure ends
better than it began, and bits per byte have fallen by at least half of their way before half of the tokens are read
(losses follow a power law, so most is learnt early).
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from headwater.artifacts import read_json
from headwater.errors import InputError
from headwater.evaluate.stage import EvaluatedModel, EvaluateSettings
from headwater.evaluate.stage import run as evaluate
from headwater.generate.choice import REPHRASED, Style
from headwater.plots import Line, Panel, panels
from headwater.progress import say
from headwater.settings import InputPath, Settings
from headwater.studies.trials import Estimate, Verdict, fact, judge, keep, make_table, once, tell

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


Figures = dict[str, Estimate]
"""Of a snapshot, by TASK.LANGUAGE.METRIC; shares of questions have their standard error."""


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
    rows = [(f"{tokens:,}", *(row[name].words(".3f") for name in names)) for tokens, row in figures.items()]
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


def _figures(snapshot: Snapshot, out: Path, settings: DynamicsSettings) -> Figures:
    def measure() -> Figures:
        say(f"dynamics: {snapshot.tokens:,} tokens")
        model = EvaluatedModel(path=snapshot.folder, style=settings.style)
        found = evaluate(EvaluateSettings(models={"snapshot": model}, corpus=settings.corpus, choice=settings.choice,
                                          limit=settings.limit), out / "evaluation")
        asked = _questions(read_json(out / "evaluation" / "results.json")["snapshot"])
        return {name.removeprefix("snapshot/"): _share(value, asked.get(name.removeprefix("snapshot/")))
                for name, value in found.items()}

    kept = once(out / f"{snapshot.folder.name}.json", measure)
    return {name: Estimate(*values) for name, values in kept.items()}


def _questions(results: dict[str, Any]) -> dict[str, int]:
    """How many every figure of multiple choice is the share of."""
    counts = {}
    for task, languages in results.items():
        for language, scored in languages.items() if task != "text" else ():
            counts[f"{task}.{language}.accuracy"] = scored["questions"]
            counts[f"{task}.{language}.rephrased_accuracy"] = sum(
                one["questions"] for subject, one in scored["subjects"].items() if subject.endswith(REPHRASED))
    return counts


def _share(value: float, questions: int | None) -> Estimate:
    return Estimate(value, math.sqrt(value * (1 - value) / questions) if questions else 0.0, questions or 1)


def verdicts(figures: dict[int, Figures]) -> list[Verdict]:
    """How every figure moved; `figures` by the tokens of their snapshots, in order."""
    tokens, found = list(figures), []
    if len(tokens) < 2:
        return []
    first, last = figures[tokens[0]], figures[tokens[-1]]
    for name in first:
        claim = f"{name} ends better than it began ({first[name].mean:.3f} to {last[name].mean:.3f})"
        if not name.endswith(FALLING):
            found.append(judge(claim, last[name].minus(first[name])))
            continue
        gain = first[name].mean - last[name].mean
        found.append(fact(claim, gain))
        if gain > 0:
            half = _reached(figures, name, (first[name].mean + last[name].mean) / 2)
            found.append(fact(f"half of that is learnt by {half:,.0f} tokens, before half of the {tokens[-1]:,}",
                              1 - 2 * half / tokens[-1]))
    return found


def _reached(figures: dict[int, Figures], name: str, level: float) -> float:
    """The tokens at which a falling figure first is at the level, on straight lines between the snapshots."""
    for (before, high), (after, low) in pairwise((tokens, row[name].mean) for tokens, row in figures.items()):
        if low <= level:
            return before + (after - before) * (high - level) / max(high - low, 1e-12)
    raise AssertionError("the last snapshot is below the level")


def plot(figures: dict[int, Figures]) -> str:
    """A panel for each metric of a task, with a line for each language and two standard errors of shares."""
    tokens = list(figures)
    far = tokens[-1] >= DECADES_APART * tokens[0]
    lines: dict[tuple[str, str], list[Line]] = {}
    for name in figures[tokens[0]]:
        task, language, metric = name.split(".", 2)
        lines.setdefault((task, metric.replace("_", " ")), []).append(
            Line(language, tokens, [row[name].mean for row in figures.values()],
                 [2 * row[name].error for row in figures.values()]))
    return panels([Panel(drawn, "tokens read", metric, task, log_x=far) for (task, metric), drawn in lines.items()])
