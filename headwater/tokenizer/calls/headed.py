"""ChatGLM3's and GLM-4's turns: a first line that is empty before text and a tool's name before a call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

from headwater.tokenizer.calls.format import CallFormat
from headwater.tokenizer.calls.reply import Call, Event, Malformed, Reply
from headwater.tokenizer.calls.stream import Body, Parser
from headwater.tokenizer.chat import Message

ASSISTANT, OBSERVATION = "<|assistant|>", "<|observation|>"
UNKNOWN = "the turn ended as a call does, and its first line names no tool on offer"


class HeadedParser(Parser):
    """No mark stands before a call: only a first line that is a declared tool's name begins one, whatever else a model
    writes there is text. <|assistant|> inside a turn begins the next segment of it."""

    def __init__(self, bodies: Mapping[str, Callable[[], Body]], *, opening_space: bool) -> None:
        """bodies: by the name as it is written. opening_space: SentencePiece's space before a content is no part."""
        super().__init__()
        self._bodies, self._opening_space = bodies, opening_space
        self._head: str | None = ""
        """The segment's first line as far as it is read; None behind it."""
        self._space = False

    def _text(self, text: str) -> list[Event]:
        if self._head is not None:
            return self._heading(text)
        return self._argue(text) if self._body is not None else self._said(text)

    def _said(self, text: str) -> list[Event]:
        if self._space and text:
            text, self._space = text.removeprefix(" "), False
        return self._say(text)

    def _heading(self, text: str) -> list[Event]:
        self._head = (self._head or "") + text
        line, end, rest = self._head.partition("\n")
        name = line.strip(" ")
        if not end and self._may_be_name(line):
            return []
        self._head = None
        if end and not name:
            return self._go_on(rest)
        if end and name in self._bodies:
            return self._begin(self._bodies[name]()) + (self._argue(rest) if rest else [])
        return self._go_on(line + end + rest)

    def _go_on(self, text: str) -> list[Event]:
        """Text begins; two segments of it are two lines."""
        between = self._say("\n") if self._content else []
        self._space = self._opening_space
        return between + self._said(text)

    def _may_be_name(self, line: str) -> bool:
        begun = line.lstrip(" ")
        return begun.rstrip(" ") in self._bodies or any(name.startswith(begun) for name in ("", *self._bodies))

    def _mark(self, name: str) -> list[Event]:
        if name != ASSISTANT:
            return []
        events = self._close_head() + self._end()
        self._head = ""
        return events

    def _close_head(self) -> list[Event]:
        line, self._head = self._head, None
        return self._go_on(line) if line and line.strip(" ") else []

    def finish(self, end: str | None = None) -> list[Event]:
        last_was_call = self._body is not None
        events = self._close_head() + self._end()
        if end == OBSERVATION and not last_was_call:
            events.append(self._ended(Malformed("", "", UNKNOWN)))
        return events


class HeadedFormat(CallFormat):
    """What the two formats share: metadata beside a role, observations as a role."""

    several = True
    opening_space = False

    @abstractmethod
    def write(self, call: Call) -> str:
        """A call's content."""

    @abstractmethod
    def bodies(self) -> Mapping[str, Callable[[], Body]]:
        """What reads the calls of each tool, by its name as it is written."""

    def parser(self) -> HeadedParser:
        return HeadedParser(self.bodies(), opening_space=self.opening_space)

    def head(self, name: str) -> str:
        """A tool's name as it is written."""
        return name

    def render(self, reply: Reply) -> list[Message]:
        said: list[Message] = [{"role": "assistant", "content": reply.content}] \
            if reply.content or not reply.calls else []
        for call in reply.calls:
            if call.name:
                content = call.written.removeprefix(" " * self.opening_space) or (
                    self.write(call) if isinstance(call, Call) else "")
                said.append({"role": "assistant", "metadata": self.head(call.name), "content": content})
        return said

    def observe(self, results: Sequence[tuple[str, str]]) -> list[Message]:
        return [{"role": "observation", "content": text} for _, text in results]
