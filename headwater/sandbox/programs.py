"""One program in a process of its own behind walls: run to its end, and judged.

Printing, ending the process or raising never passes, since `passed` needs a random token that comes through a pipe only
when the program has ended. A program can look for that pipe among its open files: whoever scores programs says so.
"""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from io import FileIO
from typing import Literal

from pydantic import Field

from headwater.sandbox.process import START_SECONDS, WalledProcess
from headwater.sandbox.protocol import READY, TOKEN_BYTES, UNABLE, Walls, framed
from headwater.settings import Settings

Verdict = Literal["passed", "failed", "timed out", "killed", "could not run"]
Level = Literal["full", "reduced"]

_MOST_REPORTED = 1 << 16


class Limits(Settings):
    """What one program may use."""

    seconds: float = Field(default=3.0, gt=0)
    """By the clock, from when the walls stand; the official harness's 3."""
    memory_mib: int = Field(default=1024, ge=64)
    """Address space."""
    disk_mib: int = Field(default=16, ge=1)
    """Of its folder, which is memory too."""
    output_kib: int = Field(default=64, ge=0)
    """Kept of what it prints; the rest is read and thrown away."""
    files: int = Field(default=64, ge=16)
    """Open at once."""
    threads: int = Field(default=32, ge=1)


@dataclass(frozen=True)
class Outcome:
    """What became of a program."""

    verdict: Verdict
    error: str = ""
    """Type of the exception; of a program that ended otherwise, how."""
    message: str = ""
    output: str = ""
    """What it printed, errors included; bytes that are not UTF-8 are replaced."""

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


def run(program: str, limits: Limits, level: Level) -> Outcome:
    """Whether a program runs to its end without an exception, in a folder that goes with it."""
    if level == "full":
        return _in_folder(program, limits, level, "")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return _in_folder(program, limits, level, folder)


def _in_folder(program: str, limits: Limits, level: Level, folder: str) -> Outcome:
    token = secrets.token_hex(TOKEN_BYTES // 2).encode()
    walls = Walls(level, folder, int(limits.seconds) + 2, limits.memory_mib << 20, limits.disk_mib << 20, limits.files,
                  limits.threads)
    process = WalledProcess("headwater.sandbox.program", walls)
    text = program.encode("utf-8", "surrogatepass")
    sender = threading.Thread(target=_send, args=(process.source, framed(text) + token))
    sender.start()
    try:
        reading = _Reading(process.output.fileno(), process.verdict.fileno(), limits)
        in_time = reading.to_end(process.process)
    finally:
        process.kill()
        sender.join()
        process.end()
    return _outcome(reading, in_time, process.process.returncode, token)


def _send(pipe: FileIO, data: bytes) -> None:
    """A program of any length, and the token behind it; whoever was killed reads no more."""
    left = memoryview(data)
    try:
        with pipe:
            while left:
                left = left[os.write(pipe.fileno(), left):]
    except BrokenPipeError:
        pass


class _Reading:
    """Both pipes of a process, read as they fill so that it never waits for us."""

    def __init__(self, output: int, verdict: int, limits: Limits) -> None:
        self.output, self.verdict = bytearray(), bytearray()
        self._limits = limits
        self._most = {output: limits.output_kib << 10, verdict: _MOST_REPORTED}
        self._kept = {output: self.output, verdict: self.verdict}

    @property
    def ready(self) -> bool:
        return self.verdict.startswith(READY)

    def to_end(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the process ended before its time was over, which begins when its walls stand."""
        deadline, started = time.monotonic() + START_SECONDS, False
        with selectors.DefaultSelector() as selector:
            for pipe in self._kept:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                if self.ready and not started:
                    deadline, started = time.monotonic() + self._limits.seconds, True
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                for key, _ in selector.select(left):
                    self._read(key.fd, selector)
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read(self, pipe: int, selector: selectors.BaseSelector) -> None:
        part, kept = os.read(pipe, 65536), self._kept[pipe]
        if not part:
            selector.unregister(pipe)
        kept += part[:max(0, self._most[pipe] - len(kept))]


def _outcome(reading: _Reading, in_time: bool, code: int, token: bytes) -> Outcome:
    """`code` is the exit status, above 128 that of a signal."""
    output = reading.output.decode("utf-8", "replace")
    if not reading.ready:
        why = bytes(reading.verdict).removeprefix(UNABLE).decode("utf-8", "replace")
        return Outcome("could not run", "", why or ("no answer" if not in_time else output[-400:]), "")
    said = bytes(reading.verdict)[len(READY):]
    if said.startswith(token):
        verdict, error, message, *_ = [*said[TOKEN_BYTES:].decode("utf-8", "replace").split("\n", 2), "", ""]
        if verdict == "failed":
            return Outcome("failed", error, message, output)
        if verdict == "passed" and in_time and code == 0:
            return Outcome("passed", output=output)
    if not in_time or code == 128 + signal.SIGXCPU:
        return Outcome("timed out", "", "", output)
    if code > 128 and code - 128 in set(signal.Signals):
        return Outcome("killed", signal.Signals(code - 128).name, "ended by a signal", output)
    return Outcome("failed", "exit", f"the program ended its process with status {code}", output)
