"""The one checker of benchmarks' rows: each that is not right is told, put right or left out, never in silence."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from headwater.evaluate.benchmarks.reading import WHERE, Fault, FaultKind, Row

LETTERS = "ABCD"


class Unreadable(NamedTuple):
    """A row that its format cannot divide, or that asks for what nobody here can judge."""

    where: str
    kind: FaultKind = "unreadable"


@dataclass(frozen=True)
class Entry:
    """A row before it is judged."""

    where: str
    question: str
    answer: str | None
    """A letter where there are choices; None: the benchmark has no answers."""
    choices: tuple[str, ...] = ()
    fields: Row = field(default_factory=dict)
    """What else the row holds."""

    @property
    def asks(self) -> tuple[str, ...]:
        """What makes two rows the same question."""
        return tuple(" ".join(text.split()) for text in (self.question, *self.choices))

    @property
    def index(self) -> int:
        """Of the right choice."""
        return LETTERS.index(self.answer or "")

    def row(self, **columns: object) -> Row:
        """The row under the dataset's own names."""
        return {WHERE: self.where, **columns}


class Examiner:
    """Sorts the rows of one benchmark and remembers what was wrong with them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._asked: dict[str, set[tuple[str, ...]]] = {}

    def keep(self, split: str, rows: Iterable[Entry | Unreadable], shots: Iterable[Entry] = ()) -> list[Entry]:
        """The rows that can be asked, mended, in their order. A question that was asked before in its split, or that
        is one of the examples before it, is told and asked all the same, as the official scripts do."""
        shown = {shot.asks for shot in shots}
        kept = []
        for row in rows:
            if isinstance(row, Unreadable):
                self._tell(row.where, row.kind, kept=False)
            elif (mended := self._mended(row)) is not None:
                self._tell_repeated(mended, split, shown)
                kept.append(mended)
        return kept

    def _tell(self, where: str, kind: FaultKind, kept: bool) -> None:
        self.faults.append(Fault(where, kind, kept))

    def _mended(self, row: Entry) -> Entry | None:
        """None for a row that cannot be asked: of its faults the first is told that forbids it."""
        letter, marks = _letter(row.answer or "") if row.choices else (row.answer, [])
        fatal: FaultKind | None = None
        if not row.question.strip():
            fatal = "empty question"
        elif letter is not None and not letter.strip():
            fatal = "missing answer"
        elif row.choices and letter not in tuple(LETTERS[: len(row.choices)]):
            fatal = "answer is no option"
        if fatal:
            self._tell(row.where, fatal, kept=False)
            return None
        present = [choice.strip() for choice in row.choices if choice.strip()]
        if len(present) < len(row.choices):
            marks.append("missing option")
        if len(set(present)) < len(present):
            marks.append("same choices")
        for kind in marks:
            self._tell(row.where, kind, kept=True)
        return replace(row, answer=letter)

    def _tell_repeated(self, row: Entry, split: str, shown: set[tuple[str, ...]]) -> None:
        asked = self._asked.setdefault(split, set())
        if row.asks in asked:
            self._tell(row.where, "duplicate", kept=True)
        asked.add(row.asks)
        if row.asks in shown:
            self._tell(row.where, "also a shot", kept=True)


def _letter(text: str) -> tuple[str, list[FaultKind]]:
    """The letter as it is meant, and what was wrong with how it stands."""
    faults: list[FaultKind] = []
    letter = text.strip()
    if not letter:
        return "", []
    if letter != text:
        faults.append("spaces around the letter")
    narrow = unicodedata.normalize("NFKC", letter)
    if narrow != letter and len(letter) == 1:
        faults.append("full-width letter")
        letter = narrow
    if len(letter) == 1 and letter.upper() != letter:
        faults.append("lower-case letter")
        letter = letter.upper()
    return letter, faults
