"""What a family's way to call tools can do: say what is on offer, read a turn, write it again, constrain it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headwater.errors import InputError
from headwater.settings import nearest_name
from headwater.tokenizer.calls.reply import Call, Choice, Malformed, Offered, Only, Part, Reply
from headwater.tokenizer.calls.stream import Parser
from headwater.tokenizer.chat import Message

LONGEST_NAME = 64


class CallFormat(ABC):
    """A family's format for the tools of one conversation."""

    title: str
    """For messages."""
    several = False
    """Whether one turn may hold several calls."""

    def __init__(self, tools: Iterable[Offered]) -> None:
        """Raises `InputError` for names that no format can write, or that are given twice."""
        self.tools: Mapping[str, Offered] = _by_name(tools)

    @abstractmethod
    def system(self, content: str) -> Message | None:
        """The system message: `content`, and what the model is told of the tools; None where both are nothing."""

    @abstractmethod
    def parser(self) -> Parser:
        """Of one turn, part by part."""

    def parse(self, parts: str | Iterable[Part], end: str | None = None) -> Reply:
        """A whole turn. end: the mark that ended it, where one did and is known."""
        parser = self.parser()
        for part in [parts] if isinstance(parts, str) else parts:
            parser.feed(part)
        parser.finish(end)
        return parser.reply

    @abstractmethod
    def render(self, reply: Reply) -> list[Message]:
        """The turn as messages of the assistant, which the family's template writes as the model would."""

    @abstractmethod
    def observe(self, results: Sequence[tuple[str, str]]) -> list[Message]:
        """What called tools gave back, by their names, in the calls' order."""

    @abstractmethod
    def grammar(self, choice: Choice = "auto", *, parallel: bool = True) -> str:
        """A turn in llguidance's Lark form, its end mark included. parallel: several calls, where the format has them.

        Raises `InputError` for a choice of no tool, and for a schema that the grammar cannot hold.
        """

    def chosen(self, choice: Choice) -> list[Offered]:
        """The tools that a choice lets the model call. Raises `InputError` where it asks for one that is not there."""
        if choice == "none":
            return []
        if not isinstance(choice, Only):
            if choice == "required" and not self.tools:
                raise InputError("a call is required and no tool is on offer", fix="give tools, or leave the choice")
            return list(self.tools.values())
        if choice.name not in self.tools:
            nearest = nearest_name(choice.name, self.tools)
            raise InputError(f"tool '{choice.name}' is to be called and is not on offer", fix=f"did you mean "
                             f"'{nearest}'?" if nearest else f"on offer: {', '.join(self.tools) or 'none'}")
        return [self.tools[choice.name]]


def written(call: Call | Malformed, anew: Callable[[Call], str]) -> str:
    """A call's arguments as the model wrote them, or written anew."""
    return call.written or anew(call) if isinstance(call, Call) else call.written


def plain(tool: Offered) -> dict[str, Any]:
    """A function as a system message lists it."""
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _by_name(tools: Iterable[Offered]) -> dict[str, Offered]:
    found: dict[str, Offered] = {}
    for tool in tools:
        if not tool.name or len(tool.name) > LONGEST_NAME or not tool.name.isprintable() \
                or any(letter.isspace() for letter in tool.name):
            raise InputError(f"a tool is named {tool.name!r}", fix=f"give it a name of 1 to {LONGEST_NAME} characters "
                             "without spaces")
        if tool.name in found:
            raise InputError(f"two tools are named '{tool.name}'", fix="give each a name of its own")
        found[tool.name] = tool
    return found
