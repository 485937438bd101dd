"""Recall: the share of answers that obey an instruction, turn by turn, with the model talking by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from headwater.align.instructions import Place
from headwater.align.share import Share
from headwater.align.talks import Talk


class Line(NamedTuple):
    """What is measured: its name in tables, and where the instruction stands."""

    title: str
    place: Place


BEFORE = {"before": Line("before", "first"), "system": Line("before, as the system message", "system"),
          "every": Line("before, in every turn", "every")}
AFTER = {"after": Line("after", "first")}
LINES = BEFORE | AFTER
Recall = dict[str, Any]
"""`all` and, by language and kind, the shares of every turn."""


def recall(talks: Sequence[Talk]) -> Recall:
    """Shares of the talks that came to a turn."""
    return {"all": _by_turn(talks), "languages": _each(talks, lambda one: one.instruction.language),
            "kinds": _each(talks, lambda one: one.instruction.kind)}


def _each(talks: Sequence[Talk], key: Callable[[Talk], str]) -> dict[str, list[dict[str, float]]]:
    names = sorted({key(one) for one in talks})
    return {name: _by_turn([one for one in talks if key(one) == name]) for name in names if name}


def _by_turn(talks: Sequence[Talk]) -> list[dict[str, float]]:
    turns = max(len(one.answers) for one in talks)
    return [Share.of(one.obeyed[turn] for one in talks if turn < len(one.answers)).as_json() for turn in range(turns)]


def recall_table(lines: Mapping[str, Recall]) -> Table:
    """All turns, with Wilson's 95 % intervals."""
    table = Table(title="Answers that obey an instruction of the first turn")
    _columns(table, "turn", lines)
    for turn in range(max(len(line["all"]) for line in lines.values())):
        table.add_row(str(turn + 1), *(_cell(line["all"], turn) for line in lines.values()))
    return table


def parts_table(lines: Mapping[str, Recall]) -> Table:
    """The last turn by language and kind."""
    table = Table(title="The same in the last turn")
    _columns(table, "", lines)
    for part in ("languages", "kinds"):
        for name in dict.fromkeys(name for line in lines.values() for name in line[part]):
            table.add_row(name, *(_cell(line[part].get(name, []), -1) for line in lines.values()))
    return table


def _columns(table: Table, first: str, lines: Mapping[str, Recall]) -> None:
    table.add_column(first)
    for name in lines:
        table.add_column(LINES[name].title, justify="right")


def _cell(turns: Sequence[Mapping[str, float]], turn: int) -> str:
    if not -len(turns) <= turn < len(turns):
        return ""
    return Share(turns[turn]["hits"], int(turns[turn]["number"])).words()
