"""kill -9 at any moment, then the same command: the same bytes as an undisturbed run."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headwater.errors import Interrupted
from headwater.recipe import interruption
from tests.recipe.tiny_stages import write_recipe

ROOT = Path(__file__).parents[2]


def start(recipe: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.recipe.tiny_stages", "run", str(recipe), "--out", str(out),
               "train.pause=0.02"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def outputs(out: Path) -> dict[str, str]:
    files = ["source/pages/one.txt", "train/model.safetensors", "judge/results.json"]
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files}


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def finish(recipe: Path, out: Path) -> str:
    process = start(recipe, out)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(tmp_path):
    recipe = write_recipe(tmp_path / "recipes")
    finish(recipe, tmp_path / "undisturbed")
    chance = random.Random(5)
    for _ in range(3):
        process = start(recipe, tmp_path / "killed")
        wait_for(lambda: (tmp_path / "killed" / "train" / "started.json").exists())
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.communicate()
    assert "train: goes on" in finish(recipe, tmp_path / "killed")
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "undisturbed")


@pytest.mark.slow
def test_the_quickstart_in_small_survives_kills_with_the_same_bytes():
    command = [sys.executable, "benchmarks/resume.py", "--quick", "--kills", "3", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    same = json.loads(done.stdout.splitlines()[-1])["rows"][0]
    assert same["metric"] == "model files with the same bytes"
    assert same["ours"] == 1.0
    assert same["case"].startswith(("2 kills", "3 kills"))  # the last may come after the end on a fast machine


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_once_with_130_and_the_command(tmp_path, number):
    recipe = write_recipe(tmp_path / "recipes")
    process = start(recipe, tmp_path / "run")
    wait_for(lambda: (tmp_path / "run" / "train" / "started.json").exists())
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "go on with the same command" in said
    assert "Traceback" not in said


def test_an_interrupt_that_a_library_swallows_is_raised_again(monkeypatch):
    monkeypatch.setattr(interruption, "REPEAT_SECONDS", 0.1)
    before = signal.getsignal(signal.SIGINT)

    @interruption.stoppable(["headwater", "run"])
    def work():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        time.sleep(20)

    with pytest.raises(Interrupted):
        work()
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_two_runs_in_one_folder_do_not_mix(tmp_path):
    recipe = write_recipe(tmp_path / "recipes")
    first = start(recipe, tmp_path / "run")
    wait_for(lambda: (tmp_path / "run" / "train" / "started.json").exists())
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = start(recipe, tmp_path / "run")
        said = second.communicate(timeout=20)[1]
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 2
    assert f"another run works here (process {first.pid})" in said
    assert first.wait(timeout=30) == 0
    first.communicate()
