"""What a run of the loop tells, one event after the other, and how clients read it on the wire."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

from headwater.agent.tool import Image, Observation
from headwater.tokenizer import Message

Budget = Literal["steps", "tokens", "seconds", "context"]
Ending = Literal["answer", "length", "calls", "budget", "repeated"]
"""answer: the model has answered. length: so it has, up to its room. calls: of functions that the caller carries out.
budget: one is used up. repeated: the same call failed again."""


@dataclass(frozen=True)
class Text:
    """The answer's text as it becomes certain, or what the model says before it calls."""

    text: str


@dataclass(frozen=True)
class CallBegan:
    """The model calls; the arguments follow."""

    id: str
    name: str
    by_caller: bool
    """Whether the caller carries it out."""


@dataclass(frozen=True)
class Arguments:
    """A piece of the arguments' JSON."""

    id: str
    text: str


@dataclass(frozen=True)
class Called:
    """A call as a whole."""

    id: str
    name: str
    arguments: str
    """JSON, or as they were written where they cannot be read."""
    by_caller: bool = False
    code: str | None = None
    """Of a tool whose calls are programs: the program."""
    wrong: str = ""
    """Why it cannot be carried out as it is; empty: nothing is known to be wrong."""


@dataclass(frozen=True)
class Observed:
    """What a call gave back, as the model reads it."""

    id: str
    observation: Observation


@dataclass(frozen=True)
class BudgetReached:
    """The run ends here, in the middle of its work."""

    what: Budget


@dataclass(frozen=True)
class Ended:
    """The last event of every run."""

    why: Ending
    text: str
    """Of the last turn."""
    calls: tuple[Called, ...]
    """For the caller to carry out; empty unless `why` is "calls"."""
    messages: tuple[Message, ...]
    """What this run adds to the conversation."""
    tokens: int
    """That the model said in all."""
    tainted: bool
    """Whether others' words are in the conversation: calls may follow their wishes, not the user's."""


Event = Text | CallBegan | Arguments | Called | Observed | BudgetReached | Ended


def wire(event: Event) -> dict[str, Any] | None:
    """An event as the chat API streams it beside the answer; None for what has its place there already."""
    if isinstance(event, Called) and not event.by_caller:
        return {"type": "call", "id": event.id, "name": event.name,
                "arguments": event.arguments if event.code is None else event.code}
    if isinstance(event, Observed):
        seen = event.observation
        return {"type": "observation", "id": event.id, "text": seen.text, "failed": seen.failed,
                "images": [data_url(image) for image in seen.images],
                "sources": [list(source) for source in seen.sources]}
    return {"type": "budget", "what": event.what} if isinstance(event, BudgetReached) else None


def data_url(image: Image) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
