"""What happened in a run, to be read and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headwater.agent.budgets import Meter
from headwater.agent.events import BudgetReached, Called, Ended, Event, Observed, wire
from headwater.artifacts import atomic_write


class Trace:
    """An entry for each turn, call, observation and ending, with the seconds since the run began."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def turn(self, meter: Meter) -> dict[str, Any]:
        """The entry of a turn that begins; what it says and its tokens are filled in when it is over."""
        self._add(meter, {"type": "turn", "step": meter.steps, "text": "", "tokens": 0})
        return self.entries[-1]

    def event(self, meter: Meter, event: Event) -> None:
        """Whole events are kept; pieces of them are not."""
        if isinstance(event, Called):
            self._add(meter, {"type": "call", "id": event.id, "name": event.name, "arguments": event.arguments,
                              "by_caller": event.by_caller, "wrong": event.wrong})
        elif isinstance(event, Observed | BudgetReached):
            self._add(meter, wire(event) or {})
        elif isinstance(event, Ended):
            self._add(meter, {"type": "ended", "why": event.why, "tokens": event.tokens, "tainted": event.tainted})

    def _add(self, meter: Meter, entry: dict[str, Any]) -> None:
        self.entries.append({**entry, "seconds": round(meter.seconds, 3)})

    def save(self, path: Path) -> None:
        """As JSON, pictures as data URLs. Raises `InputError`, `StorageError`."""
        with atomic_write(path, "w") as file:
            json.dump(self.entries, file, ensure_ascii=False, indent=1)

    def __str__(self) -> str:
        """For a person: a line or a few for each entry."""
        return "\n".join(f"{entry['seconds']:7.2f} s  {_line(entry)}" for entry in self.entries)


def _line(entry: dict[str, Any]) -> str:
    kind = entry["type"]
    if kind == "turn":
        return f"step {entry['step']}: {entry['tokens']} tokens {entry['text']!r}"
    if kind == "call":
        return f"calls {entry['name'] or 'nothing'} {entry['arguments']}" + (
            f" ({entry['wrong']})" if entry["wrong"] else "")
    if kind == "observation":
        pictures = f", {len(entry['images'])} pictures" if entry["images"] else ""
        return f"{'fails' if entry['failed'] else 'gives'} {entry['text']!r}{pictures}"
    return f"no {entry['what']} left" if kind == "budget" else f"ends: {entry['why']}, {entry['tokens']} tokens"
