"""Processes that work for this one and end with it, however it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any


@contextmanager
def worker_processes(count: int, prepare: Callable[..., object] | None = None, *given: Any
                     ) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes, in each of which `prepare(*given)` runs first; on an error what waits is dropped.

    They are not forked, since other threads (PyTorch's, Arrow's) may hold locks.
    """
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=(prepare, *given))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(prepare: Callable[..., object] | None, *given: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*given)


def _end_with_parent() -> None:
    """A killed parent closes no queue: its workers would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
