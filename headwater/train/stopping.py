"""Ctrl-C and SIGTERM while a run takes steps: the first ends it behind the step that is being taken."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from headwater.train.processes import ranks

SIGNALS = signal.SIGINT, signal.SIGTERM


class Stop:
    """Whether an end is asked for."""

    asked = False


@contextmanager
def stops_between_steps() -> Iterator[Stop]:
    """While the body runs the first signal asks, and the second does what it did before.

    Several processes are not stopped at the same step, and a thread beside the main one gets no signals: there every
    signal does what it did before.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        put_back()
        os.write(2, b"\nstopping behind this step (once more to stop at once)\n")

    def put_back() -> None:
        for kind, handler in before.items():
            signal.signal(kind, handler)

    alone = ranks() == 1 and threading.current_thread() is threading.main_thread()
    before = {kind: signal.signal(kind, ask) for kind in SIGNALS} if alone else {}
    try:
        yield stop
    finally:
        if not stop.asked:
            put_back()
