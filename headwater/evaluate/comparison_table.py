"""A comparison for people: a table of as many models as the terminal is wide, and further ones for the others."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from headwater.evaluate.bootstrap import LEVEL
from headwater.evaluate.compare import BEST, Cell, Comparison, Line

BEST_MARK, HIGHER, LOWER = "★", "↑", "↓"
_WIDEST = 24
"""A longer name of a model is broken into lines."""
_BORDER = 3
_LEAST = 20


class ComparisonTable:
    """To be printed by rich."""

    def __init__(self, comparison: Comparison, title: str = "Benchmarks") -> None:
        self.comparison, self.title = comparison, title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [_column(self.comparison, name) for name in self.comparison.models]
        heads = [[row[number] for row in map(_head, self.comparison.lines)] for number in range(2)]
        first = sum(max(map(cell_len, ("", *head))) + _BORDER for head in heads) + len("questions") + 1
        for number, part in enumerate(_parts(columns, options.max_width - first)):
            yield self._table(part, number)
        yield from self._notes()

    def _table(self, columns: list[list[tuple[str, list[str]]]], number: int) -> Table:
        table = Table(title=self.title if not number else f"{self.title} (continued)")
        table.add_column("")
        table.add_column("questions", justify="right")
        for column in columns:
            for name, _ in column:
                table.add_column(escape(name), justify="right", overflow="fold", max_width=_WIDEST)
        for place, line in enumerate(self.comparison.lines):
            if place and line.group is None and any(one.group for one in self.comparison.lines):
                table.add_section()
            name, questions = _head(line)
            table.add_row(escape(name), questions, *(cells[place] for column in columns for _, cells in column))
        return table

    def _notes(self) -> Iterator[str]:
        lines, against = self.comparison.lines, self.comparison.reference
        if len(self.comparison.models) > 1:
            whom = "the best of the row" if against == BEST else escape(against)
            yield (f"In %, with {LEVEL:.0%} intervals (bootstrap over questions). {BEST_MARK} best; {HIGHER} {LOWER} "
                   f"higher, lower than {whom} by a paired randomisation test (McNemar's where it is one), corrected "
                   "by Holm.")
        for line in lines:
            if line.left_out and line.group is None:
                yield (f"{escape(line.benchmark)}: {line.left_out:,} questions that not every model was asked are left "
                       "out.")


def _head(line: Line) -> tuple[str, str]:
    return line.benchmark if line.group is None else f"  {line.group}", f"{line.questions:,}"


def _column(comparison: Comparison, model: str) -> list[tuple[str, list[str]]]:
    """A model's column, and one of what is published of it where anything is."""
    cells = [line.cells.get(model) for line in comparison.lines]
    column = [(model, ["" if cell is None else told(cell) for cell in cells])]
    known = [cell.published if cell else None for cell in cells]
    if name := next((one.model for one in known if one), None):
        shown = ["" if one is None else f"{100 * one.value:.1f} ({one.grade})" for one in known]
        column.append((f"published of {name}", shown))
    return column


def told(cell: Cell) -> str:
    """Score, interval and marks."""
    figure, against = cell.figure, cell.against
    mark = BEST_MARK if cell.best else ""
    if against is not None and against.significant:
        mark += HIGHER if against.difference.value > 0 else LOWER
    text = f"{100 * figure.value:.1f} ({100 * figure.low:.1f}-{100 * figure.high:.1f})"
    return f"[bold]{text} {mark}[/bold]" if cell.best else f"{text} {mark}".rstrip()


def _parts(columns: list[list[tuple[str, list[str]]]], room: int) -> Iterator[list[list[tuple[str, list[str]]]]]:
    """As many models at once as there is room for, at least one."""
    part: list[list[tuple[str, list[str]]]] = []
    used = 0
    for column in columns:
        width = sum(_width(name, cells) + _BORDER for name, cells in column)
        if part and used + width > max(room, _LEAST):
            yield part
            part, used = [], 0
        part.append(column)
        used += width
    if part:
        yield part


def _width(name: str, cells: list[str]) -> int:
    plain = (cell.replace("[bold]", "").replace("[/bold]", "") for cell in cells)
    return min(_WIDEST, max(map(cell_len, (name, *plain))))
