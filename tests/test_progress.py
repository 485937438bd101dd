import io
import sys

import pytest

from headwater import progress
from headwater.progress import bar, say, track


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_plain_bar_prints_a_line_now_and_then_with_what_is_left(clock, capsys):
    with bar("reading", 100) as shown:
        for _ in range(50):
            clock[0] += 1
            shown.advance()
        shown.note("loss 2")
        assert shown.line() == "reading: 50/100, 50 s, 50 s left, loss 2"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6  # every ten seconds, and at the end
    assert lines[0].startswith("reading: 10/100, 10 s, 90 s left")


def test_a_resumed_bar_judges_by_this_session_alone(clock):
    with bar("training", 100, start=80) as shown:
        for _ in range(2):
            clock[0] += 5
            shown.advance(5)
        assert shown.line() == "training: 90/100, 10 s, 10 s left"


def test_a_short_task_prints_nothing(capsys):
    assert list(track([1, 2, 3], "quick")) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_short_work_within_a_longer_one_is_told_by_the_outer_bar_alone(clock, capsys):
    with bar("steps", 2) as outer:
        for seconds in (5, 11):
            with bar("answers", 4) as inner:
                clock[0] += seconds
                inner.done = 4
            outer.done += 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["answers", "steps"]


def test_a_bar_without_a_total_counts(clock, capsys):
    for _ in track(iter("ab"), "pages"):
        clock[0] += 5
    assert "pages: 2, 10 s" in capsys.readouterr().err


def test_what_is_said_is_not_markup_and_not_on_standard_output(capsys):
    say("[bold]a[/bold] [1, 2]")
    captured = capsys.readouterr()
    assert captured.err == "[bold]a[/bold] [1, 2]\n"
    assert captured.out == ""


def test_on_a_terminal_descriptions_are_not_markup_either(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", progress.Console(file=screen, force_terminal=True, width=100))
    with bar("shard [red]", 2) as shown:
        shown.note("[x] 1")
        shown.advance(2)
    assert "shard [red]" in screen.getvalue()
    assert "2/2" in screen.getvalue()


def test_a_bar_closes_when_the_work_fails(capsys):
    with pytest.raises(KeyboardInterrupt), bar("work", 2):
        raise KeyboardInterrupt
    assert sys.exc_info() == (None, None, None)


def test_a_bar_within_a_bar_is_a_line_of_the_same_display(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", progress.Console(file=screen, force_terminal=True, width=100))
    with bar("training", 10) as outer:
        outer.advance(3)
        with bar("validating", 4) as inner:
            inner.advance(4)
        outer.advance(7)
    assert "validating" in screen.getvalue()
    last = screen.getvalue()[screen.getvalue().rindex("training") :]
    assert "10/10" in last
    with bar("afterwards", 1) as shown:
        shown.advance()
    assert "afterwards" in screen.getvalue()
