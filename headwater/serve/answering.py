"""Answers on their way to a client: several choices as one stream, given up when the client leaves or time is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from headwater.generate.request import Delta
from headwater.generate.worker import Ticket
from headwater.serve.errors import error_body

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

OVERDUE = "timeout"
"""Why an answer ended whose time was over, beside OpenAI's "length"."""


class Answers:
    """The choices of one request, in the engine's hands. Iterating gives (index, delta) as they come."""

    def __init__(self, tickets: Sequence[Ticket], seconds: float | None = None,
                 watch: Callable[[int, Delta], None] = lambda number, delta: None) -> None:
        """seconds: after so long they are ended with what they have. watch: is shown everything."""
        self.tickets, self.overdue, self._watch = list(tickets), False, watch
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.overdue = True
        self.cancel()

    def cancel(self) -> None:
        """Give the slots back."""
        for ticket in self.tickets:
            ticket.cancel()

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        merged: asyncio.Queue[tuple[int, Delta] | Exception] = asyncio.Queue()
        pumps = [asyncio.create_task(_pump(number, ticket, merged)) for number, ticket in enumerate(self.tickets)]
        left = len(self.tickets)
        try:
            while left:
                found = await merged.get()
                if isinstance(found, Exception):
                    raise found
                self._watch(*found)
                left -= found[1].finish_reason is not None
                yield found
        finally:
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
                      tuple(entry for one in deltas for entry in one.logprobs), deltas[-1].finish_reason)
                for deltas in parts]

    def ended(self, delta: Delta) -> dict[str, Any]:
        """The end of a choice on the wire. OpenAI has no word for an answer that was cut short by time or by a closing
        server; "length" is its word for cut short."""
        if delta.finish_reason != "cancelled":
            return {"finish_reason": delta.finish_reason}
        return {"finish_reason": "length", "stop_reason": OVERDUE if self.overdue else "closing"}


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


class EventStream(Response):
    """Server-sent events: one JSON object each, then [DONE]. A failure on the way is an event with an "error"."""

    def __init__(self, cancel: Callable[[], None], events: AsyncIterator[dict[str, Any]]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self.cancel, self.events = cancel, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(data: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with cancelled_on_disconnect(self.cancel, receive):
            try:
                async for event in self.events:
                    await write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n")
            except Exception as error:
                body = error_body(f"the answer failed: {type(error).__name__}", kind="server_error")
                await write(f"data: {json.dumps(body)}\n\n")
            await write("data: [DONE]\n\n", more=False)
