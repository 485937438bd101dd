"""Programs that try what they must not; beside each, something that they may (a wall that stops all proves nothing)."""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headwater.errors import InputError
from headwater.evaluate.code_execution import run_programs
from headwater.sandbox import isolation as walls
from headwater.sandbox import probes, programs
from headwater.sandbox.isolation import Isolation, isolation
from headwater.sandbox.programs import Limits

HUMANEVAL = Path(__file__).parents[3] / "shared/data/benchmarks/humaneval/HumanEval.jsonl.gz"
USUAL, SHORT = Limits(seconds=60), Limits(seconds=1)  # a busy machine is slow; no program is judged by that


def _holds(level):
    return sys.platform == "linux" and not walls.trial(level)[0]


ENVIRONMENT = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
LEVELS = [level for level in ("full", "reduced") if _holds(level)]
if not LEVELS:
    pytest.skip("this machine can wall no program in", allow_module_level=True)


@pytest.fixture(params=["full", "reduced"])
def run(request):
    if request.param not in LEVELS:
        pytest.skip(f"{request.param} isolation cannot be had here: {walls.trial(request.param)[0]}")
    return lambda program, limits=USUAL: programs.run(program, limits, request.param)


def test_a_program_that_runs_to_its_end_passes_and_its_output_is_kept(run):
    outcome = run("import collections, decimal, hashlib, json, math, random, re, sqlite3\n"
                  "open('a', 'w').write('27')\nassert open('a').read() == '27'\nprint('said')")
    assert (outcome.verdict, outcome.output) == ("passed", "said\n")


FAILING = {
    "assertion": ("assert 1 == 2, 'one is not two'", "AssertionError", "one is not two"),
    "syntax": ("def f(:\n", "SyntaxError", "invalid syntax"),
    "sys_exit_0": ("import sys\nsys.exit(0)", "SystemExit", "0"),
    "raise_system_exit": ("raise SystemExit", "SystemExit", ""),
    "os_exit_0": ("import os\nos._exit(0)", "exit", "status 0"),
    "os_exit_200": ("import os\nos._exit(200)", "exit", "status 200"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    "input": ("input()", "EOFError", ""),
    "recursion": ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError", "maximum recursion depth"),
    "memory": ("x = bytearray(1 << 34)", "MemoryError", ""),
    "memory_piecewise": ("x = []\nwhile True:\n    x.append('a' * (1 << 20) + str(len(x)))", "MemoryError", ""),
    "one_large_file": ("open('a', 'wb').write(bytes(64 << 20))", "OSError", ""),
    "hostile_message": ("class E(Exception):\n    def __str__(self):\n        raise SystemExit(0)\nraise E", "E", ""),
    "unknown_annotation": ("def f(x: List[int]):\n    return x", "NameError", "List"),
    "third_party": ("import pydantic", "ModuleNotFoundError", "pydantic"),
    "ours": ("import headwater.model", "ModuleNotFoundError", "headwater"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_program_that_does_not_run_to_its_end_fails_with_its_reason(run, case):
    program, error, message = FAILING[case]
    outcome = run(program)
    assert (outcome.verdict, outcome.error) == ("failed", error), outcome
    assert message in outcome.message


@pytest.mark.parametrize("program", ["x = 1\0", "x = '\ud800'"], ids=["null", "surrogate"])
def test_a_text_that_python_cannot_read_fails(run, program):
    assert run(program).verdict == "failed"


FORGED = {
    "printed": "print('ready\\n' + 'a' * 32 + 'passed\\n')",
    "written_to_every_pipe": "import os\nfor fd in range(64):\n    try:\n"
                             "        os.write(fd, b'0' * 32 + b'passed\\n')\n    except OSError:\n        pass",
    "pipes_closed": "import os\nos.closerange(3, 64)",
    "exit_in_a_thread": "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()\n"
                        "while True:\n    pass",
}


@pytest.mark.parametrize("case", FORGED)
def test_what_a_program_says_of_itself_counts_for_nothing(run, case):
    assert not run(FORGED[case] + "\nassert False", SHORT).passed


def test_functions_replaced_by_the_program_do_not_change_its_verdict(run):
    replaced = ("import os, sys, builtins, resource\nsys.stdout = sys.stderr = None\n"
                "os.write = os.read = os._exit = os.getpid = resource.setrlimit = builtins.str = None\n")
    assert run(replaced).passed
    assert run(replaced + "assert False").error == "AssertionError"


ENDLESS = {
    "loop": "while True:\n    pass",
    "sleep": "import time\ntime.sleep(100)",
    "all_exceptions_caught": "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n"
                             "        pass",
    "signals_ignored": "import signal\nfor s in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:\n"
                       "    try:\n        signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError):\n"
                       "        pass\nwhile True:\n    pass",
    "pipes_closed": "import os\nos.closerange(0, 64)\nwhile True:\n    pass",
    "endless_output": "while True:\n    print('x' * 1000)",
    "waiting_message": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "compiler": "x = 9 ** 9 ** 9 ** 9",
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_program_that_does_not_end_is_timed_out(run, case):
    started = time.monotonic()
    outcome = run(ENDLESS[case], SHORT)
    assert outcome.verdict == "timed out"
    assert time.monotonic() - started < 40
    assert len(outcome.output) <= SHORT.output_kib << 10


def test_threads_left_behind_and_exit_functions_do_not_hold_a_verdict_up(run):
    assert run("import atexit, threading, time\natexit.register(time.sleep, 100)\n"
               "threading.Thread(target=time.sleep, args=(100,)).start()", SHORT).passed


def test_a_crash_is_told_by_its_signal(run):
    outcome = run("import ctypes\nctypes.string_at(0)")
    assert (outcome.verdict, outcome.error) == ("killed", "SIGSEGV")


def test_bytes_that_are_no_text_are_replaced_in_the_output(run):
    outcome = run("import sys\nsys.stdout.buffer.write(b'a\\xff\\xfeb')")
    assert (outcome.verdict, outcome.output) == ("passed", "a��b")


def test_a_program_longer_than_a_pipe_holds_is_run_whole(run):
    assert run("x = 0\n" + "x += 1\n" * 100_000 + "assert x == 100_000").passed


REFUSED = {
    "fork_bomb": "import os\nwhile True:\n    os.fork()",
    "daemon": "import os\nif os.fork() == 0:\n    os.setsid()\n    while True:\n        pass",
    "subprocess": "import subprocess\nsubprocess.run(['/bin/true'])",
    "shell": "import os\nif os.system('true') != 0:\n    raise PermissionError",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "kill_all": "import os\nos.kill(-1, 9)",
    "kill_group": "import os\nos.killpg(0, 9)",
    "kill_first": "import os\nos.kill(1, 9)",
    "kill_parent": "import os\nos.kill(os.getppid() or 1, 9)",
    "signal_by_file": "import fcntl\nfcntl.fcntl(1, 8, 1)",
    "new_session": "import os\nos.setsid()",
    "become_root": "import os\nos.setuid(0)",
    "socket": "import socket\nsocket.socket()",
    "unix_socket": "import socket\nsocket.socket(socket.AF_UNIX)",
    "etc_shadow": "open('/etc/shadow').read()",
    "etc_passwd": "open('/etc/passwd').read()",
    "write_python": "import os\nopen(os.__file__, 'a')",
    "write_root": "open('/left', 'w')",
    "chmod": "import os\nopen('a', 'w')\nos.chmod('a', 0o4777)",
    "hidden_memory": "import os\nos.memfd_create('a')",
    "raised_limit": "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
                    "except ValueError:\n    raise PermissionError",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_reaches_beyond_the_program_is_refused(run, case):
    outcome = run(REFUSED[case], SHORT)
    assert outcome.verdict == "failed"
    assert outcome.error in ("PermissionError", "FileNotFoundError", "OSError"), outcome


def test_signals_to_itself_work(run):
    assert run("import os, signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda *a: got.append(a))\n"
               "os.kill(os.getpid(), signal.SIGUSR1)\nassert got").passed


def test_threads_are_few(run):
    program = ("import threading, time\nstarted = 0\ntry:\n    while True:\n"
               "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n        started += 1\n"
               "except RuntimeError:\n    pass\nprint(started)")
    outcome = run(program, Limits(threads=8, memory_mib=512, seconds=60))
    assert outcome.passed
    assert 1 <= int(outcome.output) < 512 // 8  # a stack takes 8 MiB of address space


@pytest.mark.skipif("full" not in LEVELS or os.geteuid() != 0, reason="needs root, who becomes other users")
def test_a_program_has_its_threads_whatever_others_run_beside_it():
    program = ("import os, threading, time\n"
               "threads = [threading.Thread(target=time.sleep, args=(3,)) for _ in range(20)]\n"
               "for thread in threads:\n    thread.start()\nprint(os.getuid())")
    outcomes = run_programs([program] * 3, USUAL, workers=3)
    assert all(outcome.passed for outcome in outcomes), outcomes
    assert len({outcome.output for outcome in outcomes}) == 3


def test_nothing_of_the_evaluations_environment_is_seen(run, monkeypatch):
    monkeypatch.setenv("HEADWATER_SECRET", "not for programs")
    outcome = run("import glob, os\nprint(dict(os.environ))\nfor name in glob.glob('/proc/*/environ'):\n    try:\n"
                  "        print(open(name).read())\n    except OSError:\n        pass")
    assert outcome.passed
    assert "HOME" not in outcome.output
    assert "SECRET" not in outcome.output


def test_every_program_has_an_empty_folder_that_is_gone_afterwards(run):
    program = "import os\nassert not os.listdir('.')\nopen('left', 'w').write('x')\nprint(os.getcwd())"
    folders = [run(program) for _ in range(2)]
    assert all(outcome.passed for outcome in folders)
    assert not any(Path(outcome.output.strip(), "left").exists() for outcome in folders)


def test_a_listener_on_this_machine_hears_nothing(run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = listener.getsockname()
        assert run(f"import socket\nsocket.create_connection({address})").error == "PermissionError"
        with pytest.raises(TimeoutError):
            listener.accept()
        with socket.create_connection(address):  # it would have heard
            listener.accept()


def _in_new_process(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env=ENVIRONMENT).stdout


@pytest.mark.skipif("full" not in LEVELS, reason="no namespaces here")
def test_the_namespace_alone_has_no_way_to_this_machines_ports():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connect = f"socket.create_connection({listener.getsockname()}, timeout=5)"
        assert "reached" in _in_new_process(f"import socket\n{connect}\nprint('reached')")
        said = _in_new_process("import socket\nfrom headwater.sandbox import namespaces\n"
                               f"namespaces.enter()\ntry:\n    {connect}\nexcept OSError as error:\n    print(error)")
    assert "unreachable" in said


def test_programs_end_with_the_evaluation_that_is_killed():
    evaluation = subprocess.Popen([sys.executable, "-c", (
        "from headwater.evaluate.code_execution import Limits, run_programs\n"
        "run_programs(['while True: pass'], Limits(seconds=200), workers=1)")],
        env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 60
        while len(started := _descendants(evaluation.pid)) < 2 + (LEVELS[0] == "full"):
            assert time.monotonic() < deadline, "the program was never started"
            time.sleep(0.05)
        time.sleep(0.5)  # past the probes, whose processes come and go
        started |= _descendants(evaluation.pid)
    finally:
        evaluation.send_signal(signal.SIGKILL)
        evaluation.wait()
    while any(_lives(process) for process in started):
        assert time.monotonic() < deadline, "a program outlived its evaluation"
        time.sleep(0.05)


def _lives(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _descendants(process):
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def test_outcomes_come_in_the_order_of_the_programs():
    programs = [f"import time\ntime.sleep({(5 - n) / 10})\nprint({n})" for n in range(6)]
    outcomes = run_programs(programs, USUAL, workers=3)
    assert [outcome.output for outcome in outcomes] == [f"{n}\n" for n in range(6)]


def test_sets_have_the_same_order_in_every_run():
    program = "print(list({str(n) for n in range(50)}))"
    assert len({outcome.output for outcome in run_programs([program] * 3, USUAL, workers=2)}) == 1


@pytest.fixture
def forget():
    isolation.cache_clear()
    yield
    isolation.cache_clear()


@pytest.mark.parametrize(("printed", "said"), [
    ("", "a program cannot compute"),
    ("\n".join([*probes.ALLOWED, "open a socket"]), "a program can open a socket"),
    ("\n".join([*probes.ALLOWED, "write outside"]), "a program can write outside")], ids=["dead", "network", "files"])
def test_nothing_is_run_where_the_walls_do_not_hold(monkeypatch, forget, printed, said):
    monkeypatch.setattr(probes, "program", lambda *_: f"print({printed!r})")
    with pytest.raises(InputError, match=said):
        run_programs(["pass"], Limits(), workers=1)


def test_the_weaker_level_is_named_with_what_it_leaves_open(monkeypatch, forget):
    monkeypatch.setattr(walls, "trial", lambda level: ("no", ()) if level == "full" else ("", ("names",)))
    assert isolation() == Isolation("reduced", ("names",))


def test_the_probes_would_notice_open_doors(tmp_path):
    (tmp_path / "canary").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = probes.program(str(tmp_path), listener.getsockname()[1], os.getpid(), 1 << 20)
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(said.stdout.splitlines()) >= {*probes.ALLOWED, *probes.FORBIDDEN, *probes.MISSED}


AS_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
"""Root's files, but none of root's powers: an ordinary user to whom this Python's folder is open."""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None
                    or subprocess.run([*AS_USER, "true"], capture_output=True).returncode != 0,
                    reason="needs root, and namespaces of users")
@pytest.mark.parametrize("level", ["full", "reduced"])
def test_an_ordinary_user_has_the_same_walls(level):
    program = ("import os\nfrom headwater.sandbox import isolation, programs as p\nassert os.geteuid() == 1000\n"
               f"print([isolation.trial({level!r})[0]] + [p.run(t, p.Limits(seconds=5), {level!r}).verdict for t in\n"
               f" ['pass', 'while True: pass', {REFUSED['kill_all']!r}, {REFUSED['fork_bomb']!r}]])")
    said = subprocess.run([*AS_USER, sys.executable, "-c", program], capture_output=True, text=True,
                          env=ENVIRONMENT)
    assert said.stdout.strip() == str(["", "passed", "timed out", "failed", "failed"]), said.stderr


@pytest.mark.skipif(not HUMANEVAL.is_file(), reason="the HumanEval file is not here")
def test_humanevals_own_solutions_pass_and_empty_ones_fail():
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    for body, passed in (("canonical_solution", True), (None, False)):
        programs = [f"{row['prompt']}{row[body] if body else '    return None'}\n{row['test']}\n"
                    f"check({row['entry_point']})" for row in rows]
        outcomes = run_programs(programs, Limits(seconds=60), workers=2)
        assert [row["task_id"] for row, outcome in zip(rows, outcomes) if outcome.passed is not passed] == []
