"""Ways out of a session, tried one after the other: `python escapes.py LEVEL` prints what came of each as JSON.

Every attempt is bounded, so that a hole does no harm. It calls `out()` when it has got out; raising is being held.
LEVEL is full, reduced, unscoped (reduced, on a kernel whose Landlock knows nothing of signals and abstract sockets), or
none: without walls most must succeed, else they prove nothing. With --trial: what the level's own trial finds.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import signal
import socket
import sys
import tempfile
from pathlib import Path

PREAMBLE = '''
import ctypes, errno, fcntl, os, platform, resource, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def out(what=""):
    print("ESCAPED", what)
def call(x86, arm, *arguments):
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    answer = libc.syscall(x86 if platform.machine() == "x86_64" else arm, *given)
    if answer == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
def child(action):
    """In a process of its own, where one can be had: so it changes nothing for the next."""
    try:
        process = os.fork()
    except OSError:
        action()
        return out()
    if not process:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(process, 0)[1] == 0:
        out()
def own_mounts():
    """So that nothing reaches the machine's."""
    call(272, 97, 0x20000)
    mount(None, b'/', None, 0x44000)
def datagrams():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]
def aim(set_owner):
    """SIGIO at whom the file is told to belong to."""
    one, other = socket.socketpair()
    set_owner(one)
    fcntl.fcntl(one, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL) | os.O_ASYNC)
    other.send(b'x')
    out()
def word(value):
    return value.to_bytes(4, 'little')
def mount(*arguments):
    if libc.mount(*arguments, None) != 0:
        raise OSError("mount")
'''

ATTEMPTS = {
    # files
    "read_canary": "out(open(canary).read())",
    "read_passwd": "out(open('/etc/passwd').read(1))",
    "read_home": "out(os.listdir(os.path.expanduser('~root')))",
    "list_root": "assert 'etc' in os.listdir('/')\nout()",
    "climb": "out(open('../' * 20 + canary).read())",
    "write_beside": "open(os.path.join(outside, 'written'), 'w').write('x')\nout()",
    "write_tmp": "open('/tmp/headwater-escape', 'w').write('x')\nos.unlink('/tmp/headwater-escape')\nout()",
    "write_python": "open(os.__file__, 'a').close()\nout()",
    "write_package": "import numpy\nopen(numpy.__file__, 'a').close()\nout()",
    "plant_module": "import numpy\nopen(os.path.join(os.path.dirname(numpy.__file__), 'planted.py'), 'x').close()\n"
                    "os.unlink(os.path.join(os.path.dirname(numpy.__file__), 'planted.py'))\nout()",
    "symlink": "os.path.lexists('l') or os.symlink(canary, 'l')\nout(open('l').read())",
    "file_attributes": "flags = ctypes.create_string_buffer(8)\nwith open(os.__file__) as file:\n"
                       "    fcntl.ioctl(file, 0x80086601, flags)\n    fcntl.ioctl(file, 0x40086602, flags)\nout()",
    "lease": "with open(os.__file__) as file:\n    fcntl.fcntl(file, 1024, fcntl.F_RDLCK)\nout()",
    "watch_folder": "signal.signal(signal.SIGIO, signal.SIG_IGN)\nfolder = os.open('/usr/lib', os.O_RDONLY)\n"
                    "try:\n    fcntl.fcntl(folder, 1026, 4)\nfinally:\n    os.close(folder)\nout()",
    "hard_link": "os.link(canary, 'h')\nout(open('h').read())",
    "hard_link_package": "import numpy\nos.link(numpy.__file__, 'n')\nopen('n', 'a').close()\nout()",
    "rename_out": "open('mine', 'w').close()\nos.rename('mine', os.path.join(outside, 'moved'))\nout()",
    "symlink_in_archive": "import io, tarfile\nheld = io.BytesIO()\n"
                          "with tarfile.open(fileobj=held, mode='w') as archive:\n"
                          "    link = tarfile.TarInfo('t')\n    link.type, link.linkname = tarfile.SYMTYPE, canary\n"
                          "    archive.addfile(link)\nheld.seek(0)\n"
                          "tarfile.open(fileobj=held).extractall(filter='fully_trusted')\nout(open('t').read())",
    "open_by_handle": "call(304, 265, -100, b'0' * 16, 0)\nout()",
    "old_root": "os.listdir('/.old')\nout()",
    "chroot": "child(lambda: os.chroot('.'))",
    "device": "os.mknod('d', 0o600 | 0o020000, os.makedev(1, 8))\nout()",
    "kernel_memory": "open('/dev/mem', 'rb').read(1)\nout()",
    "disk": "open('/dev/vda', 'rb').read(1)\nout()",
    # what is open, and /proc
    "inherited_files": "import stat\nfor fd in range(3, 1024):\n    try:\n        mode = os.fstat(fd).st_mode\n"
                       "    except OSError:\n        continue\n    if not stat.S_ISFIFO(mode):\n        out(fd)",
    "proc_self_fd": "out(os.listdir('/proc/self/fd'))",
    "proc_self_root": "out(os.listdir('/proc/self/root/etc'))",
    "proc_self_mem": "open('/proc/self/mem', 'r+b').close()\nout()",
    "proc_parent_environ": "out(open(f'/proc/{parent}/environ').read(1))",
    "proc_first_environ": "out(open('/proc/1/environ').read())",
    "proc_parent_cwd": "out(os.listdir(f'/proc/{parent}/cwd'))",
    "proc_parent_fd": "out(os.listdir(f'/proc/{parent}/fd'))",
    "proc_list": "out([name for name in os.listdir('/proc') if name.isdigit()][0])",
    "proc_sysrq": "open('/proc/sys/kernel/core_pattern').read()\nout()",
    "sys": "out(os.listdir('/sys/fs/cgroup')[0])",
    "environment": "assert 'secret' in str(os.environ)\nout()",
    "environment_in_memory": "environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\nnumber = 0\n"
                             "while environ[number]:\n    if b'secret' in environ[number]:\n        out()\n"
                             "    number += 1",
    # network
    "tcp": "socket.create_connection(('127.0.0.1', tcp), timeout=2).close()\nout()",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', udp))\nout()",
    "tcp6": "socket.socket(socket.AF_INET6).close()\nout()",
    "unix": "socket.socket(socket.AF_UNIX).connect(os.path.join(outside, 'socket'))\nout()",
    "abstract": "socket.socket(socket.AF_UNIX).connect(abstract)\nout()",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()\nout()",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()\nout()",
    "packet": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()\nout()",
    "vsock": "socket.socket(40, socket.SOCK_STREAM).close()\nout()",
    "kernel_crypto": "socket.socket(38, socket.SOCK_SEQPACKET).close()\nout()",
    "socketpair_of_others": "socket.socketpair(30)\nout()",
    "datagram": "datagrams().sendto(b'x', os.path.join(outside, 'datagrams'))\nout()",
    "datagram_abstract": "datagrams().sendto(b'x', abstract + '-datagrams')\nout()",
    "datagram_from_a_round_address": "at, to = 1 << 45, b'\\1\\0' + os.fsencode(os.path.join(outside, 'datagrams'))\n"
                                     "call(9, 222, at, 4096, 3, 0x100022, -1, 0)\n"  # the lower half is 0
                                     "ctypes.memmove(at, to, len(to))\n"
                                     "sender = datagrams()\n"
                                     "call(44, 206, sender.fileno(), b'x', 1, 0, at, len(to))\nout()",
    "interfaces": "held = ctypes.create_string_buffer(4096)\n"
                  "fcntl.ioctl(datagrams(), 0x8912, word(4096) * 2 + ctypes.addressof(held).to_bytes(8, 'little'))\n"
                  "out()",
    "names": "out(socket.getaddrinfo('localhost', 80))",
    # processes
    "signal_parent": "os.kill(parent, 0)\nout()",
    "signal_above": "os.kill(os.getppid() or 1, 0)\nout()",
    "signal_all": "os.kill(-1, 0)\nout()",
    "signal_group": "os.killpg(0, 0)\nout()",
    "signal_by_thread": "call(234, 131, parent, parent, 0)\nout()",
    "signal_queued": "call(129, 138, parent, 0, ctypes.create_string_buffer(128))\nout()",
    "signal_by_owner": "aim(lambda file: fcntl.fcntl(file, fcntl.F_SETOWN, parent))",
    "signal_by_owner_of_a_kind": "aim(lambda file: fcntl.fcntl(file, 15, word(1) + word(parent)))",
    "signal_by_owner_of_a_file": "aim(lambda file: fcntl.ioctl(file, 0x8901, word(parent)))",
    "signal_by_owner_of_a_socket": "aim(lambda file: fcntl.ioctl(file, 0x8902, word(parent)))",
    "signal_asked_for": "one, other = socket.socketpair()\nfcntl.ioctl(one, 0x5452, word(1))\nout()",
    "signal_chosen": "one, other = socket.socketpair()\nfcntl.fcntl(one, 10, signal.SIGKILL)\nout()",
    "signal_of_a_timer": "call(222, 107, 1, ctypes.create_string_buffer(bytes(8) + word(signal.SIGCONT), 64), "
                         "ctypes.create_string_buffer(8))\nout()",
    "pidfd": "os.close(os.pidfd_open(parent))\nout()",
    "fork": "if not (process := os.fork()):\n    os._exit(0)\nos.waitpid(process, 0)\nout()",
    "fork_bomb": "started = []\ntry:\n    for _ in range(40):\n        if not (process := os.fork()):\n"
                 "            os._exit(0)\n        started.append(process)\n"
                 "finally:\n    [os.waitpid(process, 0) for process in started]\nout(len(started))",
    "vfork": "subprocess.run(['/bin/true'], check=True)\nout()",
    "spawn": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\nout()",
    "system": "assert os.system('true') == 0\nout()",
    "pool": "import concurrent.futures as c\nwith c.ProcessPoolExecutor(1) as p:\n    p.submit(int).result()\nout()",
    "daemon": "def away():\n    os.setsid()\nchild(away)",
    "clone3": "arguments = ctypes.create_string_buffer(bytes(32) + (17).to_bytes(8, 'little'), 64)\n"
              "answer = libc.syscall(435, arguments, 64)\nif answer == 0:\n    os._exit(0)\n"
              "if answer > 0:\n    os.waitpid(answer, 0)\n    out()",
    "trace_me": "child(lambda: call(101, 117, 0, 0, 0, 0))",
    "trace_parent": "call(101, 117, 0x4206, parent, 0, 0)\nout()",
    "read_others_memory": "call(310, 270, parent, 0, 0, 0, 0, 0)\nout()",
    "priority": "os.setpriority(os.PRIO_PROCESS, 0, -5)\nout()",
    "affinity": "os.sched_setaffinity(0, os.sched_getaffinity(0))\nout()",
    # privileges and the kernel
    "setuid": "os.setuid(0)\nout()",
    "setgroups": "child(lambda: os.setgroups([0]))",
    "user_namespace": "child(lambda: call(272, 97, 0x10000000))",
    "clone_user_namespace": "number = 56 if platform.machine() == 'x86_64' else 220\n"
                            "answer = libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0)\n"
                            "if answer == 0:\n    os._exit(0)\nif answer > 0:\n    os.waitpid(answer, 0)\n    out()",
    "join_namespace": "child(lambda: call(308, 268, os.open('/proc/self/ns/net', 0), 0))",
    "mount": "child(lambda: (own_mounts(), mount(b'tmpfs', b'/mnt', b'tmpfs', 0)))",
    "mount_alone": "mount(b'tmpfs', os.getcwd().encode(), b'tmpfs', 0)\nout()",
    "new_mount": "os.close(call(430, 430, b'tmpfs', 0))\nout()",
    "clone_mount": "os.close(call(428, 428, -100, b'/', 1))\nout()",
    "remount": "child(lambda: (own_mounts(), mount(None, b'/', None, 0x1020)))",
    "io_uring": "os.close(call(425, 425, 2, ctypes.create_string_buffer(120)))\nout()",
    "keys": "call(250, 219, 0, -3, 1)\nout()",
    "userfaultfd": "os.close(call(323, 282, 1))\nout()",
    "hidden_memory": "os.close(os.memfd_create('m'))\nout()",
    "secret_memory": "os.close(call(447, 447, 0))\nout()",
    "shared_memory": "call(31, 195, call(29, 194, 0, 4096, 0o1600), 0, 0)\nout()",
    "others_shared_memory": "call(30, 196, memory, 0, 0)\nout()",
    "others_messages": "call(69, 189, messages, ctypes.create_string_buffer(word(1) + bytes(12)), 4, 0o4000)\nout()",
    "others_queue": "call(241, 181, queue.encode())\nout()",
    "bpf": "call(321, 280, 0, ctypes.create_string_buffer((1).to_bytes(4, 'little') + (4).to_bytes(4, 'little') * 2\n"
           "     + (1).to_bytes(4, 'little'), 72), 72)\nout()",
    "perf": "wanted = (1).to_bytes(4, 'little') + (112).to_bytes(4, 'little')\n"
            "os.close(call(298, 241, ctypes.create_string_buffer(wanted, 112), 0, -1, -1, 0))\nout()",
    "kernel_log": "call(103, 116, 10, 0, 0)\nout()",
    "clock": "time.clock_settime(time.CLOCK_REALTIME, time.time())\nout()",
    "hostname": "child(lambda: socket.sethostname(socket.gethostname()))",
    "personality": "call(135, 92, 0x0040000) >= 0 and out()",
    "other_table": "assert platform.machine() == 'x86_64'\ncall(0x40000000 | 39, 0)\nout()",
    "raise_limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nout()",
    "raise_files": "resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, 1 << 16))\nout()",
    "terminal": "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')\nout()",
    "set_user_bit": "open('s', 'w').close()\nos.chmod('s', 0o4777)\nout()",
    "run_own_file": "file = os.open('p', os.O_CREAT | os.O_WRONLY, 0o755)\n"
                    "os.write(file, b'#!/bin/sh\\n')\nos.close(file)\n"
                    "child(lambda: os.execv('./p', ['p']))",
}

ALLOWED = {
    "compute": "assert sum(range(10)) == 45\nout()",
    "own_folder": "open('own', 'w').write('27')\nassert open('own').read() == '27'\nout()",
    "own_subfolder": "os.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.rename('a', 'z')\nout()",
    "temporary_file": "import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x')\nout()",
    "thread": "import threading\nthread = threading.Thread(target=out)\nthread.start()\nthread.join()",
    "socketpair": "import socket\none, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
                  "one.send(b'x')\none.setblocking(False)\nassert other.recv(1) == b'x'\n"
                  "one.close()\nother.close()\nout()",
    "terminal_asked_for": "import os\nassert not os.isatty(1)\nout()",
    "file_lock": "import fcntl\nwith open('locked', 'w') as file:\n    fcntl.lockf(file, fcntl.LOCK_EX)\nout()",
    "asyncio": "import asyncio\nasyncio.run(asyncio.sleep(0))\nout()",
    "library": "import decimal, sqlite3, zlib, hashlib, unicodedata, zoneinfo\n"
               "zoneinfo.ZoneInfo('Asia/Shanghai')\nout()",
    "signal_itself": "os.kill(os.getpid(), 0)\nout()",
    "random": "os.urandom(8)\nout()",
    "numpy": "import numpy\nassert numpy.ones((50, 50)).dot(numpy.ones(50))[0] == 50\nout()",
}
"""What must work at every level: a session in which nothing works would look well walled in."""


HARMFUL = "mount_alone", "clock", "write_python", "write_package", "plant_module"
"""Not tried without walls, where they would change the machine."""


def walls(level: str) -> str:
    """The level by the name that the sandbox has for it."""
    from headwater.sandbox import process

    if level != "unscoped":
        return level
    before = "from headwater.sandbox import landlock; landlock._SCOPES_SINCE = 99; "
    process._START = process._START.replace("from ", before + "from ", 1)
    return "reduced"


@contextlib.contextmanager
def shared():
    """Memory, messages and a queue of this machine that anyone may use, by number or name."""
    libc, column = ctypes.CDLL(None), ["x86_64", "aarch64"].index(platform.machine())

    def call(numbers, *arguments):
        return libc.syscall(numbers[column], *arguments)

    name = f"headwater-{os.getpid()}"
    memory, messages = call((29, 194), 0, 4096, 0o1666), call((68, 186), 0, 0o1666)
    queue = call((240, 180), name.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    try:
        yield {"memory": memory, "messages": messages, "queue": name}
    finally:
        call((31, 195), memory, 0, None)
        call((71, 187), messages, 0, None)
        call((241, 181), name.encode())
        if queue >= 0:
            os.close(queue)


async def tried(level: str) -> dict[str, str]:
    from headwater.agent.interpreter import interpreter
    from headwater.agent.interpreter.interpreter import Interpreter, InterpreterSettings

    interpreter._walls_found = lambda force: (walls(level), ())
    tool = Interpreter(InterpreterSettings(seconds=20, packages=("numpy",), memory_mib=1024))
    found, came = {}, []
    signal.signal(signal.SIGIO, lambda *_: came.append("SIGIO"))
    with contextlib.ExitStack() as held:
        values = held.enter_context(shared()) | {"parent": os.getpid()}
        outside = values["outside"] = held.enter_context(tempfile.TemporaryDirectory())
        os.chmod(outside, 0o777)
        values["canary"] = os.path.join(outside, "canary")
        Path(values["canary"]).write_text("canary")
        tcp = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        values |= {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]}
        values["abstract"] = f"\0headwater-{os.getpid()}"
        datagrams = []
        for path in (f"{outside}/", values["abstract"] + "-"):
            unix = held.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(path + "socket" if path[0] == "/" else values["abstract"])
            unix.listen()
            datagrams.append(held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)))
            datagrams[-1].bind(path + "datagrams")
            datagrams[-1].setblocking(False)
        for name in ("socket", "datagrams"):
            os.chmod(f"{outside}/{name}", 0o666)
        os.set_inheritable(held.enter_context(open("/dev/null")).fileno(), True)
        given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        for name, code in [("preamble", given + PREAMBLE), *ALLOWED.items(), *ATTEMPTS.items()]:
            if level == "none" and name in HARMFUL:
                continue
            found[name] = (await tool.call("python", {"code": code})).text
        for listening in datagrams:
            with contextlib.suppress(BlockingIOError):
                while listening.recv(1):
                    came.append("a datagram")
        found["left outside"] = ", ".join(sorted(set(os.listdir(outside)) - {"canary", "socket", "datagrams"}))
        found["came outside"] = ", ".join(came)
    await tool.close()
    return found


if __name__ == "__main__":
    os.environ["HEADWATER_KEY"] = "secret"
    if sys.argv[2:] == ["--trial"]:
        from headwater.sandbox.isolation import trial

        print(trial(walls(sys.argv[1]))[0])
    else:
        print(json.dumps(asyncio.run(tried(sys.argv[1]))))
