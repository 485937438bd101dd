"""A thread that owns an engine, for callers that live in an asyncio loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
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


BEHIND = 4096
"""Deltas that wait for a reader, at most; whoever is further behind loses the rest of the answer."""


class Ticket:
    """A request in the worker's hands: iterate over its deltas, or cancel it. Belongs to one asyncio loop."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence, self.prompt = sequence, sequence.prompt
        self.submitted = time.monotonic()
        self.started: float | None = None
        """When it got a slot, by the same clock."""
        self.behind = False
        """Whether it was cancelled for a reader that is too slow."""
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
            self._loop.call_soon_threadsafe(self._put, delta)
        except RuntimeError:  # the caller's loop is gone, and with it whoever wanted the answer
            self.cancel()

    def _put(self, delta: Delta | Exception) -> None:
        last = isinstance(delta, Exception) or delta.finish_reason is not None
        if self._deltas.qsize() >= BEHIND and not last:
            self.behind = True
            self.cancel()
        else:
            self._deltas.put_nowait(delta)


@dataclass(frozen=True)
class Load:
    """What the worker is doing."""

    active: int
    waiting: int
    answered: int
    held: int
    """Tokens in the slots."""


class Worker:
    """Steps the engine while there is work and sleeps when there is none. Requests take turns: the slots that become
    free go to one after the other, so that nobody waits for the last of somebody's 200 prompts."""

    def __init__(self, engine: Engine, *, max_queue: int = 64) -> None:
        """max_queue: most requests that may wait for a slot."""
        self.engine, self.max_queue = engine, max_queue
        self._waiting: deque[deque[Ticket]] = deque()
        """Of each request what has no slot yet; whose turn it is comes first."""
        self._asked: deque[_Asked] = deque()
        self._running: dict[Sequence, Ticket] = {}
        self._answered = 0
        self._closing = self._leaving = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="headwater-engine", daemon=True)
        self._thread.start()

    def submit(self, prompt: list[int], params: SamplingParams, adapter: str | None = None) -> Ticket:
        """Hand a request over, from a coroutine. Raises `InputError` for a bad prompt and `Unavailable`."""
        return self.submit_all([self.engine.prepare(prompt, params, adapter)])[0]

    def submit_all(self, sequences: list[Sequence]) -> list[Ticket]:
        """Hand over what the engine has prepared, of one request, all or none. Raises `Unavailable`: one of many parts,
        which would fill the queue, is taken where nobody waits."""
        tickets = [Ticket(sequence) for sequence in sequences]
        with self._wake:
            self._require_open()
            # Those a free slot takes at the next step do not wait.
            waiting, held = len(self._waiting) - self._free(), self._held()
            if waiting >= self.max_queue:
                raise self._full(waiting)
            if len(tickets) > 1 and held and held + len(tickets) > self.max_queue:
                raise self._full(held)
            self._waiting.append(deque(tickets))
            self._wake.notify()
        return tickets

    async def ask(self, work: Callable[[Engine], T]) -> T:
        """What `work` gives, done by the engine's thread between two steps, unless nobody waits for it any more. Raises
        `Unavailable` and what it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def tell(outcome: T | None, error: Exception | None) -> None:
            if not answer.cancelled():
                answer.set_exception(error) if error is not None else answer.set_result(cast("T", outcome))

        def run(closed: bool) -> None:
            if answer.cancelled():
                return
            found, error = None, None
            try:
                if closed:
                    raise _closed()
                found = work(self.engine)
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the caller's loop is gone
                loop.call_soon_threadsafe(tell, found, error)

        with self._wake:
            self._require_open()
            if len(self._asked) >= max(1, self.max_queue):
                raise self._full(len(self._asked))
            self._asked.append(run)
            self._wake.notify()
        return await answer

    @property
    def load(self) -> Load:
        held = sum(sequence.length for sequence in list(self._running) if sequence.tokens)
        return Load(self.engine.active, self._held() + self.engine.waiting, self._answered, held)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def accepting(self) -> bool:
        return self.alive and not self._closing and not self._leaving

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to do."""
        return not (self._waiting or self._asked or self._running)

    def leave(self) -> None:
        """Refuse what comes and finish what was accepted. From any thread, also inside a signal's handler."""
        self._leaving = True

    def close(self, timeout: float = 10.0) -> None:
        """Cancel what runs, refuse what comes, end the thread. May be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)

    def _require_open(self) -> None:
        if self._closing or self._leaving:
            raise _closed()

    def _full(self, waiting: int) -> Unavailable:
        return Unavailable("full", f"{waiting} requests are waiting already, the most this server queues")

    def _free(self) -> int:
        return max(0, self.engine.max_batch - len(self._running))

    def _held(self) -> int:
        """Parts of requests that have no slot yet."""
        return sum(map(len, list(self._waiting)))

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._asked or self._running or self._closing)
                if self._closing:
                    break
                self._give_slots()
                asked = self._asked.popleft() if self._asked else None
            if asked is not None:
                asked(False)
            if self._running:
                self._step()
        with self._wake:
            for tickets in self._waiting:
                self._hand_over(tickets)
            self._waiting.clear()
        for one in self._asked:
            one(True)
        self.engine.reset()
        self._deliver(list(self._running))

    def _give_slots(self) -> None:
        """What nobody waits for any more goes on, too: the engine drops it and says so."""
        for tickets in self._waiting:
            self._hand_over([one for one in tickets if one.sequence.cancelled])
        left = (deque(one for one in tickets if not one.sequence.cancelled) for tickets in self._waiting)
        self._waiting = deque(tickets for tickets in left if tickets)
        while self._waiting and self._free() > 0:
            tickets = self._waiting.popleft()
            self._hand_over([tickets.popleft()])
            if tickets:
                self._waiting.append(tickets)

    def _hand_over(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self.engine.enqueue(ticket.sequence)
            self._running[ticket.sequence] = ticket

    def _step(self) -> None:
        began = time.monotonic()
        try:
            moved = self.engine.step()
            for sequence in moved:
                if sequence.tokens and self._running[sequence].started is None:
                    self._running[sequence].started = began
            self._deliver(moved)
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


def _closed() -> Unavailable:
    return Unavailable("closed", "the server is shutting down")
