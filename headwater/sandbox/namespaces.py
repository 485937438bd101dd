"""A machine of its own for a process: an empty file system, no network, no other processes."""

from __future__ import annotations

import os

from headwater.sandbox import kernel
from headwater.sandbox.protocol import Walls

_WORK, _OLD, _STAGING = "/work", "/.old", "/tmp"
_MACHINE = "sandbox"
"""Its name, in place of the real one's."""
_DEVICES = "/dev/null", "/dev/zero", "/dev/urandom"


def readable_paths(walls: Walls) -> list[str]:
    """What Python needs to import its standard library, its own folder and the system's shared libraries, and what is
    allowed beside."""
    library = os.path.dirname(os.__file__)
    paths = [library, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", *walls.readable]
    kept = [path for path in dict.fromkeys(paths) if os.path.exists(path)]
    # One inside another would be laid twice.
    return [path for path in kept if not any(path.startswith(other + "/") for other in kept)]


def enter() -> None:
    """Leave the machine's namespaces; processes started from now on live in the new one of processes. An ordinary user
    gets a namespace of users too, with himself alone in it. Raises `OSError` where the kernel does not allow it."""
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(flags)
    else:
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    kernel.name_machine(_MACHINE)


def own_root(walls: Walls) -> None:
    """A new root in memory: Python and shared libraries to read, three devices, and a folder to write,
    where the process then is."""
    paths = [(os.path.realpath(path), path) for path in readable_paths(walls)]
    work = _WORK
    while any(f"{name}/".startswith(f"{work}/") for _, name in paths):
        work += "_"  # a Python that lies below
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _STAGING, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    os.mkdir(_STAGING + _OLD)
    kernel.pivot_root(_STAGING, _STAGING + _OLD)
    os.chdir("/")
    for real, name in paths:
        _lay(_OLD + real, name)
        kernel.protect_mount(name, 1 | 2 | 4, recursive=True)
    for device in _DEVICES:
        _lay(_OLD + device, device)
    os.mkdir(work)
    kernel.mount("tmpfs", work, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC,
                 f"size={walls.disk},nr_inodes={walls.entries},mode=777")
    kernel.detach(_OLD)
    os.rmdir(_OLD)
    kernel.protect_mount("/", 1, recursive=False)
    os.chdir(work)


def _lay(real: str, name: str) -> None:
    """A file, folder or device of the old root at a place of the new one."""
    if os.path.isdir(real):
        os.makedirs(name)
        kernel.mount(real, name, None, kernel.MS_BIND | kernel.MS_REC)
    else:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        kernel.mount(real, name, None, kernel.MS_BIND)
