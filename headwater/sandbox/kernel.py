"""The few calls to the Linux kernel that Python's standard library does not have."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SIGKILL, _MNT_DETACH, _AT_RECURSIVE, _AT_FDCWD = 9, 2, 0x8000, -100
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442

_LIBC = ctypes.CDLL(None, use_errno=True)
MACHINE = os.uname().machine  # `platform` would remember the real name of the machine too


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A function of the C library, whole numbers as `long`. Raises `OSError` where it answers -1."""
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    answer = int(getattr(_LIBC, name)(*given))
    if answer == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return answer


def unshare(flags: int) -> None:
    call("unshare", flags)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    call("mount", os.fsencode(source) if source else None, os.fsencode(target), kind.encode() if kind else None, flags,
         options.encode())


def protect_mount(target: str, attributes: int, *, recursive: bool) -> None:
    """Add attributes (1: read-only, 2: no set-uid, 4: no devices, 8: nothing to execute) to a mount, and to all below
    it. Linux 5.12 or newer."""
    wanted = ctypes.create_string_buffer(attributes.to_bytes(8, "little") + bytes(24), 32)
    call("syscall", _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE if recursive else 0, wanted, 32)


def pivot_root(new: str, old: str) -> None:
    call("syscall", _PIVOT_ROOT[MACHINE], os.fsencode(new), os.fsencode(old))


def detach(target: str) -> None:
    call("umount2", os.fsencode(target), _MNT_DETACH)


def name_machine(name: str) -> None:
    """In this process's namespace of names."""
    call("sethostname", name.encode(), len(name))
    call("setdomainname", b"", 0)


def die_with_parent() -> None:
    """Killed when the thread that started this process ends. Changing the user undoes it: call it afterwards."""
    call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def never_gain_privileges() -> None:
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def hide_memory() -> None:
    """Neither traced nor read by other processes of the same user."""
    call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> None:
    version_3, this_process = 0x20080522, 0
    header = version_3.to_bytes(4, "little") + this_process.to_bytes(4, "little")
    call("capset", ctypes.create_string_buffer(header, 8), ctypes.create_string_buffer(24))
