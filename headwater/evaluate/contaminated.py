"""Scores with and without the questions that were found in text which the model may have been trained on.

The finder is the corpus stage's own: either its record is read (`leaks.json` of a corpus folder), or texts are searched
now. A clean question's score is no proof: what a training text holds in other words is not found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headwater.artifacts import read_json
from headwater.corpus.decontamination.benchmarks import BenchmarkSource, Question
from headwater.corpus.decontamination.contamination import ContaminationSettings, LeakIndex
from headwater.documents import LEAKS, PARTS, corpus_files, read_texts
from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.bootstrap import RESAMPLES, SEED, Figure
from headwater.evaluate.scores import Averaged, score
from headwater.progress import track
from headwater.tokenizer.texts import read_texts as read_files

TRAIN = "train"


@dataclass(frozen=True)
class Contamination:
    """Which questions of a benchmark were found, as `Answer.where` names them."""

    where: frozenset[str]
    origin: Literal["record", "search"]
    action: str = "none"
    """What the corpus stage did about documents that held them (drop, cut): after that the model did not read these
    passages. none: of texts that were searched."""


def place(file: str, row: int) -> str:
    """`Question.file` and `Question.row` of the finder as `Answer.where`: both count rows from 1 without a header."""
    return f"{file}:{row}"


def recorded(corpus: Path, folder: Path) -> Contamination | None:
    """What the corpus stage found of the benchmark in `folder`; None where it did not seek this one's questions.

    The record names the sources that it sought; one of them is the folder, or lies in it, or holds it. Raises
    `InputError` for a damaged record.
    """
    path = corpus / LEAKS
    if not path.exists():
        return None
    try:
        record = read_json(path)
        sources = [(str(one["name"]), Path(one["path"]).resolve()) for one in record["benchmarks"]]
        related = [(label, source) for label, source in sources if _related(source, folder.resolve())]
        found = [_below(source / one["file"] if source.name != one["file"] else source, folder.resolve(), one["row"])
                 for one in record["questions"] for label, source in related if label == one["benchmark"]]
        return Contamination(frozenset(filter(None, found)), "record", str(record["action"])) if related else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not a record of benchmark questions: {error!r}", where=path,
                         fix="run the corpus stage again") from None


def _related(source: Path, folder: Path) -> bool:
    return source.is_relative_to(folder) or folder.is_relative_to(source)


def _below(file: Path, folder: Path, row: int) -> str | None:
    """The place below the benchmark's folder; None of a file outside."""
    return place(file.relative_to(folder).as_posix(), row) if file.is_relative_to(folder) else None


def searched(text: Path, questions: Sequence[Question]) -> Contamination:
    """Seek the questions in text: a corpus folder's training split, or any file or folder of texts. Raises `InputError`
    where it cannot be read."""
    return Contamination(frozenset(found_in(track(_texts(text), "seeking the benchmark's questions in the text"),
                                            questions)), "search")


def found_in(texts: Iterable[str], questions: Sequence[Question]) -> set[str]:
    """The places of the questions that some of the texts hold."""
    # The source is not read: the questions are at hand.
    settings = ContaminationSettings(benchmarks=(BenchmarkSource(path=Path()),))
    index = LeakIndex.of_questions(questions, settings)
    return {place(leak.file, leak.row) for text in texts for leak in index.leaks(text)}


def _texts(path: Path) -> Iterator[str]:
    is_corpus = (path / PARTS).exists() or any((path / TRAIN).glob("*.parquet"))
    rows = read_texts(corpus_files(path, TRAIN)) if is_corpus else read_files(path)
    return (text for text, _ in rows)


def contaminated(answers: Sequence[Answer], found: Contamination, *, averaged: Averaged = "questions",
                 resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """Questions and scores of all, the clean and the contaminated ones (with their places), and the difference:
    contaminated less clean.

    A part without a question has no score, and without both there is no difference.
    """
    parts = {"all": list(answers), "clean": [one for one in answers if one.where not in found.where],
             "contaminated": [one for one in answers if one.where in found.where]}
    scored = {name: score(those, averaged=averaged, resamples=resamples, seed=seed) for name, those in parts.items()}
    dirty, clean = scored["contaminated"].metrics, scored["clean"].metrics
    return {"origin": found.origin, "action": found.action, "where": [one.where for one in parts["contaminated"]],
            **{name: one.as_json() for name, one in scored.items()},
            "difference": {name: difference(dirty[name], clean[name]).as_json() for name in dirty if name in clean}}


def difference(one: Figure, other: Figure) -> Figure:
    """`one` less `other`, of different questions, with its interval out of theirs: squares of the distances add up
    (Newcombe, 1998, method 10; Zou and Donner, 2008, for any two intervals)."""
    value = one.value - other.value
    return Figure(value, value - math.hypot(one.value - one.low, other.high - other.value),
                  value + math.hypot(one.high - one.value, other.value - other.low))
