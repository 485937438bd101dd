"""Which walls hold on this machine, tried before anything else is run behind them."""

from __future__ import annotations

import functools
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import InputError
from headwater.sandbox import probes, programs
from headwater.sandbox.programs import Level, Limits


@dataclass(frozen=True)
class Isolation:
    """The walls that were found to hold on this machine."""

    level: Level
    """full: file system, network and processes of its own behind a filter of system calls; reduced: the machine's,
    behind Landlock and that filter."""
    missing: tuple[str, ...] = ()


@functools.cache
def isolation() -> Isolation:
    """The strongest level that holds here, tried once by programs that attempt to get through.

    Raises `InputError` with what was found where neither does.
    """
    found = []
    if sys.platform == "linux":
        levels: tuple[Level, ...] = ("full", "reduced")
        for level in levels:
            problem, missing = trial(level)
            if not problem:
                return Isolation(level, missing)
            found.append(f"{level}: {problem}")
    why = "; ".join(found) or f"it needs Linux, this is {sys.platform}"
    raise InputError(f"programs that a model wrote cannot be walled in on this machine: {why}",
                     fix="use Linux 5.13 or newer, on x86_64 or aarch64, with a Python that ordinary users may read")


def trial(level: Level) -> tuple[str, tuple[str, ...]]:
    """What speaks against a level, or "", and what it leaves open."""
    limits = Limits(seconds=20, disk_mib=4)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        os.chmod(folder, 0o777)
        Path(folder, "canary").write_text("canary")
        port = int(listener.getsockname()[1])
        outcome = programs.run(probes.program(folder, port, os.getpid(), limits.disk_mib << 20), limits, level)
    if not outcome.passed:
        return f"{outcome.error} {outcome.message}".strip(), ()
    worked = set(outcome.output.splitlines())
    held_up = [f"a program cannot {name}" for name in probes.ALLOWED if name not in worked]
    open_walls = [f"a program can {name}" for name in probes.FORBIDDEN if name in worked]
    return ", ".join(held_up + open_walls), tuple(said for name, said in probes.MISSED.items() if name in worked)
