"""An answer for which the server calls tools: a run of the agent's loop that can be ended at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from headwater.agent.asking import TurnGivenUp
from headwater.agent.events import Called, Event, Observed
from headwater.agent.loop import Run
from headwater.generate.worker import Unavailable
from headwater.serve.answering import CLOSING, LEFT
from headwater.serve.limits import Limits
from headwater.serve.metrics import Metrics
from headwater.serve.served_model import ServedModel
from headwater.serve.server_tools import OpenTools

UNREAD = 64
"""Events that wait for the client; a run whose client reads more slowly waits."""


class Running:
    """A run in a task of its own, with tools that are left when it ends. Iterate over its events once, and close it."""

    def __init__(self, run: Run, tools: OpenTools, model: ServedModel, limits: Limits, metrics: Metrics) -> None:
        self._run, self._tools, self._model = run, tools, model
        self.limits, self._metrics = limits, metrics
        self.why: str | None = None
        """Why it was cut short, where it was."""
        self._events: asyncio.Queue[Event] = asyncio.Queue(UNREAD)
        self._killing: asyncio.Task[None] | None = None
        tools.cut = lambda: self.cancel(CLOSING)
        self._task = asyncio.create_task(self._work())

    async def begun(self) -> None:
        """Until the model has taken the first turn. Raises what ended the run before."""
        taken = asyncio.create_task(self._model.accepted.wait())
        try:
            await asyncio.wait((taken, self._task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
        if not self._model.accepted.is_set():
            self._task.result()

    def cancel(self, why: str = LEFT) -> None:
        """End the model's turn and what a tool does for it; tools that no later answer may have, and their processes,
        at once."""
        self.why = self.why or why
        if self._tools.session is None or why == CLOSING:
            # Before the task: a cell that runs would be asked to stop first, and given time for it.
            self._killing = self._killing or asyncio.create_task(self._tools.close())
        self._task.cancel()

    async def close(self) -> None:
        """Until everything has ended."""
        if not self._task.done():
            self.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.exception()  # was told to whoever iterated
        if self._killing is not None:
            await self._killing

    async def __aiter__(self) -> AsyncGenerator[Event]:
        while (event := await self._next()) is not None:
            yield event
        if self._task.cancelled():
            return
        try:
            self._task.result()
        except (TurnGivenUp, Unavailable):  # the server is closing, or the client reads too slowly
            self.why = self.why or CLOSING

    async def _next(self) -> Event | None:
        reading = asyncio.create_task(self._events.get())
        try:
            await asyncio.wait((reading, self._task), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
        finally:
            reading.cancel()
        return None if self._events.empty() else self._events.get_nowait()

    async def _work(self) -> None:
        calls: dict[str, Called] = {}
        try:
            async with aclosing(aiter(self._run)) as events:
                async for event in events:
                    if isinstance(event, Called):
                        calls[event.id] = event
                    elif isinstance(event, Observed):
                        self._count(calls[event.id], event)
                    await self._events.put(event)
        finally:
            await self._tools.leave()

    def _count(self, call: Called, observed: Observed) -> None:
        """A name that the model made up is not one that is counted by."""
        name = call.name if call.name in self._tools.box.definitions else "unknown"
        self._metrics.called(name, "wrong" if call.wrong else "failed" if observed.observation.failed else "done")
