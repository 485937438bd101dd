from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headwater.generate.chat_session import ChatSession
from headwater.generate.request import Delta
from headwater.serve.terminal import ChatSettings, chat

ROOT = Path(__file__).parents[2]


@pytest.fixture
def answers(lessons: dict[str, str]) -> dict[str, str]:
    """The lessons as a pipe shows them."""
    return {question: answer.replace("\n", " ") for question, answer in lessons.items()}


def talk(run: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    chat(run, ChatSettings(temperature=0, **settings))  # type: ignore[arg-type]


def test_a_pipe_gets_one_line_per_message(run_folder: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str], answers: dict[str, str]) -> None:
    talk(run_folder, ["你好", "", "/reset", "hello", "/quit", "你好"], monkeypatch)
    assert capsys.readouterr().out == answers["你好"] + "\n" + answers["hello"] + "\n"


def test_what_a_terminal_would_obey_is_not_shown(run_folder: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    said = [Delta("wo\x1b[2Jrd", (), (), None), Delta("\u202eend", (), (), None)]
    monkeypatch.setattr(ChatSession, "reply", lambda self, text: iter(said))
    talk(run_folder, ["hello"], monkeypatch)
    assert capsys.readouterr().out == "wo\ufffd[2Jrd\ufffdend\n"


def test_history_counts_until_reset(run_folder: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str], answers: dict[str, str]) -> None:
    talk(run_folder, ["hello", "/system Be brief.", "/reset", "/system", "hello", "/reset", "hello"], monkeypatch)
    assert capsys.readouterr().out.splitlines() == [answers["hello"]] * 3


def test_an_unknown_command_shows_the_help(run_folder: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str], answers: dict[str, str]) -> None:
    talk(run_folder, ["/help", "你好"], monkeypatch)
    captured = capsys.readouterr()
    assert "/reset" in captured.err
    assert captured.out == answers["你好"] + "\n"


def test_a_message_too_long_is_told_and_the_conversation_goes_on(
        run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        answers: dict[str, str]) -> None:
    talk(run_folder, ["山" * 320, "你好"], monkeypatch)
    captured = capsys.readouterr()
    assert f"the context holds {320}" in captured.err
    assert captured.out.splitlines() == ["", answers["你好"]]


def test_bytes_that_are_no_text_are_the_users_mistake_in_any_locale(run_folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "headwater.cli.main", "chat", str(run_folder)], cwd=ROOT,
                          input="你好".encode("gb18030") + b"\n", capture_output=True, check=False,
                          env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})
    assert done.returncode == 2
    assert b"standard input is not UTF-8" in done.stderr
    assert not done.stdout


def test_ctrl_c_drops_a_line_half_typed_and_twice_leaves(run_folder: Path, lessons: dict[str, str]) -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite that runs in the background ignores it
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "headwater.cli.main", "chat", str(run_folder), "temperature=0"])
    shown = b""

    def until(text: str) -> None:
        nonlocal shown
        while text.encode() not in shown:
            assert select.select([terminal], [], [], 60)[0], shown
            shown += os.read(terminal, 4096)
        shown = shown.split(text.encode(), 1)[1]

    def interrupt() -> None:
        # One that comes between the prompt and the waiting for input is noticed with the next only.
        for _ in range(12):
            os.write(terminal, b"\x03")
            if select.select([terminal], [], [], 5)[0]:
                return

    until("> ")
    time.sleep(0.3)
    os.write(terminal, b"half a li")
    until("half a li")
    interrupt()
    until("Ctrl-C once more")
    until("> ")
    os.write(terminal, "你好\n".encode())
    until(lessons["你好"].splitlines()[0])
    until("> ")
    time.sleep(0.3)
    interrupt()
    until("Ctrl-C once more")
    until("> ")
    time.sleep(0.3)
    interrupt()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
