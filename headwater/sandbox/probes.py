"""Programs that try to get out, and to do what they may: run before anything else is."""

from __future__ import annotations

ALLOWED = "compute", "write its folder", "start a thread"
"""Positive controls: without them a program that never ran would look well walled in."""

FORBIDDEN = {
    "read a file outside": "files", "write outside": "files", "read a process's environment": "files",
    "reach a port of this machine": "network", "open a socket": "network", "signal the evaluation": "processes",
    "start a process": "processes", "start another program": "processes",
}
"""What must not work, and the wall that stands before it."""

MISSED = {"see names of files outside": "names and sizes of files outside can be asked for",
          "fill the disk by many files": "only each file is limited, not all together"}
"""What need not be refused, and is said where it is not."""

_PROGRAM = '''
import os, socket, threading
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
attempt("start a process", spawn)
attempt("start another program", lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt("see names of files outside", lambda: os.stat(outside + "/canary"))
attempt("fill the disk by many files", fill)
'''


def program(outside: str, port: int, evaluation: int, disk: int) -> str:
    """Prints a line for everything that worked. `outside` is a folder that everyone may write, with a file `canary`;
    `port` somebody listens at; `evaluation` is the number of the process that is to be left alone."""
    return f"outside, port, evaluation, disk = {outside!r}, {port}, {evaluation}, {disk}\n{_PROGRAM}"
