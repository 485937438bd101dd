"""What every format's streaming parser shares: parts in, events out, the whole reply at the end."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import Protocol

from headwater.tokenizer.calls.arguments import Wrong, read_json, read_python
from headwater.tokenizer.calls.reply import (
    CODE,
    ArgumentsDelta,
    Call,
    CallBegins,
    CallEnds,
    Event,
    Malformed,
    Mark,
    Part,
    Reply,
    TextDelta,
    as_json,
)


class Body(Protocol):
    """A call's arguments on their way."""

    name: str
    """The tool's."""

    def feed(self, text: str) -> str:
        """What became certain of the arguments' JSON."""

    def finish(self) -> tuple[str, Call | Malformed]:
        """The rest of it, and what the call is."""


class JsonBody:
    """Arguments that are written as JSON: they go on as they come."""

    def __init__(self, name: str) -> None:
        self.name, self._written = name, ""

    def feed(self, text: str) -> str:
        self._written += text
        return text

    def finish(self) -> tuple[str, Call | Malformed]:
        return "", read_call(self.name, self._written)


class CodeBody:
    """A program as it is: it becomes the text of `{"code": "..."}`."""

    def __init__(self, name: str) -> None:
        self.name, self._written = name, ""

    def feed(self, text: str) -> str:
        opening = "" if self._written else OPENING
        self._written += text
        return opening + _quoted(text) if text else ""

    def finish(self) -> tuple[str, Call | Malformed]:
        call = Call(self.name, {CODE: self._written}, self._written)
        return CLOSING if self._written else OPENING + CLOSING, call


OPENING, CLOSING = f'{{"{CODE}": "', '"}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


FENCE = "```"
_UNDECIDED = re.compile(r"\n`{0,2}\Z|\n```\s*\Z")
"""The end of a text that may be, or become, the fence's last line."""


class FencedCodeBody:
    """A program between ```python and ```. Only the last fence ends it: a program may hold others."""

    def __init__(self, name: str) -> None:
        self.name, self._written = name, ""
        self._held: str | None = None
        self._began = False

    def feed(self, text: str) -> str:
        self._written += text
        self._held = _after_opening(self._written) if self._held is None else self._held + text
        if self._held is None:
            return ""
        undecided = _UNDECIDED.search(self._held)
        cut = undecided.start() if undecided else len(self._held)
        released, self._held = self._held[:cut], self._held[cut:]
        if self._began or not released:
            return _quoted(released)
        self._began = True
        return OPENING + _quoted(released[1:])  # without the end of the opening's line

    def finish(self) -> tuple[str, Call | Malformed]:
        try:
            code = unfenced(self._written)
        except Wrong as wrong:
            return "", Malformed(self.name, self._written, str(wrong))
        return (CLOSING if self._began else OPENING + CLOSING), Call(self.name, {CODE: code}, self._written)


class PythonBody:
    """`tool_call(...)` between fences. What Python's literals mean is certain at their end: the JSON comes at once."""

    def __init__(self, name: str) -> None:
        self.name, self._written = name, ""

    def feed(self, text: str) -> str:
        self._written += text
        return ""

    def finish(self) -> tuple[str, Call | Malformed]:
        try:
            arguments = read_python(unfenced(self._written))
        except Wrong as wrong:
            return "", Malformed(self.name, self._written, str(wrong))
        return as_json(arguments), Call(self.name, arguments, self._written)


def _after_opening(text: str) -> str | None:
    """What follows the opening fence, the end of its line included; None before that is written, or without one."""
    line, end, _ = text.lstrip().partition("\n")
    return text.lstrip()[len(line):] if end and line.rstrip() in (f"{FENCE}python", FENCE) else None


def unfenced(text: str) -> str:
    """What stands between the first fence and the last. Raises `Wrong`."""
    inner = _after_opening(text)
    if inner is None:
        raise Wrong(f"the call does not begin with {FENCE}python")
    inner = inner.rstrip()
    if not inner.endswith("\n" + FENCE):
        raise Wrong(f"the call does not end with {FENCE}: it may be cut off")
    return inner[1:-len(FENCE) - 1]


def read_call(name: str, written: str) -> Call | Malformed:
    """A call whose arguments are JSON."""
    try:
        return Call(name, read_json(written), written)
    except Wrong as wrong:
        return Malformed(name, written, str(wrong))


class Parser(ABC):
    """One turn of the model. Parts are fed as they come; however a text is split, the events say the same.

    Marks that mean nothing in the format are left out, as decoding leaves them out.
    """

    def __init__(self) -> None:
        self._content = ""
        self._calls: list[Call | Malformed] = []
        self._body: Body | None = None

    def feed(self, part: Part) -> list[Event]:
        """What became certain through the next part."""
        return list(self._mark(part.name) if isinstance(part, Mark) else self._text(part))

    @abstractmethod
    def _text(self, text: str) -> list[Event]: ...

    @abstractmethod
    def _mark(self, name: str) -> list[Event]: ...

    @abstractmethod
    def finish(self, end: str | None = None) -> list[Event]:
        """The turn is over. end: the mark that ended it, where one did and is known."""

    @property
    def reply(self) -> Reply:
        """The whole turn, once it is finished."""
        return Reply(self._content, tuple(self._calls))

    def _say(self, text: str) -> list[Event]:
        self._content += text
        return [TextDelta(text)] if text else []

    def _begin(self, body: Body) -> list[Event]:
        self._body = body
        return [CallBegins(len(self._calls), body.name)]

    def _argue(self, text: str) -> list[Event]:
        assert self._body is not None
        delta = self._body.feed(text)
        return [ArgumentsDelta(len(self._calls), delta)] if delta else []

    def _end(self) -> list[Event]:
        """The call that has begun is over; nothing where none has."""
        if self._body is None:
            return []
        rest, call = self._body.finish()
        self._body = None
        delta: list[Event] = [ArgumentsDelta(len(self._calls), rest)] if rest else []
        return [*delta, self._ended(call)]

    def _ended(self, call: Call | Malformed) -> Event:
        self._calls.append(call)
        return CallEnds(len(self._calls) - 1, call)
