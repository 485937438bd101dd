"""Families without a format of their own (LLaMA 2, Baichuan 2): a call is one JSON object that is the whole turn.

    {"name": "search", "arguments": {"query": "Velna"}}

The system message says so and lists the tools; what a tool gave back is a message of the user's,
`{"tool": "search", "result": "..."}`, as these families have no other role. A user can type the same, and a page's
words stand where the user's do: with tools whose output others write, prefer a family that has the role.

A turn is a call if it begins with an object whose first key is `name` and whose second is `arguments`; anything else is
text, other JSON too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from headwater.tokenizer.calls.arguments import Wrong, read_json
from headwater.tokenizer.calls.format import CallFormat, plain, written
from headwater.tokenizer.calls.lark import free, json_of, literal
from headwater.tokenizer.calls.reply import Call, Choice, Event, Malformed, Reply, as_json
from headwater.tokenizer.calls.stream import Parser
from headwater.tokenizer.chat import Message

TOLD = """You can call tools. Each line here describes one, its arguments as a JSON Schema:
{tools}
To call a tool, answer with a single JSON object and nothing else: {{"name": "the tool's name", "arguments": {{...}}}}
The next message then holds what it gave back. Where no tool is needed, answer in words."""
_HEAD = ("{", '"name"', ":", "", ",", '"arguments"', ":")
"""What a call begins with, white space between; empty: a text."""
_SPACE = " \t\r\n"
LONGEST_OPENING = 500
"""Characters before the arguments; more are no call, so that what is held back stays short."""


def opening(text: str) -> Literal[False] | tuple[str, int] | None:
    """A call's tool and where its arguments begin; None where more must come to tell, False where it is no call."""
    found = _opening(text)
    too_long = (len(text) if found is None else found[1] if found else 0) > LONGEST_OPENING
    return False if too_long else found


def _opening(text: str) -> Literal[False] | tuple[str, int] | None:
    at, name = 0, ""
    for token in _HEAD:
        at += len(text[at:]) - len(text[at:].lstrip(_SPACE))
        rest = text[at:]
        if not token:
            length = _string(rest)
            if length is None or length is False:
                return length
            try:
                name = json.loads(rest[:length])
            except json.JSONDecodeError:
                return False
            at += length
        elif rest.startswith(token):
            at += len(token)
        else:
            return None if token.startswith(rest) else False
    return name, at


def _string(text: str) -> int | Literal[False] | None:
    """Length of the JSON text that `text` begins with; None where it goes on."""
    if not text.startswith('"'):
        return False if text else None
    escaped = False
    for place, letter in enumerate(text[1:], 2):
        if letter == '"' and not escaped:
            return place
        escaped = letter == "\\" and not escaped
    return None


class PlainBody:
    """The arguments' object up to its own end, and what closes the call behind it."""

    def __init__(self, name: str, before: str) -> None:
        self.name, self._written = name, before
        self._arguments = ""
        self._depth, self._quoted, self._escaped = 0, False, False
        self._behind: str | None = None

    def feed(self, text: str) -> str:
        self._written += text
        if self._behind is not None:
            self._behind += text
            return ""
        cut = self._length(text)
        delta, rest = text[:cut], text[cut:]
        self._arguments += delta
        if self._behind is not None:
            self._behind = rest
        return delta

    def _length(self, text: str) -> int:
        """How much of the text belongs to the arguments."""
        for place, letter in enumerate(text, 1):
            if self._quoted:
                self._quoted = letter != '"' or self._escaped
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self._behind = ""
                    return place
        return len(text)

    def finish(self) -> tuple[str, Call | Malformed]:
        try:
            if self._behind is None:
                raise Wrong("the arguments do not end: the call may be cut off")
            arguments = read_json(self._arguments)
            if self._behind.strip(_SPACE) != "}":
                raise Wrong('behind the arguments stands something else than "}"')
        except Wrong as wrong:
            return "", Malformed(self.name, self._written, str(wrong))
        return "", Call(self.name, arguments, self._written)


class PlainParser(Parser):
    """A turn that begins as a call does is one; white space before it is no part of a text."""

    def __init__(self, *, calls: bool) -> None:
        super().__init__()
        self._calling = calls
        self._held: str | None = ""
        """The beginning, before it is known what it is."""

    def _text(self, text: str) -> list[Event]:
        if self._body is not None:
            return self._argue(text) if text else []
        if self._held is None:
            return self._say(text)
        self._held = (self._held + text).lstrip(_SPACE)
        found = opening(self._held) if self._calling else (False if self._held else None)
        if found is None:
            return []
        held, self._held = self._held, None
        if not found:
            return self._say(held)
        name, at = found
        return self._begin(PlainBody(name, held[:at])) + (self._argue(held[at:]) if held[at:] else [])

    def _mark(self, name: str) -> list[Event]:
        return []

    def finish(self, end: str | None = None) -> list[Event]:
        held, self._held = self._held or "", None
        return self._say(held) + self._end()


class PlainCalls(CallFormat):
    """One call a turn, alone in it. A program is an argument like any other."""

    title = "plain JSON"

    def system(self, content: str) -> Message | None:
        told = TOLD.format(tools="\n".join(as_json(plain(tool)) for tool in self.tools.values())) if self.tools else ""
        content = "\n\n".join(part for part in (content, told) if part)
        return {"role": "system", "content": content} if content else None

    def parser(self) -> PlainParser:
        return PlainParser(calls=bool(self.tools))

    def render(self, reply: Reply) -> list[Message]:
        """One message; text beside calls, and several of them, which other families have, stand on lines of it."""
        lines = [*([reply.content] if reply.content else []), *(written(call, _write) for call in reply.calls)]
        return [{"role": "assistant", "content": "\n".join(lines)}]

    def observe(self, results: Sequence[tuple[str, str]]) -> list[Message]:
        lines = [as_json({"tool": name, "result": text}) for name, text in results]
        return [{"role": "user", "content": "\n".join(lines)}] if lines else []

    def grammar(self, choice: Choice = "auto", *, parallel: bool = True) -> str:
        """A text cannot begin with "{" where a call may stand there too."""
        tools = self.chosen(choice)
        if not tools:
            return f"start: text\n{free('text')}"
        calls = "\n    | ".join(f'{literal(_OPEN.format(as_json(tool.name)))} arguments{number} "}}"'
                                for number, tool in enumerate(tools))
        rules = "".join(f"arguments{number}: {json_of(tool.parameters)}\n" for number, tool in enumerate(tools))
        start = "start: call\n" if choice != "auto" else \
            f"start: text | call\n{free('text', _NO_CALL)}"
        return f"{start}call: {calls}\n{rules}"


_NO_CALL = r"([^{\s](?s:.)*)?"
_OPEN = '{{"name": {}, "arguments": '


def _write(call: Call) -> str:
    return _OPEN.format(as_json(call.name)) + call.json + "}"
