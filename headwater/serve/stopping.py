"""How the server ends: what was accepted is finished, within a time, and what comes is refused."""

from __future__ import annotations

import os
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from headwater.errors import Interrupted
from headwater.serve.service import Service

if TYPE_CHECKING:
    import socket

FLUSH = 5
"""Seconds in which the last bytes of ended answers may leave."""


class GracefulServer(uvicorn.Server):
    """Asked to end, it goes on listening, so that new requests are told (503) and no connection is cut, until every
    answer has ended or `seconds` are over; answers that are left then end with what they have."""

    def __init__(self, config: uvicorn.Config, service: Service, seconds: float, said: str = "") -> None:
        """said: printed when it answers."""
        config.timeout_graceful_shutdown = FLUSH
        super().__init__(config)
        self._service, self._seconds, self._said = service, seconds, said
        self._asked: float | None = None

    async def on_tick(self, counter: int) -> bool:
        """Whether to close the connections, asked ten times a second."""
        if not await super().on_tick(counter):
            return False
        if self._asked is None:
            self._asked = time.monotonic()
        self._service.leave()
        if not self._service.idle and time.monotonic() - self._asked < self._seconds:
            return False
        await self._service.cut()
        return True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # asked again: whoever still waits for an answer gets none
            os._exit(Interrupted.exit_code)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._said:
            print(self._said, flush=True)
