"""A choice of a chat on its way: what the engine says, as the deltas of OpenAI's wire format."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from headwater.generate.request import Delta
from headwater.tokenizer.calls import ArgumentsDelta, CallBegins, CallEnds, CallFormat, Malformed, TextDelta
from headwater.tokenizer.calls.spoken import Spoken
from headwater.tokenizer.vocabulary import Tokenizer


class TextTurn:
    """Of a model that was offered no tools: all it says is text."""

    called = False

    def feed(self, delta: Delta, end_mark: int | None) -> list[dict[str, Any]]:
        """What became certain. end_mark: the token that ended the turn, where one did."""
        return [{"content": delta.text}] if delta.text else []


class ToolTurn:
    """Text, and calls of tools beside it; both go on as they come."""

    def __init__(self, format: CallFormat, tokenizer: Tokenizer, *, parallel: bool) -> None:
        """parallel: whether more than the first call counts."""
        self._parser, self._spoken, self._parallel = format.parser(), Spoken(tokenizer), parallel
        self._names = {index: name for name, index in tokenizer.specials.items()}
        self._said = False
        self._argued = set[int]()
        self.called = False

    def feed(self, delta: Delta, end_mark: int | None) -> list[dict[str, Any]]:
        """See `TextTurn.feed`."""
        over = delta.finish_reason is not None
        parts = [*self._spoken.feed(delta.tokens), *(self._spoken.finish() if over else ())]
        events = [event for part in parts for event in self._parser.feed(part)]
        if over:
            events += self._parser.finish(None if end_mark is None else self._names.get(end_mark))
        return [told for event in events for told in self._told(event)]

    def _told(self, event: TextDelta | CallBegins | ArgumentsDelta | CallEnds) -> list[dict[str, Any]]:
        if isinstance(event, TextDelta):
            return self._text(event.text)
        if event.index and not self._parallel:
            return []
        if isinstance(event, CallBegins):
            self.called = True
            return [_call(event.index, id=f"call_{secrets.token_hex(12)}", type="function",
                          function={"name": event.name, "arguments": ""})]
        if isinstance(event, ArgumentsDelta):
            self._argued.add(event.index)
            return [_call(event.index, function={"arguments": event.text})]
        return self._ended(event)

    def _ended(self, event: CallEnds) -> list[dict[str, Any]]:
        """A call that cannot be read goes to the client as it was written; without a name it is text."""
        if not isinstance(event.call, Malformed) or event.index in self._argued or not event.call.written:
            return []
        if not event.call.name:
            return self._text(event.call.written)
        return [_call(event.index, function={"arguments": event.call.written})]

    def _text(self, text: str) -> list[dict[str, Any]]:
        text = text if self._said else text.lstrip()
        self._said = self._said or bool(text)
        return [{"content": text}] if text else []


Turn = TextTurn | ToolTurn


def _call(index: int, **said: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **said}]}


def message_of(deltas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The whole message that such deltas are pieces of."""
    text, calls = "", dict[int, dict[str, Any]]()
    for delta in deltas:
        text += delta.get("content", "")
        for piece in delta.get("tool_calls", ()):
            if "id" in piece:
                calls[piece["index"]] = {"id": piece["id"], "type": "function", "function": dict(piece["function"])}
            else:
                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    return {**message, "tool_calls": list(calls.values())} if calls else message
