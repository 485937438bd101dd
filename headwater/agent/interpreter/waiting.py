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
    woken: asyncio.Future[bool] = loop.create_future()

    def wake(in_time: bool = True) -> None:
        if not woken.done():
            woken.set_result(in_time)

    for pipe in readable:
        loop.add_reader(pipe.fileno(), wake)
    for pipe in writable:
        loop.add_writer(pipe.fileno(), wake)
    # In a task that was cancelled, and now waits for its cell to stop, asyncio.timeout of Python 3.11.2 would cancel.
    alarm = loop.call_later(max(0.0, deadline - time.monotonic()), wake, False)
    try:
        if not await woken:
            raise TimeoutError
    finally:
        alarm.cancel()
        for pipe in readable:
            loop.remove_reader(pipe.fileno())
        for pipe in writable:
            loop.remove_writer(pipe.fileno())
