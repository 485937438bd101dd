"""What runs in the new process: it walls itself in, asks for the program only then, runs it and reports.

Three processes. The first leaves the machine's namespaces; the second, number 1 of the new one, lays the root and drops
privileges; the third gives up the rest and runs the program. When the second ends the kernel kills all that is left.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import NoReturn

from headwater.evaluate.isolation import kernel, landlock, namespaces, seccomp
from headwater.evaluate.isolation.protocol import READY, TOKEN_BYTES, UNABLE

LONGEST = 400
"""Letters kept of an exception's message."""

_SPARE_MEMORY = 16 << 20
"""Left to the report of a program that has used up its own."""
_UNIQUE_USERS = 1_000_000_000
_NOBODY = 65534


def main() -> None:
    """Arguments: level, own folder, the two pipes' numbers, then CPU seconds, memory, disk, files and threads."""
    level, folder = sys.argv[1:3]
    source, verdict, cpu, memory, disk, files, threads = map(int, sys.argv[3:])
    try:
        kernel.die_with_parent()
        if level == "full":
            namespaces.enter()
            if first := os.fork():
                _end_as(first, source, verdict)
            namespaces.own_root(disk)
        _drop_privileges(folder)
        if last := os.fork():
            kernel.hide_memory()
            _end_as(last, source, verdict)
        kernel.die_with_parent()
        if level == "reduced":
            os.listdir(os.path.dirname(os.__file__))  # says whose Python it is that the other user may not read
            landlock.confine(namespaces.readable_folders(), folder)
            os.chdir(folder)
        _limit(cpu, memory, disk, files, threads if level == "full" or os.getuid() >= _UNIQUE_USERS else None)
        seccomp.install()
    except BaseException as error:
        os.write(verdict, UNABLE + f"{type(error).__name__}: {error}".encode()[:LONGEST])
        os._exit(1)
    os.write(verdict, READY)
    _run(source, verdict)


def _end_as(process: int, *pipes: int) -> NoReturn:
    """Wait for the process and end with its status; by a signal's number above 128 where one ended it."""
    for pipe in (*pipes, 1, 2):
        os.close(pipe)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _drop_privileges(folder: str) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        # A user of its own, so that its processes are counted alone; a container may have no users so high.
        for user in (_UNIQUE_USERS + os.getppid(), _NOBODY):
            try:
                if folder:
                    os.chown(folder, user, user)
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                break
            except OSError:
                if user == _NOBODY:
                    raise
    kernel.drop_capabilities()
    kernel.never_gain_privileges()
    kernel.die_with_parent()


def _limit(cpu: int, memory: int, disk: int, files: int, threads: int | None) -> None:
    limits = {resource.RLIMIT_CPU: (cpu, cpu + 1), resource.RLIMIT_FSIZE: (disk, disk), resource.RLIMIT_CORE: (0, 0),
              resource.RLIMIT_NOFILE: (files, files), resource.RLIMIT_MEMLOCK: (0, 0),
              resource.RLIMIT_AS: (memory, memory + _SPARE_MEMORY)}
    if threads is not None:
        limits[resource.RLIMIT_NPROC] = (threads + 2, threads + 2)  # and those that wait for it
    for kind, values in limits.items():
        resource.setrlimit(kind, values)


def _run(source: int, verdict: int) -> NoReturn:
    """Run the program as the official harness does, in an empty dictionary of globals. Nothing but names of this
    function refers to what the report needs: a program may put anything in the place of a module's functions."""
    read, write, end, shorten = os.read, os.write, os._exit, _shorten
    raise_limit, kind = resource.setrlimit, resource.RLIMIT_AS
    more = resource.getrlimit(kind)[1]
    flush = sys.stdout.flush
    length = int(_exactly(source, 16))
    text = _exactly(source, length).decode()
    sys.argv, sys.path[:] = [""], sys.path[1:]
    for name in [name for name in sys.modules if name.split(".")[0] == "headwater"]:
        del sys.modules[name]
    try:
        exec(compile(text, "<program>", "exec"), {})
        said = b"passed\n"
    except BaseException as error:
        raise_limit(kind, (more, more))
        said = b"failed\n" + shorten(error)
    try:  # noqa: SIM105 (suppress() looks names up that the program may have replaced)
        flush()
    except BaseException:
        pass
    token = b""
    while len(token) < TOKEN_BYTES and (part := read(source, TOKEN_BYTES - len(token))):
        token += part
    write(verdict, token + said)
    end(0)


def _exactly(pipe: int, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        if not (part := os.read(pipe, min(length - len(parts), 65536))):
            os._exit(1)  # the evaluation has ended
        parts += part
    return parts


def _shorten(error: BaseException) -> bytes:
    """The type and the message, on a line each."""
    name = type(error).__name__
    try:
        message = str(error)[:LONGEST]
    except BaseException:  # __str__ is the program's
        message = ""
    return f"{name[:LONGEST]}\n{message}".encode("utf-8", "backslashreplace")
