"""What a model may call, and what comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from headwater.errors import HeadwaterError


class ToolError(HeadwaterError):
    """A call that failed in a way that the model can read and act on; it becomes an observation, never an end."""


@dataclass(frozen=True)
class Definition:
    """What the model is told of a tool. Names are those that a template can write: one line, no spaces."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of the arguments' object."""
    free_text: bool = False
    """Whether a call is text of its own (a program), not JSON; the text comes as the argument `code`."""
    approval: bool = False
    """Whether a person must agree to every call."""
    effects: bool = False
    """Whether a call changes something outside of the conversation (sends, writes, buys): once others' words are in the
    conversation, a person must agree."""
    untrusted: bool = False
    """Whether what comes back was written by others (a page, a stranger's server): it may hold instructions that the
    user never gave."""

    def plain(self) -> dict[str, Any]:
        """As a system message's `tools` have it."""
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}


@dataclass(frozen=True)
class Image:
    """A picture that a tool made."""

    data: bytes
    media_type: str = "image/png"


@dataclass(frozen=True)
class Observation:
    """What a tool gave back: text for the model, pictures for the person."""

    text: str
    images: tuple[Image, ...] = ()
    failed: bool = False
    sources: tuple[tuple[str, str], ...] = field(default=())
    """Addresses and titles that the text speaks of, for citations."""


class Tool(Protocol):
    """One name that the model may call. A tool with a state (a session, an open page) belongs to one conversation."""

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """What it offers: one function, or several that share a state."""

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Arguments fit the definition's schema: the loop has checked them. Raises `ToolError`; cancelling the task
        ends the call and what it started."""

    async def close(self) -> None:
        """End processes and connections. May be called twice."""


@dataclass(frozen=True)
class Kind:
    """Tools that a conversation asks for by one word."""

    label: str
    """For people."""
    open: Callable[[], Awaitable[Tool]]
    """Of one conversation, which closes it. Raises `HeadwaterError`."""
    process: bool = False
    """Whether each may be a process of its own: a server bounds how many there are."""
    definitions: tuple[Definition, ...] = ()
    """What they offer, where it is known."""
