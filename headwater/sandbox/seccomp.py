"""System calls that a program is refused, by a filter that neither it nor what it loads can take off again.

A list of what is refused, and not of what is allowed: every Python and C library would need another. Of `ioctl` and
`fcntl` what is allowed is listed: there are hundreds, some aim signals at other processes, and some change files that
are open for reading, or beside them, without asking Landlock. Numbers are those of `asm/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import os

from headwater.sandbox import kernel

_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # sockets: socketpair stays for those of this machine, asyncio needs it
    "socket": (41, 198), "bind": (49, 200), "connect": (42, 203), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    # other programs and processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "setsid": (112, 157),
    "setpgid": (109, 154), "setpriority": (141, 140), "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "sched_setparam": (142, 118),
    "ioprio_set": (251, 30),
    # the memory and the signals of others
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "tkill": (200, 130), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "get_robust_list": (274, 100),
    # signals of timers: SIGCONT among them would wake a session that was stopped
    "timer_create": (222, 107),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "mount_setattr": (442, 442), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "swapon": (167, 224),
    "open_tree_attr": (467, 467), "statmount": (457, 457), "listmount": (458, 458), "swapoff": (168, 225),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # large and young parts of the kernel, where its faults have been
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_setup": (206, 0), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "syslog": (103, 116), "personality": (135, 92), "modify_ldt": (154, None),
    "fanotify_init": (300, 262), "inotify_init": (253, None), "inotify_init1": (294, 26),
    # memory that no limit counts; and that of others, which a number alone names, or a name that is no file's
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191), "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # what Landlock does not guard
    "truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "utimensat": (280, 88), "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "mknod": (133, None), "mknodat": (259, 33),
    # who the process is, and the machine's clock and name
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setgroups": (116, 159), "capset": (126, 91),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162),
    # Linux 6.6 and later
    "fchmodat2": (452, 452), "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469),
}
"""Of x86_64 and of aarch64; None: the architecture has no such call."""

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE, _CLONE3, _CLONE_THREAD = (56, 220), 435, 0x10000
_KILL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)
_PRCTL, _PR_SET_PDEATHSIG, _PR_SCHED_CORE = (157, 167), 1, 62
_SOCKETPAIR, _AF_UNIX = (53, 199), 1
_SENDTO = 44, 206
_IOCTL, _IOCTLS = (16, 29), [
    0x5401, 0x802C542A, 0x5413, 0x540F,  # TCGETS, TCGETS2, TIOCGWINSZ, TIOCGPGRP: is it a terminal, and how large
    0x541B, 0x5411, 0x5421, 0x5450, 0x5451]  # FIONREAD, TIOCOUTQ, FIONBIO, FIONCLEX, FIOCLEX
_FCNTL, _FCNTLS = (72, 25), [
    0, 1, 2, 3, 4, 1030,  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
    5, 6, 7, 36, 37, 38, 1032]  # F_GETLK, F_SETLK, F_SETLKW; the same of F_OFD_; F_GETPIPE_SZ
"""O_ASYNC may be set by F_SETFL: whose signals it would be has no way to be said."""
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
_REFUSE, _UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_PR_SET_SECCOMP, _FILTER = 22, 2
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND, _FIFTH, _HALF = 0, 4, 16, 24, 48, 4
"""Where things stand in `seccomp_data`; of an argument, its lower half, and how far behind it the upper one."""

Step = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def install() -> None:
    """Refuse the calls to this process from now on. Threads may be started, processes not; signals go to itself alone.
    Raises `OSError` where the kernel or the machine's architecture has no such filter here."""
    if kernel.MACHINE not in _AUDIT:
        raise OSError(errno.ENOSYS, f"no filter of system calls for {kernel.MACHINE}, only for x86_64 and aarch64")
    steps = _filter(list(_AUDIT).index(kernel.MACHINE), os.getpid())
    code = b"".join(code.to_bytes(2, "little") + bytes((yes, no)) + operand.to_bytes(4, "little")
                    for code, yes, no, operand in steps)
    held = ctypes.create_string_buffer(code, len(code))
    program = len(steps).to_bytes(8, "little") + ctypes.addressof(held).to_bytes(8, "little")
    kernel.call("prctl", _PR_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(program, 16), 0, 0)


def _filter(column: int, process: int) -> list[Step]:
    """The filter for one architecture: `column` of the table."""
    steps: list[Step] = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, list(_AUDIT.values())[column]),
                         (_RETURN, 0, 0, _KILL_PROCESS), (_LOAD, 0, 0, _NUMBER)]
    if column == 0:  # x86_64 has a second table of calls, with this bit
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for numbers in _NUMBERS.values():
        if (number := numbers[column]) is not None:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    # The C library then starts threads by clone, whose flags can be seen here.
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
    steps += _only_if(_CLONE[column], _FIRST, _ANY_BIT, [_CLONE_THREAD])
    for call in (_KILL, _TGKILL):
        steps += _only_if(call[column], _FIRST, _EQUAL, [process])
    steps += _only_if(_PRLIMIT[column], _FIRST, _EQUAL, [0, process])
    steps += _only_if(_SOCKETPAIR[column], _FIRST, _EQUAL, [_AF_UNIX])
    steps += _not_if(_PRCTL[column], _FIRST, [_PR_SET_PDEATHSIG, _PR_SCHED_CORE])
    steps += _only_if_null(_SENDTO[column], _FIFTH)  # without an address it is `send`
    steps += _only_if(_IOCTL[column], _SECOND, _EQUAL, _IOCTLS)
    steps += _only_if(_FCNTL[column], _SECOND, _EQUAL, _FCNTLS)
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _only_if(number: int, argument: int, test: int, values: list[int]) -> list[Step]:
    """The call is allowed where the test holds for one of the values."""
    tests = [(test, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_EQUAL, 0, len(values) + 3, number), (_LOAD, 0, 0, argument), *tests, (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW)]


def _only_if_null(number: int, argument: int) -> list[Step]:
    """The call is allowed where an argument, a pointer, is NULL in both its halves."""
    return [(_EQUAL, 0, 6, number), (_LOAD, 0, 0, argument), (_EQUAL, 0, 2, 0), (_LOAD, 0, 0, argument + _HALF),
            (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]


def _not_if(number: int, argument: int, values: list[int]) -> list[Step]:
    """The call is refused where an argument is one of the values."""
    tests = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_EQUAL, 0, len(values) + 3, number), (_LOAD, 0, 0, argument), *tests, (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE)]
