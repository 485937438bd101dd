"""Breaks when a run that is told to end loses steps, ends inside one, or goes on otherwise than an undisturbed one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.train.sharing import losses, run
from tests.train.test_sharing import newest

ROOT = Path(__file__).parents[2]
WORKER = """
import json, sys, time
from headwater.errors import Interrupted
from headwater.recipe.interruption import stoppable
from tests.train.sharing import run
try:
    with stoppable(["headwater", "finetune"]):
        run(sys.argv[1], validate=lambda model: time.sleep(60) or {}, **json.loads(sys.argv[2]))
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""
STEPS = 120


def start(out, **case):
    """A process that trains, once it has taken some steps."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(out), json.dumps({"steps": STEPS, **case})], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, end = out / "metrics.jsonl", time.monotonic() + 30
    while not metrics.exists() or metrics.read_text().count("\n") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    return process


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, steps=STEPS).model, folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_behind_a_step_that_is_kept(tmp_path, whole, number):
    process = start(tmp_path / "parts")
    process.send_signal(number)
    said, warned = process.communicate(timeout=30)
    done = newest(tmp_path / "parts")
    assert process.returncode == 130
    assert 0 < done < STEPS
    assert len(losses(tmp_path / "parts")) == done
    assert said.startswith(f"stopped; {done} of {STEPS} steps are done and kept\n  to do: go on with the same command")
    assert "once more to stop at once" in warned
    resumed, (undisturbed, folder) = run(tmp_path / "parts", steps=STEPS).model, whole
    assert losses(tmp_path / "parts") == losses(folder)
    both = zip(resumed.parameters(), undisturbed.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in both)


def test_a_second_signal_ends_it_at_once(tmp_path):
    process = start(tmp_path, validate_every=3)
    time.sleep(0.2)  # in the validation behind the third step, which takes a minute
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 130
    assert said.startswith("stopped; what was saved so far is kept")
    assert newest(tmp_path) == 0


def test_the_signals_do_again_what_they_did_when_a_run_has_ended(tmp_path):
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    run(tmp_path, steps=1)
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_memory_of_a_run_is_that_of_the_attempt_that_took_most(tmp_path):
    """The second has nothing to do but to read the checkpoint."""
    trained, read = (run(tmp_path, steps=2, rows=64, sequence_length=128).figures for _ in range(2))
    assert trained["measured_memory_bytes"] > 20e6
    assert read["measured_memory_bytes"] > 0.9 * trained["measured_memory_bytes"]
    assert read["predicted_memory_bytes"] >= trained["predicted_memory_bytes"]
