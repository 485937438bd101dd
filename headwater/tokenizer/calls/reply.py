"""What a model said in one turn: text, calls of tools, and calls that are none; whole, and as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

CODE = "code"
"""The one argument of a tool whose calls are text of their own."""


class Offered(Protocol):
    """A tool that the model may call, as far as a format needs to know it."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of the arguments' object."""

    @property
    def free_text(self) -> bool:
        """Whether a call is text of its own (a program); it is the argument `code` then."""


class Mark(NamedTuple):
    """A special token by its name, "<|assistant|>" for example. The same letters as text are no mark."""

    name: str


Part = str | Mark
"""What a model says, piece by piece."""


@dataclass(frozen=True)
class Call:
    """A tool's name and its arguments, which are JSON values."""

    name: str
    arguments: Mapping[str, Any]
    written: str = field(default="", compare=False)
    """The arguments as the model wrote them; empty: a format writes them anew."""

    @property
    def json(self) -> str:
        """The arguments as one line of JSON."""
        return as_json(self.arguments)


@dataclass(frozen=True)
class Malformed:
    """A call that cannot be read: nothing of it is guessed, and nothing is lost."""

    name: str
    """Empty where not even the name is told."""
    written: str
    wrong: str
    """What is wrong with it, for the model to read."""


@dataclass(frozen=True)
class Reply:
    """One turn of the model: text first, then what it called, in its order."""

    content: str = ""
    calls: tuple[Call | Malformed, ...] = ()


@dataclass(frozen=True)
class TextDelta:
    """Text that is certain to be no call; never empty."""

    text: str


@dataclass(frozen=True)
class CallBegins:
    """The name of the turn's next call is certain."""

    index: int
    """Counted from 0 within the turn."""
    name: str


@dataclass(frozen=True)
class ArgumentsDelta:
    """A piece of a call's arguments as JSON text; never empty. Joined they are the whole, of a malformed call as far as
    it was written."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnds:
    """A call is whole, or known to be none. One without a name has not begun before."""

    index: int
    call: Call | Malformed


Event = TextDelta | CallBegins | ArgumentsDelta | CallEnds


@dataclass(frozen=True)
class Only:
    """The model must call this tool."""

    name: str


Choice = Literal["auto", "none", "required"] | Only
"""Whether the model calls: as it likes, never, at least once, or one tool."""


def as_json(value: Any) -> str:
    """One line, letters of every script as they are; a key that is no text becomes one as JSON has it."""
    return json.dumps(value, ensure_ascii=False)
