"""Several models on the same questions: their scores side by side, the best, and differences that are no chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.bootstrap import F64, LEVEL, RESAMPLES, SEED, Figure, interval
from headwater.evaluate.published import Published
from headwater.evaluate.scores import Averaged, Groups, members_of, strata
from headwater.evaluate.significance import alone, holm, p_value

BEST = "best"
"""As a reference: in each row the model with the highest score."""


@dataclass(frozen=True)
class Asked:
    """The answers of several models to one benchmark, and what its definition says of their average."""

    benchmark: str
    metric: str
    answers: Mapping[str, Sequence[Answer]]
    """By model; a model that was not asked this benchmark is absent."""
    averaged: Averaged = "questions"
    groups: Groups = field(default_factory=dict)
    published: Mapping[str, Published] = field(default_factory=dict)
    """By model."""
    more_is_better: bool = True


@dataclass(frozen=True)
class Against:
    """A model's score less the reference's."""

    reference: str
    difference: Figure
    p: float
    alone: tuple[int, int] | None
    """Questions that this model alone had right, and the reference alone; None where results are not 0 and 1."""
    corrected: float = math.nan
    """p by Holm's rule, for all marks of the comparison together."""

    @property
    def significant(self) -> bool:
        return self.corrected < 1 - LEVEL

    def as_json(self) -> dict[str, Any]:
        return {"reference": self.reference, "difference": self.difference.as_json(), "p": self.p,
                "corrected_p": self.corrected, "significant": self.significant,
                **({} if self.alone is None else {"alone": self.alone[0], "reference_alone": self.alone[1]})}


@dataclass(frozen=True)
class Cell:
    """A model's score in a row."""

    figure: Figure
    best: bool
    against: Against | None
    """None of the reference itself."""
    published: Published | None = None

    def as_json(self) -> dict[str, Any]:
        return {**self.figure.as_json(), "best": self.best,
                **({} if self.against is None else {"against": self.against.as_json()}),
                **({} if self.published is None else {"published": self.published.as_json()})}


@dataclass(frozen=True)
class Line:
    """A benchmark, or one of its groups, over the questions that every model here was asked."""

    benchmark: str
    group: str | None
    metric: str
    questions: int
    left_out: int
    """Questions that some of these models were asked and others not."""
    cells: dict[str, Cell]

    def as_json(self) -> dict[str, Any]:
        return {"benchmark": self.benchmark, "group": self.group, "metric": self.metric, "questions": self.questions,
                "left_out": self.left_out, "models": {name: cell.as_json() for name, cell in self.cells.items()}}


@dataclass(frozen=True)
class Comparison:
    """Rows of a table whose columns are models."""

    models: tuple[str, ...]
    reference: str
    """A model's name, or `BEST`."""
    lines: tuple[Line, ...]

    def as_json(self) -> dict[str, Any]:
        return {"models": list(self.models), "reference": self.reference, "level": LEVEL,
                "rows": [line.as_json() for line in self.lines]}


def compare(asked: Sequence[Asked], *, reference: str | None = None, groups: bool = False,
            resamples: int = RESAMPLES, seed: int = SEED) -> Comparison:
    """Scores and paired tests over the questions that all models of a benchmark were asked.

    reference: the model that others are tested against; the first one when not given, `BEST` for the best of each
    row, which is chosen by the same answers and so beats a model as good as itself a little too often. groups: also a
    row for each group. Raises `InputError` for an unknown reference, for models that share no question, and for
    answers at one place to different questions.
    """
    models = tuple(dict.fromkeys(name for one in asked for name in one.answers))
    chosen = reference or (models[0] if models else BEST)
    if chosen not in (*models, BEST):
        raise InputError(f"no model {chosen} among {', '.join(models)}", where="reference",
                         fix=f"name one of them, or {BEST}")
    lines = [line for one in asked for line in _lines(one, chosen, groups, resamples, seed)]
    return Comparison(models, chosen, _corrected(lines))


def paired(answers: Mapping[str, Sequence[Answer]]) -> tuple[dict[str, list[Answer]], int]:
    """The answers to questions that every model was asked, in one order for all, and how many others there are."""
    held = {name: _by_place(name, those) for name, those in answers.items()}
    common = sorted(set.intersection(*map(set, held.values()))) if held else []
    for where in common:
        if len({(those[where].subject, those[where].question, those[where].wanted) for those in held.values()}) > 1:
            raise InputError(f"the models {', '.join(held)} were asked different questions here", where=where,
                             fix="evaluate them again on the same files")
    every = set().union(*held.values())
    return {name: [those[where] for where in common] for name, those in held.items()}, len(every) - len(common)


def _by_place(name: str, answers: Sequence[Answer]) -> dict[str, Answer]:
    held = {answer.where: answer for answer in answers}
    if len(held) < len(answers):
        raise InputError(f"{len(answers) - len(held)} questions are answered twice by {name}", where="answers",
                         fix="delete its answers; they are written again by the next evaluation")
    return held


def _lines(asked: Asked, reference: str, groups: bool, resamples: int, seed: int) -> list[Line]:
    pairs, left_out = paired(asked.answers)
    some = next(iter(pairs.values()), [])
    if not some:
        raise InputError(f"the models {', '.join(asked.answers)} were asked no question in common",
                         where=asked.benchmark, fix="evaluate them on the same files")
    lines = [_line(asked, None, pairs, left_out, reference, resamples, seed)]
    if groups:
        every = dict.fromkeys(answer.subject for answer in some)
        for group, subjects in members_of(asked.groups, every).items():
            those = {name: [one for one in answers if one.subject in subjects] for name, answers in pairs.items()}
            lost = {one.where for answers in asked.answers.values() for one in answers if one.subject in subjects}
            kept = len(next(iter(those.values())))
            lines.append(_line(asked, group, those, len(lost) - kept, reference, resamples, seed))
    return lines


def _line(asked: Asked, group: str | None, pairs: Mapping[str, Sequence[Answer]], left_out: int, reference: str,
          resamples: int, seed: int) -> Line:
    values = {name: _values(asked, name, answers) for name, answers in pairs.items()}
    figures = {name: interval(ones, resamples=resamples, seed=seed) for name, ones in values.items()}
    best = (max if asked.more_is_better else min)(figure.value for figure in figures.values())
    against = next(name for name, one in figures.items() if one.value == best) if reference == BEST else reference
    cells = {}
    for name, figure in figures.items():
        tested = None if name == against or against not in figures else _against(
            asked, against, [mine - theirs for mine, theirs in zip(values[name], values[against])], resamples, seed)
        printed = asked.published.get(name) if group is None else None
        cells[name] = Cell(figure, len(figures) > 1 and figure.value == best, tested, printed)
    return Line(asked.benchmark, group, asked.metric, len(next(iter(pairs.values()))), left_out, cells)


def _values(asked: Asked, name: str, answers: Sequence[Answer]) -> list[F64]:
    if any(asked.metric not in answer.metrics for answer in answers):
        raise InputError(f"answers of {name} without {asked.metric}", where=asked.benchmark,
                         fix="compare by a metric that all answers have")
    return strata(answers, asked.metric, asked.averaged)


def _against(asked: Asked, reference: str, differences: list[F64], resamples: int, seed: int) -> Against:
    # The interval of the difference is that of the opposite one, whichever model is named first.
    turned = float(np.concatenate(differences).sum()) < 0
    found = interval([-ones for ones in differences] if turned else differences, resamples=resamples, seed=seed)
    p = p_value(differences, exact=asked.averaged == "questions", resamples=resamples, seed=seed)
    return Against(reference, found.negated() if turned else found, p, alone(differences))


def _corrected(lines: Sequence[Line]) -> tuple[Line, ...]:
    """With Holm's correction over every test of the table."""
    corrected = iter(holm([cell.against.p for line in lines for cell in line.cells.values() if cell.against]))
    return tuple(replace(line, cells={
        name: cell if cell.against is None else replace(cell, against=replace(cell.against, corrected=next(corrected)))
        for name, cell in line.cells.items()}) for line in lines)
