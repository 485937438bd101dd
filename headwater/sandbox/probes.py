"""Programs that try to get out, and to do what they may: run before anything else is."""

from __future__ import annotations

ALLOWED = "compute", "write its folder", "start a thread"
"""Positive controls: without them a program that never ran would look well walled in."""

FORBIDDEN = {
    "read a file outside": "files", "write outside": "files", "read a process's environment": "files",
    "reach a port of this machine": "network", "open a socket": "network", "send to any address": "network",
    "signal the evaluation": "processes", "have a file signal the evaluation": "processes",
    "start a process": "processes", "start another program": "processes",
}
"""What must not work, and the wall that stands before it."""

MISSED = {"see names of files outside": "names and sizes of files outside can be asked for",
          "fill the disk by many files": "only each file is limited, not all together"}
"""What need not be refused, and is said where it is not."""

_PROGRAM = '''
import fcntl, os, socket, struct, threading
def attempt(name, action):
    try:
        action()
        print(name)
    except (OSError, RuntimeError):
        pass
def write(path, text="x"):
    with open(path, "w") as stream:
        stream.write(text)
def thread():
    started = threading.Thread(target=print, args=("",))
    started.start()
    started.join()
def spawn():
    if os.fork() == 0:
        os._exit(0)
def fill():
    for number in range(6):
        write(f"part{number}", "x" * (disk // 4))
def connect():
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
def send():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        one.sendto(b"x", "\\0nobody")
    except PermissionError:
        raise
    except OSError:  # looked for, and not there
        pass
def aim():
    file, other = socket.socketpair()
    whom = struct.pack("i", evaluation)
    for ask in (lambda: fcntl.ioctl(file, 0x8901, whom), lambda: fcntl.ioctl(file, 0x8902, whom),
                lambda: fcntl.fcntl(file, 8, evaluation), lambda: fcntl.fcntl(file, 15, struct.pack("i", 1) + whom)):
        try:
            return ask()
        except ProcessLookupError:  # nobody here has that number, but it was looked for
            return
        except PermissionError:
            pass
    raise PermissionError
if sum(range(10)) == 45:
    print("compute")
attempt("write its folder", lambda: write("own"))
attempt("start a thread", thread)
attempt("read a file outside", lambda: open(outside + "/canary").read())
attempt("write outside", lambda: write(outside + "/written"))
attempt("read a process's environment", lambda: open(f"/proc/{evaluation}/environ", "rb").read())
attempt("reach a port of this machine", connect)
attempt("open a socket", lambda: socket.socket(socket.AF_UNIX).close())
attempt("signal the evaluation", lambda: os.kill(evaluation, 0))
attempt("send to any address", send)
attempt("have a file signal the evaluation", aim)
attempt("start a process", spawn)
attempt("start another program", lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt("see names of files outside", lambda: os.stat(outside + "/canary"))
attempt("fill the disk by many files", fill)
'''


def program(outside: str, port: int, evaluation: int, disk: int) -> str:
    """Prints a line for everything that worked. `outside` is a folder that everyone may write, with a file `canary`;
    `port` somebody listens at; `evaluation` is the number of the process that is to be left alone."""
    return f"outside, port, evaluation, disk = {outside!r}, {port}, {evaluation}, {disk}\n{_PROGRAM}"
