"""A process behind walls, seen from outside: started, interrupted, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

from headwater.sandbox.protocol import Walls

START_SECONDS, END_SECONDS = 60.0, 30.0
"""Longest wait for the walls, and for a killed process to be gone: a busy machine's, not a program's."""

_START = ("import sys; sys.path.insert(0, {root!r}); from headwater.sandbox.child import main; "
          "from {module} import run; main(run)")


class WalledProcess:
    """A fresh Python that walls itself in and then calls `run` of a module, which needs the standard library alone.

    It lives no longer than the thread that makes it, and than this object.
    """

    def __init__(self, module: str, walls: Walls, environment: Mapping[str, str] | None = None, *,
                 unbuffered: bool = False) -> None:
        """`environment` is all that it sees of one; `unbuffered` puts what it prints into the pipe at once."""
        self._walled = walls.level != "none"
        start = _START.format(root=str(Path(__file__).parents[2]), module=module)
        options = ["-s", "-S", "-P", "-B", "-X", "utf8", *(["-u"] if unbuffered else [])]
        source, self.source = _pipe(written_here=True)
        verdict, self.verdict = _pipe(written_here=False)
        with open(source), open(verdict):
            self.process = subprocess.Popen(
                [sys.executable, *options, "-c", start, walls.text(), str(source), str(verdict)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                start_new_session=True, pass_fds=(source, verdict),
                # The same order of sets in every run, and so the same verdicts.
                env={"PYTHONHASHSEED": "0"} | dict(environment or {}))
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.end = weakref.finalize(self, _end, self.process, self.source, self.verdict)
        """Kill it with all that it started, and close the pipes. May be called twice."""

    def interrupt(self) -> None:
        """SIGINT, of which the processes around the innermost take no notice. Sent to all at once: handed on from one
        to the next it could come late, to what is done after `stand_still`."""
        self._signal_all(signal.SIGINT)

    def stand_still(self) -> None:
        """Stop it with all that it started until `go_on`: nothing of it can wake itself, and SIGKILL ends it
        nevertheless, ours as well as the kernel's when this process ends. Without walls nothing is stopped: only the
        pipe's end would then end it, which what is stopped does not see."""
        if self._walled:
            self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._walled:
            self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it with all that it started."""
        _kill(self.process)


def _pipe(*, written_here: bool) -> tuple[int, FileIO]:
    """The other's end, by its number, and ours."""
    read, write = os.pipe()
    theirs, ours = (read, write) if written_here else (write, read)
    return theirs, FileIO(ours, "wb" if written_here else "rb")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The whole group, stopped or not. Its first process takes those that left the group with it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(END_SECONDS)


def _end(process: subprocess.Popen[bytes], *pipes: FileIO) -> None:
    _kill(process)
    assert process.stdout is not None
    for pipe in (process.stdout, *pipes):
        pipe.close()
