"""Ways out of a session, as root and as an ordinary user, at every level; beside them, what must work."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("escapes.py")
ALLOWED, ATTEMPTS, PREAMBLE, HARMFUL = (
    runpy.run_path(str(SCRIPT))[name] for name in ("ALLOWED", "ATTEMPTS", "PREAMBLE", "HARMFUL"))
ENVIRONMENT = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))

AS_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
"""Root's files, but none of root's powers: an ordinary user to whom this Python's folder is open."""
USERS = {"this user": []}
if os.geteuid() == 0:
    USERS["an ordinary user"] = AS_USER

WALLED = [(user, level) for user in USERS for level in ("full", "reduced", "unscoped")]
IDS = [f"{user}-{level}".replace(" ", "_") for user, level in WALLED]


@cache
def came_of(user, level):
    """What each attempt printed; a text where the level cannot be had."""
    if sys.platform != "linux" or (USERS[user] and shutil.which("unshare") is None):
        return "needs Linux and unshare"
    run = [*USERS[user], sys.executable]
    if level != "none":
        said = subprocess.run([*run, str(SCRIPT), level, "--trial"], capture_output=True, text=True, env=ENVIRONMENT)
        if said.returncode != 0 or said.stdout.strip():
            return (said.stdout + said.stderr).strip()
    done = subprocess.run([*run, str(SCRIPT), level], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _found(user, level):
    found = came_of(user, level)
    if isinstance(found, str):
        pytest.skip(f"{level} isolation cannot be had here by {user}: {found[:300]}")
    return found


@pytest.mark.parametrize(("user", "level"), WALLED, ids=IDS)
def test_walls_that_can_be_had_have_no_hole(user, level):
    """A machine may have no walls, and then all below is skipped; walls that leak are our fault."""
    found = came_of(user, level)
    assert not isinstance(found, str) or "a program can " not in found


@pytest.mark.parametrize("name", ATTEMPTS)
@pytest.mark.parametrize(("user", "level"), WALLED, ids=IDS)
def test_no_way_out(user, level, name):
    found = _found(user, level)
    assert "ESCAPED" not in found[name], found[name]
    assert "lost" not in found[name], "the attempt ended the session and proves nothing"


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize(("user", "level"), WALLED, ids=IDS)
def test_what_is_allowed_works(user, level, name):
    if name == "numpy":
        pytest.importorskip("numpy")
    assert "ESCAPED" in _found(user, level)[name]


@pytest.mark.parametrize(("user", "level"), WALLED, ids=IDS)
def test_nothing_was_left_outside_and_nothing_came_there(user, level):
    found = _found(user, level)
    assert found["left outside"] == found["came outside"] == ""


NEEDS_ANOTHER_KERNEL_OR_USER = {
    "open_by_handle", "old_root", "kernel_memory", "disk", "proc_first_environ", "kernel_crypto", "device", "raw",
    "socketpair_of_others", "signal_queued", "other_table", "raise_limit", "raise_files", "terminal", "packet", "vsock",
    "chroot", "priority", "setuid", "setgroups", "join_namespace", "mount", "new_mount", "clone_mount", "remount",
    "io_uring", "bpf", "perf", "kernel_log", "hostname", "user_namespace", "clone_user_namespace", "read_home",
    "secret_memory", "userfaultfd", "run_own_file", "trace_parent", "read_others_memory", "hard_link", "sys",
    "file_attributes", "lease", "watch_folder", "others_queue"}
"""May fail without walls too, for other reasons."""
NEVER_GIVEN = {"inherited_files", "environment", "environment_in_memory"}
"""Held without walls: neither files nor environment are handed on."""


def test_without_walls_the_same_attempts_get_out():
    found = came_of("this user", "none")
    held = {name for name in ATTEMPTS if "ESCAPED" not in found.get(name, "")}
    assert held <= NEEDS_ANOTHER_KERNEL_OR_USER | NEVER_GIVEN | set(HARMFUL)
    assert held >= NEVER_GIVEN
    assert found["left outside"] == "moved, written"
    assert {"SIGIO", "a datagram"} == set(found["came outside"].split(", "))


def _bubblewrap(program, bound):
    folders = [part for folder in bound if Path(folder).is_dir() for part in ("--ro-bind", folder, folder)]
    links = [part for name in ("bin", "lib", "lib64") if Path("/usr", name).is_dir()
             for part in ("--symlink", f"usr/{name}", f"/{name}")]
    walls = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--disable-userns",
             "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534",
             "--ro-bind", "/usr", "/usr", *links, *folders, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/work",
             "--chdir", "/work"]
    limits = ["prlimit", "--as=1073741824", "--nproc=64", "--nofile=64"]
    python = str(Path(sys.executable).resolve())
    return subprocess.run([shutil.which("bwrap"), *walls, "--", *limits, python, "-S", "-c", program], env={},
                          capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_what_bubblewrap_holds_is_held_here_too():
    """With the setting that its own documentation recommends, and no filter of system calls."""
    site = sysconfig.get_paths()["purelib"]
    with tempfile.TemporaryDirectory() as outside:
        os.chmod(outside, 0o777)
        Path(outside, "canary").write_text("canary")
        given = {"canary": f"{outside}/canary", "outside": outside, "tcp": 9, "udp": 9, "abstract": "\0none",
                 "parent": os.getpid(), "memory": -1, "messages": -1, "queue": "none"}
        tried = {name: code for name, code in (ALLOWED | ATTEMPTS).items() if name not in HARMFUL}
        program = (f"import json, sys\nsys.path.append({site!r})\nglobals().update({given!r})\n{PREAMBLE}\ngot = []\n"
                   "def out(*_):\n    got.append(current)\n"
                   f"for current, code in {tried!r}.items():\n"
                   "    try:\n        exec(code, globals())\n    except BaseException:\n        pass\n"
                   "print(json.dumps(got))")
        done = _bubblewrap(program, [sys.base_prefix, site])
    if done.returncode != 0:
        pytest.skip(f"bubblewrap does not start here: {done.stderr.strip()}")
    got = set(json.loads(done.stdout.splitlines()[-1]))
    assert got >= set(ALLOWED), "bubblewrap's own session does not work, and proves nothing"
    ours = {name for name in tried if "ESCAPED" in _found("this user", "full")[name]}
    assert ours <= got
    assert ours == set(ALLOWED)
