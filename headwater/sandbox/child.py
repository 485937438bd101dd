"""What runs in a new process: it walls itself in, and only then asks for what it is to do.

Three processes. The first leaves the machine's namespaces; the second, number 1 of the new one, lays the root and drops
privileges; the third gives up the rest and does the work. When the second ends the kernel kills all that is left.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from headwater.sandbox import importing, kernel, landlock, namespaces, seccomp
from headwater.sandbox.protocol import READY, UNABLE, Walls

Role = Callable[[int, int], NoReturn]
"""The work: gets the pipe that it reads and the one that it answers through."""

LONGEST = 400
"""Letters kept of a reason."""
SPARE_MEMORY = 16 << 20
"""Left to the report of work that has used up its own: the hard limit lies so far above the soft one."""

_UNIQUE_USERS = 1_000_000_000
_NOBODY = 65534


def main(role: Role) -> NoReturn:
    """Arguments: `Walls` as text, and the numbers of the two pipes."""
    walls = Walls.of(sys.argv[1])
    source, verdict = map(int, sys.argv[2:])
    try:
        if walls.level == "none":
            os.chdir(walls.folder)
            _limit(walls, threads=False)
        else:
            _wall_in(walls, source, verdict)
    except BaseException as error:
        os.write(verdict, UNABLE + f"{type(error).__name__}: {error}".encode()[:LONGEST])
        os._exit(1)
    sys.argv, sys.path[:] = [""], sys.path[1:]
    importing.allow(walls)
    for name in [name for name in sys.modules if name.split(".")[0] == "headwater"]:
        del sys.modules[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.write(verdict, READY)
    role(source, verdict)


def _wall_in(walls: Walls, source: int, verdict: int) -> None:
    """Comes back in the innermost process alone."""
    outermost = os.getpid()
    kernel.die_with_parent()
    if walls.level == "full":
        namespaces.enter()
        _go_on_in_a_child(source, verdict)
        namespaces.own_root(walls)
    _drop_privileges(walls.folder, _UNIQUE_USERS + outermost)
    _go_on_in_a_child(source, verdict, hide=True)
    kernel.die_with_parent()
    if walls.level == "reduced":
        os.listdir(os.path.dirname(os.__file__))  # says whose Python it is that the other user may not read
        landlock.confine(namespaces.readable_paths(walls), list(walls.import_from), walls.folder)
        os.chdir(walls.folder)
    _limit(walls, threads=walls.level == "full" or os.getuid() >= _UNIQUE_USERS)
    seccomp.install()


def _go_on_in_a_child(*pipes: int, hide: bool = False) -> None:
    """Comes back in the child. The parent takes no notice of interrupts, and ends with the child's status; by a
    signal's number above 128 where one ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not (child := os.fork()):
        return
    if hide:
        kernel.hide_memory()
    for pipe in (*pipes, 1, 2):
        os.close(pipe)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _drop_privileges(folder: str, unique_user: int) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        # A user of its own, so that its processes are counted alone; a container may have no users so high.
        for user in (unique_user, _NOBODY):
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


def _limit(walls: Walls, *, threads: bool) -> None:
    limits = {resource.RLIMIT_CPU: (walls.cpu, walls.cpu + 1), resource.RLIMIT_FSIZE: (walls.disk, walls.disk),
              resource.RLIMIT_CORE: (0, 0), resource.RLIMIT_NOFILE: (walls.files, walls.files),
              resource.RLIMIT_MEMLOCK: (0, 0), resource.RLIMIT_AS: (walls.memory, walls.memory + SPARE_MEMORY)}
    if threads:
        limits[resource.RLIMIT_NPROC] = (walls.threads + 2, walls.threads + 2)  # and those that wait for it
    for kind, values in limits.items():
        resource.setrlimit(kind, values)
