"""Stopping a run: signals, locks, and what a person is told when something goes wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from headwater.artifacts import says_full, storage_errors
from headwater.errors import HeadwaterError, InputError, Interrupted, StorageError, UnexpectedError

REPEAT_SECONDS = 2.0
"""After so long an interrupt that nobody saw is raised again."""


@contextmanager
def stoppable(resume: Sequence[str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the body at once and say how to go on; a second one kills the process.

    An interrupt that comes while a destructor or a library's callback runs is lost there, so it is raised again
    until the body has ended. Raises `Interrupted`.
    """
    told, hook = False, sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, signal.SIG_DFL)
        os.write(2, b"\nstopping (once more to kill)\n")
        sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else hook(lost)
        signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS, REPEAT_SECONDS)
        raise KeyboardInterrupt

    def again(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGALRM: again}
    before = {kind: signal.signal(kind, handler) for kind, handler in handlers.items()} if main else {}
    try:
        try:
            yield
        finally:
            if told:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as error:
        # A library may answer the interrupt with an error of its own.
        if told or isinstance(error, KeyboardInterrupt | Interrupted):
            kept = error.what if isinstance(error, Interrupted) else "stopped; what was saved so far is kept"
            raise Interrupted(kept, fix=f"go on with the same command:\n  {shlex.join(resume)}") from error
        raise
    finally:
        sys.unraisablehook = hook
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def locked(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock file while the body runs, so that no other process works in the folder. Raises `InputError`."""
    with storage_errors(path):
        descriptor = _acquire(path, folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            raise InputError(f"another run works here (process {holder})", where=folder,
                             fix="wait until it ends, stop that process, or give another --out") from None
        # The holder before may have removed the file between our opening and our locking it.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)


@contextmanager
def explained(out: Path, doing: str) -> Iterator[None]:
    """Turn what a body did not foresee into one clear message: a full disk, or a crash kept in `out`/crash.txt.

    Raises `StorageError` or `UnexpectedError`; errors that explain themselves pass.
    """
    try:
        yield
    except HeadwaterError:
        raise
    except Exception as error:
        if lost_neighbour(error):
            raise HeadwaterError("another process of this run ended", where=doing, fix="its own message says why; the "
                                 "same command goes on from what is done") from error
        if _disk_is_full(error):
            raise StorageError(f"the disk is full ({_first_line(error)})", where=out,
                               fix="free some space, then give the same command: what is done is kept") from error
        raise unexpected(error, out, doing=doing, kept="; what is done is kept, and the same command tries again"
                         ) from error


def unexpected(error: BaseException, folder: Path, *, doing: str, kept: str = "") -> UnexpectedError:
    """What a person is told of an error that nobody foresaw; its traceback goes to `folder`/crash.txt."""
    path = folder / "crash.txt"
    text = "".join(traceback.format_exception(error))
    try:
        path.write_text(text, encoding="utf-8")
        fix = f"report it with {path}{kept}"
    except OSError:
        fix = f"report this:\n{text}"
    return UnexpectedError(f"unexpected {type(error).__name__}: {_first_line(error)}", where=doing, fix=fix)


def lost_neighbour(error: BaseException) -> bool:
    """Whether an error says that another process of the run, which this one spoke with, is gone (gloo's words)."""
    return isinstance(error, RuntimeError) and "gloo" in str(error) and any(
        words in str(error) for words in ("Connection closed by peer", "Connection reset by peer", "Broken pipe"))


def _disk_is_full(error: BaseException | None) -> bool:
    """Said by the error, or by one that it came from."""
    while error is not None and not says_full(error):
        error = error.__cause__ or error.__context__
    return error is not None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]
