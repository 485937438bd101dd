"""One line for every question that a model was asked: what it was, what came back, and how it was judged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from headwater.artifacts import atomic_write
from headwater.errors import InputError


@dataclass(frozen=True)
class Answer:
    """A question and a model's answer to it. Two models' answers are to the same question where `where` is the same."""

    subject: str
    where: str
    """FILE:ROW in the benchmark's folder."""
    question: str
    """The text of the question itself, without solved examples and instructions."""
    given: str
    """The choice taken, or what was read out of the text that the model wrote; "" where nothing was found."""
    wanted: str
    metrics: dict[str, float | list[float]]
    """By name; 1 for right and 0 for wrong where that is all there is, and of several instructions in one question
    each's."""
    said: str | None = None
    """All that the model wrote, where it was asked to write."""
    logprobs: tuple[float, ...] | None = None
    """Of each choice, in nats, where it was asked to choose."""
    why: str | None = None
    """Why it was judged so, where that says more than right or wrong."""
    prompt_sha256: str = ""
    """Of all that the model was given to read."""
    left_out: int = 0
    """Solved examples that were not shown for want of room."""
    cut: bool = False
    """Whether the prompt's beginning was not read, for want of room."""

    @classmethod
    def parse(cls, line: str, where: str) -> Self:
        """Raises `InputError` for a line of something else."""
        try:
            fields = json.loads(line)
            found = cls(**fields)
            logprobs = found.logprobs
            return found if logprobs is None else dataclasses.replace(found, logprobs=tuple(logprobs))
        except (ValueError, TypeError) as error:
            raise InputError(f"not an answer to a benchmark's question: {error}", where=where,
                             fix="delete the file; it is written again by the next evaluation") from None


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """JSON lines, whole or not at all."""
    with atomic_write(path, "w") as stream:
        for answer in answers:
            stream.write(json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n")


def read_answers(path: Path) -> Iterator[Answer]:
    """Raises `InputError` with file and line for a damaged file."""
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            yield Answer.parse(line, f"{path}:{number}")
