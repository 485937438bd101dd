"""What the official files of a benchmark hold: questions by subject, and every row that is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
"""A question under the names of the dataset's columns, which the prompts' templates use; `WHERE` says its place."""
WHERE = "where"
"""FILE:ROW below the benchmark's folder, rows counted from 1 without a header."""
FaultKind = Literal["missing option", "missing answer", "answer is no option", "empty question", "duplicate",
                    "same choices", "also a shot", "full-width letter", "lower-case letter",
                    "spaces around the letter", "unknown instruction", "unreadable", "empty file"]
"""duplicate: asked before in the same split; also a shot: one of the solved examples before it."""


@dataclass(frozen=True)
class Fault:
    """A row that is not as its format says."""

    where: str
    kind: FaultKind
    kept: bool
    """Whether it is asked all the same (a letter put right, a question asked twice)."""


@dataclass(frozen=True)
class Part:
    """What is asked under one heading: a subject of MMLU, a task of BBH."""

    subject: str
    shots: tuple[Row, ...]
    """Solved examples, in the order in which they are shown."""
    questions: tuple[Row, ...]
    title: str = ""
    """What the prompt calls the subject, where the benchmark's own files say it."""
    description: str = ""
    """What stands before the first example, where the benchmark's own files hold it."""


@dataclass(frozen=True)
class Reading:
    """A benchmark's folder as it was read."""

    parts: tuple[Part, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def questions(self) -> int:
        return sum(len(part.questions) for part in self.parts)
