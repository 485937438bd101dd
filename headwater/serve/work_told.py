"""The events of the agent's loop as pieces of an answer: OpenAI's deltas, and beside them what the tools did."""

from __future__ import annotations

from typing import Any

from headwater.agent.events import Arguments, BudgetReached, CallBegan, Called, Event, Text, wire

BETWEEN = "\n\n"
"""Between what the model says before it calls and what it says after that."""


class WorkTold:
    """Of one answer. A piece is {"delta": ...} or {"agent": ...}."""

    def __init__(self) -> None:
        self._said = self._apart = self._fresh = False
        self._theirs: dict[str, int] = {}
        """The calls of the client's functions, by their ids, in their order."""
        self._argued = set[str]()
        self.spent: str | None = None
        """The budget that is used up, where one is."""

    def feed(self, event: Event) -> list[dict[str, Any]]:
        if isinstance(event, Text):
            return self._text(event.text)
        if isinstance(event, CallBegan) and event.by_caller:
            self._theirs[event.id] = len(self._theirs)
            return [self._call(event.id, id=event.id, type="function",
                               function={"name": event.name, "arguments": ""})]
        if isinstance(event, Arguments) and event.id in self._theirs:
            self._argued.add(event.id)
            return [self._call(event.id, function={"arguments": event.text})]
        if isinstance(event, Called) and event.id in self._theirs:  # one that cannot be read goes as it was written
            left = event.arguments if event.id not in self._argued else ""
            return [self._call(event.id, function={"arguments": left})] if left else []
        if isinstance(event, BudgetReached):
            self.spent = event.what
        told = wire(event)
        self._apart = self._apart or told is not None
        return [] if told is None else [{"agent": told}]

    def _text(self, text: str) -> list[dict[str, Any]]:
        """A turn's text begins at its first letter, apart from that of the turn before."""
        if self._apart:
            self._fresh, self._apart = True, False
        if self._fresh or not self._said:
            text = text.lstrip()
        if not text:
            return []
        text, self._said, self._fresh = (BETWEEN + text if self._fresh and self._said else text), True, False
        return [{"delta": {"content": text}}]

    def _call(self, identity: str, **said: Any) -> dict[str, Any]:
        return {"delta": {"tool_calls": [{"index": self._theirs[identity], **said}]}}
