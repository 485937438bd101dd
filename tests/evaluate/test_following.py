"""Breaks when a snapshot is evaluated twice, out of order or not at all, or deleted before it was evaluated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading

import pytest

from headwater.artifacts import write_json
from headwater.errors import SettingsError
from headwater.evaluate.following import FollowSettings, Job, follow
from headwater.evaluate.stage import EvaluateSettings, run

TOKENS = (100, 900, 2000)


@pytest.fixture
def questions(tmp_path):
    folder = tmp_path / "choice" / "test"
    folder.mkdir(parents=True)
    lines = [f"How long is river {number}?,1 km,2 km,3 km,4 km,{'ABCD'[number % 4]}" for number in range(8)]
    (folder / "rivers_test.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "choice"


@pytest.fixture
def training(tmp_path, small_model):
    """A stage's folder with three snapshots, and one of which it knows nothing yet."""
    out = tmp_path / "stage"
    for tokens in (*TOKENS, 3000):
        shutil.copytree(small_model, out / "snapshots" / f"tokens-{tokens:014d}")
    rows = [{"step": tokens // 100, "tokens": tokens, "seconds": 0.1} for tokens in (900, 100, 2000)]
    (out / "snapshots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


def job(out, questions, *, asked="a", **settings):
    (out.parent / "work").mkdir(exist_ok=True)
    parsed = FollowSettings.parse({"evaluate": {"choice": {"rivers": {"en": questions}}}, **settings})
    return Job(folder=out, work=out.parent / "work", settings=parsed, asked=asked)


def followed(found):
    complete = threading.Event()
    complete.set()
    follow(found, complete)
    return found.log.read()


def names(out):
    return sorted(int(path.name.removeprefix("tokens-")) for path in (out / "snapshots").iterdir())


def test_each_is_evaluated_once_in_order_as_the_evaluation_does_it(training, questions, small_model, tmp_path):
    rows = followed(job(training, questions, keep="all"))
    assert [(row["tokens"], row["step"]) for row in rows] == [(100, 1), (900, 9), (2000, 20)]
    wanted = run(EvaluateSettings(models={"m": {"path": small_model, "style": "plain"}},
                                  choice={"rivers": {"en": questions}}), tmp_path / "wanted")
    assert rows[0]["rivers.en.accuracy"] == wanted["m/rivers.en.accuracy"]
    assert followed(job(training, questions, keep="all")) == rows
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(("keep", "stay"), [("all", [100, 900, 2000]), ("last", [2000]), ("none", [])])
def test_what_is_not_kept_goes_when_it_is_evaluated(training, questions, keep, stay):
    assert len(followed(job(training, questions, keep=keep))) == 3
    assert names(training) == [*stay, 3000]


def test_one_that_is_evaluated_and_was_left_lying_by_a_kill_is_deleted(training, questions):
    followed(job(training, questions, keep="all"))
    assert len(followed(job(training, questions, keep="none"))) == 3
    assert names(training) == [3000]


def test_other_questions_are_asked_of_the_snapshots_that_are_still_there(training, questions):
    followed(job(training, questions, keep="last"))
    rows = followed(job(training, questions, asked="b", keep="last"))
    assert [(row["tokens"], row["asked"]) for row in rows] == [(100, "a"), (900, "a"), (2000, "a"), (2000, "b")]


@pytest.mark.parametrize(("settings", "words"), [
    ({}, "nothing is measured"), ({"limit": 3}, "nothing is measured"), ({"corpus": "c", "spoken": 5}, "no effect"),
    ({"models": {"m": {"path": "p"}}}, "unknown setting 'evaluate.models'")])
def test_measures_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(SettingsError, match=words):
        FollowSettings.parse({"evaluate": settings})


def test_what_cannot_be_evaluated_is_told_in_the_last_line(training, questions, tmp_path):
    found = job(training, questions)
    write_json(tmp_path / "job.json", found.model_dump(mode="json"))
    (training / "snapshots" / f"tokens-{100:014d}" / "config.json").write_text("{")
    command = [sys.executable, "-m", "headwater.evaluate.following", str(tmp_path / "job.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.read()
    assert process.returncode == 2
    assert "config.json" in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    assert found.log.read() == []


def test_the_process_ends_with_the_one_that_trains(training, questions, tmp_path):
    """Where its standard input ends nobody is there to tell it that no more will come."""
    found = job(training, questions)
    write_json(tmp_path / "job.json", found.model_dump(mode="json"))
    (training / "snapshots.jsonl").unlink()
    done = subprocess.run([sys.executable, "-m", "headwater.evaluate.following", str(tmp_path / "job.json")], input=b"",
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"the process that trains is gone" in done.stderr
