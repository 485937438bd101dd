"""A benchmark as a definition: where its files are read, how it is asked by either rules, and how it is averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from headwater.evaluate.benchmarks.reading import Part, Reading, Row

Rules = Literal["official", "harness"]
"""official: as the benchmark's authors published it; harness: as lm-evaluation-harness ships it."""
AnsweredBy = Literal["letter", "text", "written"]
"""To a question with choices. letter: the likeliest letter; text: the choice whose text is likeliest, no letters shown;
written: what is read out of the text that the model writes."""
TaskConfig = dict[str, Any]
"""Fields of a task of lm-evaluation-harness."""
Dropped = Literal["last", "longest", "none"]
"""Which solved examples the official script leaves out where a prompt is too long. last: whole ones from the end
(MMLU's evaluate.py). longest: the longest, and all that are as long (CMMLU's mp_utils.py). none: it takes no care."""


class Choices(NamedTuple):
    """A question apart from what may be chosen."""

    question: str
    texts: tuple[str, ...]
    answer: int
    """Index of the right one."""


@dataclass(frozen=True)
class Benchmark:
    """An official benchmark."""

    name: str
    language: str
    """en or zh: of its questions."""
    shots: int
    """Solved examples before each question, as published."""
    metric: str
    """The published one, of those that answers carry."""
    read: Callable[[Path], Reading]
    """The official files of a folder; raises `InputError` where they are not."""
    official: Callable[[Part], TaskConfig]
    """How a part is asked and judged by the official rules, but for its rows."""
    harness: Callable[[str], str]
    """The harness's own task for a subject."""
    question: Callable[[Row], str]
    """The text of a row's question."""
    chat: Callable[[Part], TaskConfig] | None = None
    """How a chat model is asked to write its answer where `official` has it choose by likelihood; None: as
    `official`, which has it write already or has no written form."""
    choices: Callable[[Row], Choices] | None = None
    """Of benchmarks with choices: what a model may be scored on without their letters."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Subject -> groups, as the paper's tables have them; a subject may be in two."""
    averaged: Literal["questions", "subjects"] = "questions"
    """What the published average is taken over."""
    chance: float = 0.0
    """What guessing scores, in the published metric."""
    dropped: Dropped = "last"
    program: Callable[[Row, str], str] | None = None
    """What is run to judge the text that the model wrote; it is right where that ends without an exception."""
    more_is_better: bool = True
