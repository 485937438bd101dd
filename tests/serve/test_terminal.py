from __future__ import annotations

import io
from pathlib import Path

import pytest

from headwater.serve.terminal import ChatSettings, chat


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
