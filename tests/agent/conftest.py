"""A model that follows a script, and tools whose work can be seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from headwater.agent.asking import ContextFull, Said
from headwater.agent.budgets import Budgets
from headwater.agent.events import Event
from headwater.agent.loop import Agent, Run
from headwater.agent.permission import Permission
from headwater.agent.tool import Definition, Observation, ToolError
from headwater.agent.toolbox import Toolbox
from headwater.tokenizer.calls import Call, CallFormat, Glm4Calls, Mark, OwnCalls, Part, Reply

TEXT = {"type": "string"}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SEARCH = Definition("search", "Look something up.", schema(query=TEXT), untrusted=True)
COMPUTE = Definition("compute", "Work out a sum.", schema(a={"type": "number"}, b={"type": "number"}))
SEND = Definition("send", "Send a message.", schema(to=TEXT, text=TEXT), effects=True)


@dataclass
class Stand:
    """A tool that answers by a function and keeps what it was asked."""

    definitions: tuple[Definition, ...]
    act: Callable[..., Any]
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closed: int = 0

    async def call(self, name, arguments):
        self.asked.append((name, dict(arguments)))
        found = self.act(**arguments)
        if asyncio.iscoroutine(found):
            found = await found
        return found if isinstance(found, Observation) else Observation(str(found))

    async def close(self):
        self.closed += 1


def search(act: Callable[..., Any] | None = None) -> Stand:
    def lengths(query: str) -> str:
        known = {"Velna": "The Velna is 482 km long.", "Taro": "The Taro is 310 km long."}
        found = [text for name, text in known.items() if name in query]
        if not found:
            raise ToolError(f"nothing is known of '{query}'", fix="search for a river's name")
        return " ".join(found)

    return Stand((SEARCH,), act or lengths)


def compute() -> Stand:
    return Stand((COMPUTE,), lambda a, b: a - b)


def send() -> Stand:
    return Stand((SEND,), lambda to, text: "sent")


class Scripted:
    """Says one turn of its script after the other: a text, a call, a reply, or a function of what it has read."""

    def __init__(self, *turns: Any, format: type[CallFormat] = Glm4Calls, size: int = 3, pause: float = 0) -> None:
        self.turns, self.kind, self.size, self.pause = list(turns), format, size, pause
        self.read: list[list[Any]] = []
        self.choices: list[Any] = []
        self.rooms: list[int] = []
        self.closed = 0

    def format(self, tools):
        return self.kind(tools)

    async def answer(self, messages: Sequence[Any], format: CallFormat, choice: Any, room: int) -> AsyncGenerator[Said]:
        turn = self.turns[len(self.read)]
        self.read.append(list(messages))
        self.choices.append(choice)
        self.rooms.append(room)
        if turn is ContextFull:
            raise ContextFull("the conversation is too long")
        parts = as_written(turn(messages) if callable(turn) else turn, format)
        try:
            for part in parts:
                pieces = [part] if isinstance(part, Mark) else [part[at: at + self.size]
                                                                for at in range(0, len(part), self.size)]
                for piece in pieces:
                    await asyncio.sleep(self.pause)
                    if not room:
                        yield Said((), cut=True)
                        return
                    room -= 1
                    yield Said((piece,), 1)
        finally:
            self.closed += 1


def as_written(turn: Any, format: CallFormat) -> list[Part]:
    """As the model of that format says it; a list is taken as it is."""
    if isinstance(turn, list):
        return turn
    reply = turn if isinstance(turn, Reply) else Reply("", (turn,)) if isinstance(turn, Call) else Reply(turn)
    parts: list[Part] = []
    for message in format.render(reply):
        if isinstance(format, OwnCalls):
            parts += [Mark("<|call|>"), f"{message['metadata']}\n{message['content']}"] if "metadata" in message else [
                message["content"]]
        elif isinstance(format, Glm4Calls):
            parts += [Mark("<|assistant|>")] if parts else []
            parts.append(f"{message.get('metadata', '')}\n{message['content']}")
        else:
            parts.append(message["content"])
    return parts


def agent(model: Scripted, *tools: Stand, functions: Sequence[Definition] = (), permission: Permission | None = None,
          **budgets: Any) -> Agent:
    numbers = count()
    return Agent(model, Toolbox(tools, functions, permission=permission), budgets=Budgets(**budgets),
                 ids=lambda: f"call_{next(numbers)}")


def heard(run: Run) -> list[Event]:
    """Everything that a run tells."""
    async def collect() -> list[Event]:
        return [event async for event in run]

    return asyncio.run(collect())


@pytest.fixture
def ask():
    return [{"role": "user", "content": "How much longer is the Velna than the Taro?"}]
