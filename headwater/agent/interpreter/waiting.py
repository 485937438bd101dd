"""Pipes awaited in whatever event loop is running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol


class Pipe(Protocol):
    def fileno(self) -> int: ...


async def ready(readable: Sequence[Pipe], writable: Sequence[Pipe], deadline: float) -> None:
    """Until one of them can be read, or written, or its other end is gone. Raises `TimeoutError` when
    `time.monotonic()` has reached the deadline."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    for pipe in readable:
        loop.add_reader(pipe.fileno(), wake)
    for pipe in writable:
        loop.add_writer(pipe.fileno(), wake)
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            await woken
    finally:
        for pipe in readable:
            loop.remove_reader(pipe.fileno())
        for pipe in writable:
            loop.remove_writer(pipe.fileno())
