"""Multiple choice by likelihood, from the official files of MMLU and C-Eval."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from headwater.errors import InputError
from headwater.generate.engine import Engine

LETTERS = "ABCD"
REPHRASED = "_rephrased"
"""How the Atlas ends the names of subjects whose questions are asked in words that no training text uses."""
_COLUMNS = ("question", *LETTERS, "answer")
Style = Literal["chat", "plain"]
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    subject: str
    text: str
    choices: tuple[str, ...]
    answer: int
    """Index of the right choice."""

    @property
    def rephrased(self) -> bool:
        """Whether its words are of the kind that no training text uses."""
        return self.subject.endswith(REPHRASED)


@dataclass(frozen=True)
class Answered:
    """A question with the log-likelihood of each choice's text, in nats."""

    question: Question
    scores: tuple[float, ...]

    @property
    def chosen(self) -> int:
        """The likeliest choice, the first of equals."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)

    @property
    def right(self) -> bool:
        return self.chosen == self.question.answer


def read_questions(folder: Path) -> list[Question]:
    """Questions of a folder in MMLU layout (`test/*_test.csv`) or C-Eval layout (`val/*_val.csv`).

    MMLU rows are question, A, B, C, D, letter without a header. C-Eval has a header with those names; its test split
    is published without answers, so its val split is read. Raises `InputError` with file and row for another shape.
    """
    tables = {split: {file: _rows(file) for file in sorted((Path(folder) / split).glob("*.csv"))}
              for split in ("val", "test")}
    held = [rows for rows in tables["val"].values() if rows]
    split = "val" if held and set(_COLUMNS) <= set(held[0][0]) else "test"
    if not tables[split]:
        raise InputError("no test/*.csv or val/*.csv here", where=folder, fix="give a folder in MMLU or C-Eval layout")
    return [question for file, rows in tables[split].items()
            for question in _questions(file, rows, file.stem.removesuffix(f"_{split}"))]


def _rows(file: Path) -> list[list[str]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return list(csv.reader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"not a UTF-8 CSV file: {error}", where=file, fix="write the file again") from None


def _questions(file: Path, rows: list[list[str]], subject: str) -> Iterator[Question]:
    columns, start = list(range(6)), 0
    if rows and set(_COLUMNS) <= set(rows[0]):
        columns, start = [rows[0].index(name) for name in _COLUMNS], 1
    for number, row in enumerate(rows[start:], start + 1):
        if len(row) <= max(columns) or row[columns[5]].strip() not in tuple(LETTERS):
            raise InputError(f"row {number} is not question, four choices and a letter A to D", where=file,
                             fix="correct the row")
        question, *choices, letter = (row[column].strip() for column in columns)
        yield Question(subject, question, tuple(choices), LETTERS.index(letter))


def answer_all(engine: Engine, questions: list[Question], language: str, style: Style) -> list[Answered]:
    """Score every choice as the answer to its question, the choices themselves not shown.

    chat: the choice as the beginning of the assistant's turn after the question as the user's. plain: as the
    continuation of "Question: ... Answer:", for models that were never tuned to converse.
    """
    pairs = []
    for question in questions:
        choices = [engine.tokenizer.encode(_continuation(choice, language, style)) for choice in question.choices]
        context = _context(engine, question.text, language, style)
        room = engine.max_length - max(map(len, choices))
        # A question longer than the model's context keeps its end, where what is asked usually stands.
        pairs += [(context[max(0, len(context) - room) :], choice) for choice in choices]
    scores = iter(engine.log_likelihoods(pairs))
    return [Answered(question, tuple(next(scores).logprob for _ in question.choices)) for question in questions]


def _context(engine: Engine, question: str, language: str, style: Style) -> list[int]:
    tokenizer = engine.tokenizer
    if style == "chat":
        return tokenizer.chat.render([{"role": "user", "content": question}], add_generation_prompt=True).ids
    frame = "问题：{}\n答案：" if language == "zh" else "Question: {}\nAnswer:"
    return tokenizer.framed(frame.format(question))


def _continuation(choice: str, language: str, style: Style) -> str:
    """The choice as it would follow its context; a full stop closes it, so that no choice is another's beginning."""
    stop = "。" if language == "zh" else "."
    return f"{' ' if style == 'plain' and language != 'zh' else ''}{choice}{stop}"


Folders = Mapping[str, Mapping[str, Path]]
"""Benchmark name -> language -> folder in MMLU or C-Eval layout."""


def require_questions(choice: Folders, where: str) -> None:
    """Raises `InputError` that names the setting, below `where`, of a benchmark without questions."""
    for name, folders in choice.items():
        for language, folder in folders.items():
            try:
                read_questions(folder)
            except InputError as error:
                raise InputError(f"{error.where}: {error.what}", where=f"{where}.{name}.{language}",
                                 fix=error.fix) from None


def accuracies(engine: Engine, choice: Folders, style: Style, limit: int | None) -> dict[str, float]:
    """By BENCHMARK.LANGUAGE, each of at most so many questions."""
    return {f"{name}.{language}": accuracy(answer_all(engine, spread(read_questions(folder), limit), language, style))
            for name, folders in choice.items() for language, folder in folders.items()}


def accuracy(answered: list[Answered]) -> float:
    return sum(one.right for one in answered) / max(1, len(answered))


def by_subject(answered: list[Answered]) -> dict[str, list[Answered]]:
    """The answers grouped by subject, in the order of the files."""
    groups: dict[str, list[Answered]] = {}
    for one in answered:
        groups.setdefault(one.question.subject, []).append(one)
    return groups


def spread(questions: list[T], limit: int | None) -> list[T]:
    """At most `limit` of them at even distances, so that each subject has its share."""
    count = min(len(questions), limit or len(questions))
    return [questions[number * len(questions) // count] for number in range(count)]
