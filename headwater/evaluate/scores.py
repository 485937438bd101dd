"""What a model's answers to a benchmark come to: every metric with its interval, by subject and by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headwater.evaluate.answers import Answer
from headwater.evaluate.bootstrap import F64, RESAMPLES, SEED, Figure, interval

Averaged = Literal["questions", "subjects"]
Groups = Mapping[str, tuple[str, ...]]
"""Subject -> the groups to which it belongs, as the paper's tables have them."""


@dataclass(frozen=True)
class Scored:
    """So many questions and the figure in each metric."""

    questions: int
    metrics: dict[str, Figure]

    def as_json(self) -> dict[str, Any]:
        return {"questions": self.questions, "metrics": {name: one.as_json() for name, one in self.metrics.items()}}


@dataclass(frozen=True)
class Scores:
    """Of one model on one benchmark."""

    whole: Scored
    subjects: dict[str, Scored]
    groups: dict[str, Scored]
    """In the order of the definition; those without a question are left out."""

    def as_json(self) -> dict[str, Any]:
        return {**self.whole.as_json(),
                "groups": {name: one.as_json() for name, one in self.groups.items()},
                "subjects": {name: one.as_json() for name, one in self.subjects.items()}}


def scores(answers: Sequence[Answer], *, averaged: Averaged = "questions", groups: Groups | None = None,
           resamples: int = RESAMPLES, seed: int = SEED) -> Scores:
    """Of all answers, by subject in the order of the answers, and by group.

    averaged: what a figure is the mean over, in groups as in the whole; over subjects every subject counts the same,
    however many questions it has. A subject that is in no group counts in the whole alone. The same answers, in
    whatever order, give the same figures.
    """
    def scored(those: Iterable[Answer]) -> Scored:
        return score(list(those), averaged=averaged, resamples=resamples, seed=seed)

    subjects = by_subject(answers)
    members = members_of(groups or {}, subjects)
    return Scores(scored(answers), {name: scored(those) for name, those in subjects.items()},
                  {name: scored(one for subject in of for one in subjects[subject]) for name, of in members.items()})


def score(answers: Sequence[Answer], *, averaged: Averaged = "questions", resamples: int = RESAMPLES,
          seed: int = SEED) -> Scored:
    """Of these answers together. A metric is taken over the answers that have it."""
    names = list(dict.fromkeys(name for answer in answers for name in answer.metrics))
    return Scored(len(answers), {name: interval(strata(answers, name, averaged), resamples=resamples, seed=seed)
                                 for name in names})


def strata(answers: Iterable[Answer], metric: str, averaged: Averaged) -> list[F64]:
    """The values of the metric: those of each subject [N_s] where subjects are averaged, else all in one [N]."""
    held: dict[str, list[float]] = {}
    for answer in answers:
        if metric in answer.metrics:
            held.setdefault(answer.subject if averaged == "subjects" else "", []).append(answer.metrics[metric])
    return [np.array(held[name], np.float64) for name in sorted(held)]


def by_subject(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    held: dict[str, list[Answer]] = {}
    for answer in answers:
        held.setdefault(answer.subject, []).append(answer)
    return held


def members_of(groups: Groups, subjects: Iterable[str]) -> dict[str, list[str]]:
    """Group -> its subjects among these, groups in the order in which the definition first names them."""
    known = set(subjects)
    names = dict.fromkeys(name for of in groups.values() for name in of)
    held = {name: [subject for subject, of in groups.items() if name in of and subject in known] for name in names}
    return {name: of for name, of in held.items() if of}


def above_chance(value: float, chance: float) -> float:
    """0 for guessing, 1 for all right, below 0 for worse than guessing."""
    return (value - chance) / (1 - chance)
