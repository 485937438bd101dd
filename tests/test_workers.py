"""Breaks when workers outlive the process they work for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from headwater.workers import worker_processes

PROGRAM = """
import os, time
from headwater.workers import worker_processes
if __name__ == "__main__":
    with worker_processes(2) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
        time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_parent():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert workers
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def test_what_waits_is_dropped_on_an_error():
    waiting: list[Future[None]] = []

    def fail() -> None:
        with worker_processes(1) as pool:
            waiting.extend(pool.submit(time.sleep, 0.05) for _ in range(1000))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sum(future.cancelled() for future in waiting) > 900
