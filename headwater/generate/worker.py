"""A thread that owns an engine, for callers that live in an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from headwater.errors import HeadwaterError
from headwater.generate.engine import Engine
from headwater.generate.request import Delta, Sequence
from headwater.generate.sampling import SamplingParams

T = TypeVar("T")
_Asked = Callable[[bool], None]
"""Work for the engine's thread, told whether the worker is closing."""


class Unavailable(HeadwaterError):
    """The request was not accepted: the queue is full, or the worker is closing. Nothing was computed."""

    def __init__(self, kind: Literal["full", "closed"], what: str) -> None:
        super().__init__(what, fix="send the request again in a few seconds")
        self.kind = kind


class Ticket:
    """A request in the worker's hands: iterate over its deltas, or cancel it. Belongs to one asyncio loop."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence, self.prompt = sequence, sequence.prompt
        self._loop = asyncio.get_running_loop()
        self._deltas: asyncio.Queue[Delta | Exception] = asyncio.Queue()

    def cancel(self) -> None:
        """Give the slot back at the next step; the last delta then says "cancelled". From any thread."""
        self.sequence.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        while True:
            delta = await self._deltas.get()
            if isinstance(delta, Exception):
                raise delta
            yield delta
            if delta.finish_reason is not None:
                return

    def deliver(self, delta: Delta | Exception) -> None:
        """Called by the worker's thread."""
        try:
            self._loop.call_soon_threadsafe(self._deltas.put_nowait, delta)
        except RuntimeError:  # the caller's loop is gone, and with it whoever wanted the answer
            self.cancel()


@dataclass(frozen=True)
class Load:
    """What the worker is doing."""

    active: int
    waiting: int
    answered: int


class Worker:
    """Steps the engine while there is work and sleeps when there is none."""

    def __init__(self, engine: Engine, *, max_queue: int = 64) -> None:
        """max_queue: most requests that may wait for a slot."""
        self.engine, self.max_queue = engine, max_queue
        self._new: deque[Ticket] = deque()
        self._asked: deque[_Asked] = deque()
        self._running: dict[Sequence, Ticket] = {}
        self._answered = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="headwater-engine", daemon=True)
        self._thread.start()

    def submit(self, prompt: list[int], params: SamplingParams, adapter: str | None = None) -> Ticket:
        """Hand a request over, from a coroutine. Raises `InputError` for a bad prompt and `Unavailable`."""
        return self.submit_all([self.engine.prepare(prompt, params, adapter)])[0]

    def submit_all(self, sequences: list[Sequence]) -> list[Ticket]:
        """Hand over requests that the engine has prepared, all of them or none. Raises `Unavailable`."""
        tickets = [Ticket(sequence) for sequence in sequences]
        with self._wake:
            if self._closing:
                raise Unavailable("closed", "the server is shutting down")
            # Those a free slot takes at the next step do not wait.
            waiting = self._outstanding() - self.engine.max_batch
            if waiting >= self.max_queue:
                raise Unavailable("full", f"{waiting} requests are waiting already, the most this server queues")
            self._new.extend(tickets)
            self._wake.notify()
        return tickets

    async def ask(self, work: Callable[[Engine], T]) -> T:
        """What `work` gives, done by the engine's thread between two steps. Raises `Unavailable` and what it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def tell(outcome: T | None, error: Exception | None) -> None:
            if not answer.cancelled():
                answer.set_exception(error) if error is not None else answer.set_result(cast("T", outcome))

        def run(closed: bool) -> None:
            found, error = None, None
            try:
                if closed:
                    raise Unavailable("closed", "the server is shutting down")
                found = work(self.engine)
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the caller's loop is gone
                loop.call_soon_threadsafe(tell, found, error)

        with self._wake:
            if self._closing:
                raise Unavailable("closed", "the server is shutting down")
            self._asked.append(run)
            self._wake.notify()
        return await answer

    @property
    def load(self) -> Load:
        return Load(self.engine.active, len(self._new) + self.engine.waiting, self._answered)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    def close(self, timeout: float = 10.0) -> None:
        """Cancel what runs, refuse what comes, end the thread. May be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)

    def _outstanding(self) -> int:
        return len(self._new) + len(self._running)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._new or self._asked or self._running or self._closing)
                if self._closing:
                    break
                self._take_new()
                asked = self._asked.popleft() if self._asked else None
            if asked is not None:
                asked(False)
            if self._running:
                self._step()
        with self._wake:
            self._take_new()
        for one in self._asked:
            one(True)
        self.engine.reset()
        self._deliver(list(self._running))

    def _take_new(self) -> None:
        while self._new:
            ticket = self._new.popleft()
            self.engine.enqueue(ticket.sequence)
            self._running[ticket.sequence] = ticket

    def _step(self) -> None:
        try:
            self._deliver(self.engine.step())
        except Exception as error:
            # Whatever went wrong (memory, say) concerns every row of the batch; the next requests start afresh.
            self.engine.reset()
            for ticket in self._running.values():
                ticket.deliver(error)
            self._running.clear()

    def _deliver(self, moved: list[Sequence]) -> None:
        for sequence in moved:
            ticket, delta = self._running[sequence], sequence.take()
            if sequence.finish_reason is not None:
                del self._running[sequence]
                self._answered += 1
            if delta is not None:
                ticket.deliver(delta)
