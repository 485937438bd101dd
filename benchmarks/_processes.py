"""What a command costs with all processes that it starts: seconds, CPU seconds, peak memory (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_BECOME_REAPER = 36
_PAUSE = 0.1


@dataclass(frozen=True)
class Cost:
    """`peak_gb` is the largest sum of the proportional set sizes (shared pages counted once, mapped files as far as
    they are in memory) of the command and its descendants, sampled ten times a second."""

    seconds: float
    cpu_seconds: float
    peak_gb: float
    output: str


def run_measured(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run it to its end; raises `RuntimeError` with what it said where it fails.

    CPU seconds are those of every descendant: this process becomes the parent of the ones that outlive theirs.
    """
    ctypes.CDLL(None).prctl(_BECOME_REAPER, 1, 0, 0, 0)
    own = set(descendants(os.getpid()))
    before, start, peak = _cpu_of_children(), time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment) as process:
            while process.poll() is None:
                peak = max(peak, sum(map(memory, descendants(process.pid))))
                time.sleep(_PAUSE)
        seconds = time.perf_counter() - start
        said.seek(0)
        output = said.read().decode(errors="replace")
    _reap(own)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output[-4000:]}")
    return Cost(seconds, _cpu_of_children() - before, peak / 1e9, output)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap(own: set[int]) -> None:
    """Wait for what the command left behind; this process has children of its `own`, which go on."""
    while left := set(descendants(os.getpid())) - own:
        for pid in left:
            with contextlib.suppress(ChildProcessError):  # the child of another one
                os.waitpid(pid, 0)


def descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue  # ended meanwhile
    return found


def memory(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
