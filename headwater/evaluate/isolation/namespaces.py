"""A machine of its own for a process: an empty file system, no network, no other processes."""

from __future__ import annotations

import os

from headwater.evaluate.isolation import kernel

WORK = "/work"
_STAGING = "/tmp"
_DEVICES = "/dev/null", "/dev/zero", "/dev/urandom"


def readable_folders() -> list[str]:
    """What Python needs to import its standard library: its own folder and the system's shared libraries."""
    library = os.path.dirname(os.__file__)
    folders = [library, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"]
    kept = [folder for folder in folders if os.path.isdir(folder)]
    # One inside another would be laid twice.
    return [folder for folder in kept if not any(folder.startswith(other + "/") for other in kept)]


def enter() -> None:
    """Leave the machine's namespaces; processes started from now on live in the new one of processes. An ordinary user
    gets a namespace of users too, with himself alone in it. Raises `OSError` where the kernel does not allow it."""
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        return kernel.unshare(flags)
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)
    return None


def own_root(disk: int) -> None:
    """A new root in memory: Python and shared libraries to read, three devices, and `WORK` to write, `disk` bytes."""
    folders = [(os.path.realpath(folder), folder) for folder in readable_folders()]
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _STAGING, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    os.mkdir(f"{_STAGING}/old")
    kernel.pivot_root(_STAGING, f"{_STAGING}/old")
    os.chdir("/")
    for real, name in folders:
        os.makedirs(name)
        kernel.mount("/old" + real, name, None, kernel.MS_BIND | kernel.MS_REC)
        kernel.protect_mount(name, 1 | 2 | 4, recursive=True)
    os.mkdir("/dev")
    for device in _DEVICES:
        os.close(os.open(device, os.O_CREAT | os.O_WRONLY))
        kernel.mount("/old" + device, device, None, kernel.MS_BIND)
    os.mkdir(WORK)
    kernel.mount("tmpfs", WORK, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC,
                 f"size={disk},nr_inodes=1000,mode=777")
    kernel.detach("/old")
    os.rmdir("/old")
    kernel.protect_mount("/", 1, recursive=False)
    os.chdir(WORK)
