"""Programs that a model wrote, run against their tests in processes that can do nothing else.

Covered: a program reads Python's standard library and the system's shared libraries, writes one folder of its own that
goes with it, and has no network, no other process, no environment; time, memory, disk, open files and threads are
bounded, and it is killed with all that it started. Which walls stand is tried by programs that attempt to get through
(`isolation`); where the least does not hold, nothing is run.

Not covered: a fault of the kernel itself, and what is learned from timing. Of the verdict: printing, ending the process
or raising never passes, since `passed` needs a random token that comes through a pipe only when the program has ended.
A program and its tests share one interpreter, as in the official harness: one that looks for that pipe among its open
files, or gives back objects that are equal to everything, can still pass for right. That costs a score and no more.
"""

from __future__ import annotations

import functools
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

import headwater
from headwater.errors import InputError
from headwater.evaluate.isolation import probes
from headwater.evaluate.isolation.protocol import READY, TOKEN_BYTES, UNABLE
from headwater.settings import Settings

Verdict = Literal["passed", "failed", "timed out", "killed", "could not run"]
Level = Literal["full", "reduced"]

_START_SECONDS, _END_SECONDS = 60.0, 30.0
"""Longest wait for the walls, and for a killed process to be gone: a busy machine's, not a program's."""
_MOST_REPORTED = 1 << 16

_START = "import sys; sys.path.insert(0, {root!r}); from headwater.evaluate.isolation.child import main; main()"


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


@dataclass(frozen=True)
class Isolation:
    """The walls that were found to hold on this machine."""

    level: Level
    """full: file system, network and processes of its own behind a filter of system calls; reduced: the machine's,
    behind Landlock and that filter."""
    missing: tuple[str, ...] = ()


def run_programs(programs: Sequence[str], limits: Limits, *, workers: int) -> list[Outcome]:
    """Each program in a fresh process, `workers` at once; outcomes in the order of the programs.

    A program passes if it runs to its end without an exception. Raises `InputError` where this machine cannot wall
    programs in.
    """
    level = isolation().level
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            return list(pool.map(lambda program: _run(program, limits, level), programs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@functools.cache
def isolation() -> Isolation:
    """The strongest level that holds here, tried once by programs that attempt to get through.

    Raises `InputError` with what was found where neither does.
    """
    found = []
    if sys.platform == "linux":
        levels: tuple[Level, ...] = ("full", "reduced")
        for level in levels:
            problem, missing = _try(level)
            if not problem:
                return Isolation(level, missing)
            found.append(f"{level}: {problem}")
    why = "; ".join(found) or f"it needs Linux, this is {sys.platform}"
    raise InputError(f"programs that a model wrote cannot be walled in on this machine: {why}",
                     fix="run the evaluation on Linux 5.13 or newer, on x86_64 or aarch64, with a Python that ordinary "
                         "users may read, or leave out benchmarks that run code")


def _try(level: Level) -> tuple[str, tuple[str, ...]]:
    """What speaks against a level, or "", and what it leaves open."""
    limits = Limits(seconds=20, disk_mib=4)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        os.chmod(folder, 0o777)
        Path(folder, "canary").write_text("canary")
        port = int(listener.getsockname()[1])
        outcome = _run(probes.program(folder, port, os.getpid(), limits.disk_mib << 20), limits, level)
    if not outcome.passed:
        return f"{outcome.error} {outcome.message}".strip(), ()
    worked = set(outcome.output.splitlines())
    held_up = [f"a program cannot {name}" for name in probes.ALLOWED if name not in worked]
    open_walls = [f"a program can {name}" for name in probes.FORBIDDEN if name in worked]
    return ", ".join(held_up + open_walls), tuple(said for name, said in probes.MISSED.items() if name in worked)


def _run(program: str, limits: Limits, level: Level) -> Outcome:
    if level == "full":
        return _in_folder(program, limits, level, "")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return _in_folder(program, limits, level, folder)


def _in_folder(program: str, limits: Limits, level: Level, folder: str) -> Outcome:
    token = secrets.token_hex(TOKEN_BYTES // 2).encode()
    source_read, source_write = os.pipe()
    verdict_read, verdict_write = os.pipe()
    process = subprocess.Popen(
        _command(limits, level, folder, source_read, verdict_write), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, cwd="/", start_new_session=True, pass_fds=(source_read, verdict_write),
        # The same order of sets in every run, and so the same verdicts.
        env={"PYTHONHASHSEED": "0"})
    os.close(source_read)
    os.close(verdict_write)
    text = program.encode("utf-8", "surrogatepass")
    sender = threading.Thread(target=_send, args=(source_write, b"%16d" % len(text) + text + token))
    sender.start()
    assert process.stdout is not None
    try:
        reading = _Reading(process.stdout.fileno(), verdict_read, limits)
        in_time = reading.to_end(process)
    finally:
        _end(process)
        sender.join()
        process.stdout.close()
        os.close(verdict_read)
    return _outcome(reading, in_time, process.returncode, token)


def _command(limits: Limits, level: Level, folder: str, source: int, verdict: int) -> list[str]:
    start = _START.format(root=str(Path(headwater.__file__).parent.parent))
    numbers = [source, verdict, int(limits.seconds) + 2, limits.memory_mib << 20, limits.disk_mib << 20, limits.files,
               limits.threads]
    return [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", start, level, folder, *map(str, numbers)]


def _send(pipe: int, data: bytes) -> None:
    """A program of any length, and the token behind it; whoever was killed reads no more."""
    try:
        with open(pipe, "wb") as stream:
            stream.write(data)
    except BrokenPipeError:
        pass


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group. Its first process takes those that left the group with it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_END_SECONDS)


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
        deadline, started = time.monotonic() + _START_SECONDS, False
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
