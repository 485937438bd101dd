"""Headwater's own template: <|call|>, the tool's name, a newline and the arguments as JSON; a mark no text can be."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.tokenizer.calls.format import CallFormat, plain, written
from headwater.tokenizer.calls.lark import free, json_of, literal
from headwater.tokenizer.calls.reply import Call, Choice, Event, Malformed, Reply
from headwater.tokenizer.calls.stream import JsonBody, Parser
from headwater.tokenizer.chat import CALL, END, Message

_END = "\n"
NAMELESS = "the call has no line of its own for the tool's name"


class OwnParser(Parser):
    """Text until <|call|>, a name until the line's end, arguments until the next mark or the end."""

    def __init__(self) -> None:
        super().__init__()
        self._head: str | None = None
        """A call's first line as far as it is read; None outside of one."""

    def _text(self, text: str) -> list[Event]:
        if self._body is not None:
            return self._argue(text) if text else []
        if self._head is None:
            return self._say(text)
        self._head += text
        line, end, rest = self._head.partition("\n")
        if not end or not line.strip():
            return []
        self._head = None
        return self._begin(JsonBody(line.strip(" "))) + (self._argue(rest) if rest else [])

    def _mark(self, name: str) -> list[Event]:
        if name != CALL:
            return []
        events = self._close()
        self._head = ""
        return events

    def _close(self) -> list[Event]:
        if self._head is None:
            return self._end()
        line, self._head = self._head, None
        return [self._ended(Malformed("", line, NAMELESS))]

    def finish(self, end: str | None = None) -> list[Event]:
        return self._close()


class OwnCalls(CallFormat):
    """One call a turn: the end mark follows it. A program is an argument like any other."""

    title = "headwater's template"

    def system(self, content: str) -> Message | None:
        if self.tools:
            return {"role": "system", "content": content, "tools": [plain(tool) for tool in self.tools.values()]}
        return {"role": "system", "content": content} if content else None

    def parser(self) -> OwnParser:
        return OwnParser()

    def render(self, reply: Reply) -> list[Message]:
        said: list[Message] = [{"role": "assistant", "content": reply.content}] \
            if reply.content or not reply.calls else []
        # A call without a name is said as it was, behind no mark: the template writes none without a name.
        return said + [_message(call) for call in reply.calls]

    def observe(self, results: Sequence[tuple[str, str]]) -> list[Message]:
        return [{"role": "observation", "content": text} for _, text in results]

    def grammar(self, choice: Choice = "auto", *, parallel: bool = True) -> str:
        tools = self.chosen(choice)
        if not tools:
            return f"start: text {END}\n{free('text')}"
        calls = "\n    | ".join(f"{literal(tool.name + _END)} arguments{number}"
                                for number, tool in enumerate(tools))
        rules = "".join(f"arguments{number}: {json_of(tool.parameters)}\n" for number, tool in enumerate(tools))
        start = f"start: {CALL} call {END}\n" if choice != "auto" else \
            f"start: (text | {CALL} call) {END}\n{free('text')}"
        return f"{start}call: {calls}\n{rules}"


def _message(call: Call | Malformed) -> Message:
    content = written(call, lambda one: one.json)
    return {"role": "assistant", "content": content, "metadata": call.name} if call.name else \
        {"role": "assistant", "content": content}
