"""Connections that ask for nothing are closed."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 20.0
"""Given to a request's headers; uvicorn itself waits for the first ones without end."""
_AT_WORK = object()


class PatientProtocol(H11Protocol):
    """uvicorn's own, but for whoever connects and then keeps silent, or sends a header now and then: each holds one of
    the files that this process may have open."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look(_AT_WORK)

    def connection_lost(self, exc: Exception | None) -> None:
        self._next.cancel()  # it would hold the connection's memory until then
        super().connection_lost(exc)

    def _look(self, before: object) -> None:
        """before: the request that had been answered when it was looked the last time, if no other had come then."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is before:
            self.transport.close()
        else:
            self._next = self.loop.call_later(SECONDS, self._look, self.cycle if idle else _AT_WORK)
