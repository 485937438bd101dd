"""A benchmark as a definition: where its files are read, how it is asked by either rules, and how it is averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headwater.evaluate.benchmarks.reading import Part, Reading, Row

Rules = Literal["official", "harness"]
"""official: as the benchmark's authors published it; harness: as lm-evaluation-harness ships it."""
TaskConfig = dict[str, Any]
"""Fields of a task of lm-evaluation-harness."""
Dropped = Literal["last", "longest", "none"]
"""Which solved examples an official script leaves out where a prompt is too long (see `fitting`)."""


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
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Subject -> groups, as the paper's tables have them; a subject may be in two."""
    averaged: Literal["questions", "subjects"] = "questions"
    """What the published average is taken over."""
    chance: float = 0.0
    """What guessing scores, in the published metric."""
    dropped: Dropped = "last"
    runs_code: bool = False
    """Whether judging executes what the model wrote."""
