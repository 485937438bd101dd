"""Progress with an ETA: a bar on a terminal, a plain line every few seconds elsewhere. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
PLAIN_SECONDS = 10.0
"""How often a plain line is printed when standard error is not a terminal."""
PLAIN_WIDTH = 160

console = Console(stderr=True, highlight=False, soft_wrap=True)


def show(table: RenderableType) -> None:
    """A table for the person watching; where nobody's window limits it, as wide as it needs."""
    if console.is_terminal:
        console.print(table)
    else:
        Console(stderr=True, width=PLAIN_WIDTH).print(table)


def print_result(result: RenderableType) -> None:
    """A table or (marked-up) text on standard output, which is for results."""
    is_text = isinstance(result, str | Text)
    out = Console(highlight=False, soft_wrap=is_text)
    if not out.is_terminal and not is_text:
        out = Console(width=PLAIN_WIDTH)
    out.print(result)


def say(message: str) -> None:
    """One line for the person watching (standard error; standard output is for results)."""
    console.print(message, markup=False)


_displays: list[Progress] = []
"""The one display on the terminal, if any: a bar inside another's time is a further line of it, gone when done."""
_bars: list[Bar] = []
"""Those that are not closed yet."""


def _on_screen() -> Progress | None:
    return _displays[0] if _displays else None


def _new_display() -> Progress:
    name, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    display = Progress(name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), note,
                       console=console, transient=False)
    display.start()
    _displays.append(display)
    return display


class Bar:
    """What `bar` yields: `advance(n)` moves it, `note(text)` changes what stands behind it."""

    def __init__(self, description: str, total: int | None, start: int) -> None:
        self.description, self.total, self.text = description, total, ""
        self.done = float(start)
        self.told: tuple[float, str] | None = None
        self.started = self.printed = time.monotonic()
        self._warm: tuple[float, float] | None = None
        self._inner = bool(_bars)
        _bars.append(self)
        self._outer, self._rich = _on_screen(), None
        if console.is_terminal:
            self._rich = self._outer or _new_display()
            self._task = self._rich.add_task(description, total=total, completed=start, note="")

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        if self._warm is None and amount:
            self._warm = time.monotonic(), self.done
        if self._rich is not None:
            self._rich.advance(self._task, amount)
        elif time.monotonic() - self.printed >= PLAIN_SECONDS:
            self.printed, self.told = time.monotonic(), (self.done, self.text)
            say(self.line())

    def note(self, text: str) -> None:
        self.text = text
        if self._rich is not None:
            self._rich.update(self._task, note=text)

    def line(self) -> str:
        """The plain form: description, count, elapsed time, ETA and note.

        The ETA counts from the first unit on: what comes before it (compiling, starting workers) comes once.
        """
        elapsed = time.monotonic() - self.started
        parts = [f"{self.description}: {int(self.done)}" + (f"/{self.total}" if self.total else ""), f"{elapsed:.0f} s"]
        if self.total and self._warm is not None and self.done > self._warm[1]:
            since, done = self._warm
            left = (time.monotonic() - since) * (self.total - self.done) / (self.done - done)
            parts.append(f"{left:.0f} s left")
        return ", ".join([*parts, *filter(None, [self.text])])

    def close(self) -> None:
        _bars.remove(self)
        worth = PLAIN_SECONDS if self._inner else 2.0  # the outer one's lines tell of short work inside it
        if self._rich is not None and self._outer is not None:
            self._rich.remove_task(self._task)
        elif self._rich is not None:
            self._rich.stop()
            _displays.clear()
        elif time.monotonic() - self.started >= worth and self.told != (self.done, self.text):
            say(self.line())


@contextmanager
def bar(description: str, total: int | None = None, *, start: int = 0) -> Iterator[Bar]:
    """A progress bar over `total` units, `start` of them already done."""
    shown = Bar(description, total, start)
    try:
        yield shown
    finally:
        shown.close()


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar."""
    with bar(description, total if total is not None else _length(items)) as shown:
        for item in items:
            yield item
            shown.advance()


def _length(items: Iterable[object]) -> int | None:
    return len(items) if isinstance(items, Sized) else None


def is_terminal() -> bool:
    return sys.stderr.isatty()
