"""How the loop asks a model: anything that says a turn piece by piece will do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from headwater.errors import HeadwaterError, InputError
from headwater.generate.constraint import Constraint
from headwater.generate.request import Delta
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Worker
from headwater.tokenizer import Message
from headwater.tokenizer.calls import CallFormat, Choice, Offered, Part, format_for
from headwater.tokenizer.calls.spoken import Spoken


class ContextFull(InputError):
    """The conversation leaves no room for an answer."""


class TurnGivenUp(HeadwaterError):
    """The engine ended a turn in its middle: it is closing, or nobody reads what it says."""


@dataclass(frozen=True)
class Said:
    """What came since the last one."""

    parts: tuple[Part, ...]
    tokens: int = 0
    cut: bool = False
    """Whether the turn ends here for want of room."""
    end: str | None = None
    """The mark that ended the turn, where it is known."""


class Model(Protocol):
    """What the loop needs of a model."""

    def format(self, tools: Iterable[Offered]) -> CallFormat:
        """How it writes calls of these."""

    def answer(self, messages: Sequence[Message], format: CallFormat, choice: Choice,
               room: int) -> AsyncGenerator[Said]:
        """The next turn, of `room` tokens at most. Closing the iterator frees what it holds. Raises `ContextFull`."""


class WorkerModel:
    """The model of an engine's worker."""

    def __init__(self, worker: Worker, params: SamplingParams, *, adapter: str | None = None, parallel: bool = True,
                 constrained: bool = True) -> None:
        """params: of every turn; max_tokens bounds each. parallel: several calls in a turn, where the format has them.
        constrained: whatever the model calls is a call that can be read, of a tool on offer, with arguments that fit
        its schema; otherwise that holds only where a call is demanded.

        Raises `InputError` for stop texts, which could end a turn inside a call, and for a constraint besides.
        """
        if params.stop or params.constraint is not None:
            raise InputError("stop texts and constraints do not go together with tools", fix="leave one of them out")
        self._worker, self._params, self._adapter = worker, params, adapter
        self._parallel, self._constrained = parallel, constrained
        self._tokenizer = worker.engine.tokenizer
        self._marks = {index: name for name, index in self._tokenizer.specials.items()}

    def format(self, tools: Iterable[Offered]) -> CallFormat:
        return format_for(self._tokenizer.chat, tools)

    async def answer(self, messages: Sequence[Message], format: CallFormat, choice: Choice,
                     room: int) -> AsyncGenerator[Said]:
        prompt = self._tokenizer.chat.render(messages, add_generation_prompt=True).ids
        space = self._worker.engine.max_length - len(prompt)
        if space < 1:
            raise ContextFull(f"the conversation has {len(prompt)} tokens, the context holds "
                              f"{self._worker.engine.max_length}", fix="shorten it, or let fewer tools be called")
        params = self._params.model_copy(update={"max_tokens": min(self._params.max_tokens, room, space),
                                                 "constraint": self._constraint(format, choice)})
        spoken = Spoken(self._tokenizer)
        async with aclosing(self.deltas(prompt, params)) as deltas:
            async for delta, mark in deltas:
                ended = delta.finish_reason
                last = () if ended is None else spoken.finish()
                yield Said((*spoken.feed(delta.tokens), *last), len(delta.tokens), ended == "length",
                           None if mark is None else self._marks.get(mark))
                if ended == "cancelled":
                    raise TurnGivenUp("the engine gave the turn up")

    async def deltas(self, prompt: list[int], params: SamplingParams) -> AsyncGenerator[tuple[Delta, int | None]]:
        """A turn as it comes, and the token that ended it, where one did. Closing the iterator frees the slot. Raises
        `InputError`, `Unavailable`."""
        ticket = self._worker.submit(prompt, params, self._adapter)
        try:
            async for delta in ticket:
                yield delta, ticket.sequence.end_mark
        finally:
            ticket.cancel()

    def _constraint(self, format: CallFormat, choice: Choice) -> Constraint | None:
        if not format.tools or (choice == "auto" and not self._constrained):
            return None
        return Constraint(kind="grammar", text=format.grammar(choice, parallel=self._parallel))
