"""Answers on their way to a client: several choices as one stream, given up when the client leaves or time is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from headwater.generate.request import Delta
from headwater.generate.worker import Ticket
from headwater.serve.errors import RequestError, error_body
from headwater.serve.limits import Limits
from headwater.serve.metrics import Watch

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")
OVERDUE = "timeout"
CLOSING = "closing"
SLOW = "slow_reader"
LEFT = "abort"
"""Why an answer was cut short, beside OpenAI's "length"."""


class Answers:
    """The choices of one request, in the engine's hands. Iterating gives (index, delta) as they come."""

    def __init__(self, tickets: Sequence[Ticket], watch: Watch, limits: Limits) -> None:
        """watch: is shown everything. limits: after so many seconds they are ended with what they have."""
        self.tickets, self._watch, self.limits = list(tickets), watch, limits
        self._why: str | None = None
        seconds, loop = limits.seconds, asyncio.get_running_loop()
        self._timer = None if seconds is None else loop.call_later(seconds, self.cancel, OVERDUE)

    def cancel(self, why: str = LEFT) -> None:
        """Give the slots back."""
        self._why = self._why or why
        for ticket in self.tickets:
            ticket.cancel()

    async def __aiter__(self) -> AsyncGenerator[tuple[int, Delta]]:
        # As short as can be: what a slow reader leaves unread waits in the tickets, which bound it.
        merged: asyncio.Queue[tuple[int, Delta] | Exception] = asyncio.Queue(1)
        pumps = [asyncio.create_task(_pump(number, ticket, merged)) for number, ticket in enumerate(self.tickets)]
        left = len(self.tickets)
        try:
            while left:
                found = await merged.get()
                if isinstance(found, Exception):
                    raise found
                self._watch.seen(*found, self._reason(found[1]))
                left -= found[1].finish_reason is not None
                yield found
        finally:
            self._watch.abandoned(left)
            for pump in pumps:
                pump.cancel()
            if self._timer is not None:
                self._timer.cancel()

    async def whole(self) -> list[Delta]:
        """Each choice as one delta."""
        parts: list[list[Delta]] = [[] for _ in self.tickets]
        async for number, delta in self:
            parts[number].append(delta)
        return [Delta("".join(one.text for one in deltas), tuple(token for one in deltas for token in one.tokens),
                      tuple(entry for one in deltas for entry in one.logprobs), deltas[-1].finish_reason,
                      deltas[-1].end)
                for deltas in parts]

    def ended(self, delta: Delta) -> dict[str, Any]:
        """The end of a choice on the wire. OpenAI has no word for an answer that was cut short by time, by a closing
        server or by a reader that is too slow; "length" is its word for cut short."""
        if delta.finish_reason != "cancelled":
            return {"finish_reason": delta.finish_reason}
        return {"finish_reason": "length", "stop_reason": self._reason(delta)}

    def _reason(self, delta: Delta) -> str | None:
        """Why a choice ended, None where it goes on."""
        if delta.finish_reason != "cancelled":
            return delta.finish_reason
        return self._why or (SLOW if any(ticket.behind for ticket in self.tickets) else CLOSING)


async def _pump(number: int, ticket: Ticket, merged: asyncio.Queue[tuple[int, Delta] | Exception]) -> None:
    try:
        async for delta in ticket:
            await merged.put((number, delta))
    except Exception as error:
        await merged.put(error)


@asynccontextmanager
async def cancelled_on_disconnect(cancel: Callable[[], None], receive: Receive) -> AsyncIterator[None]:
    """Calls `cancel` when the client leaves; the body must have been read."""
    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        cancel()
        raise
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


async def unless_left(work: Coroutine[Any, Any, T], receive: Receive, seconds: float | None) -> T:
    """What `work` gives, unless the client leaves first or the time is over: then it is cancelled. The body must have
    been read. Raises `ClientDisconnect`, `RequestError` and what the work raises."""
    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait((working, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientDisconnect
        raise RequestError(f"this took longer than the {seconds:g} seconds that a request has", status=408,
                           code=OVERDUE)
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait((working, leaving))


class Cancellable(Protocol):
    """An answer on its way."""

    limits: Limits

    def cancel(self) -> None: ...


class EventStream(Response):
    """Server-sent events: one JSON object each, then [DONE]. A failure on the way is an event with an "error". A client
    that takes nothing for `limits.unread` seconds is left."""

    def __init__(self, answers: Cancellable, events: AsyncGenerator[dict[str, Any]]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self.answers, self.events = answers, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(data: str, more: bool = True) -> None:
            async with asyncio.timeout(self.answers.limits.unread):
                await send({"type": "http.response.body", "body": data.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(TimeoutError):
            async with cancelled_on_disconnect(self.answers.cancel, receive), aclosing(self.events):
                async for data in self._told():
                    await write(f"data: {data}\n\n")
                await write("data: [DONE]\n\n", more=False)

    async def _told(self) -> AsyncIterator[str]:
        try:
            async for event in self.events:
                yield json.dumps(event, ensure_ascii=False)
        except Exception as error:
            yield json.dumps(error_body(f"the answer failed: {type(error).__name__}", kind="server_error"))
