"""kill -9 at any moment of a PPO run, then the same call: the same weights and the same iterations, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from headwater.artifacts import hash_file

STARTER = """
import json, os, sys, traceback, torch
from pathlib import Path
from headwater.align.ppo_settings import PpoSettings
from headwater.align.ppo_stage import run
import torch.distributed.checkpoint, headwater.generate.engine
lake = lambda answers: torch.tensor([float("lake" in answer.text) for answer in answers])
for line in sys.stdin:
    settings, out = json.loads(line)
    child = os.fork()  # what takes long, the imports, is done once
    if not child:
        try:
            run(PpoSettings.parse(settings), Path(out), {"lake": (lake, 1.0)})
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def starter():
    process = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    yield process
    process.stdin.close()
    process.wait()


def go(starter, settings, out, until=lambda: False):
    """Start a run in a process of its own, kill it as soon as something is so; how it ended, as the system says."""
    starter.stdin.write(json.dumps([settings, str(out)], default=str) + "\n")
    starter.stdin.flush()
    child = int(starter.stdout.readline())
    with open(f"/proc/{child}/stat") as stat:
        while True:
            stat.seek(0)
            try:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    break
            except ProcessLookupError:
                break
            if until():
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.001)
    return int(starter.stdout.readline())


def learned(out):
    """What a run came to, but for seconds."""
    rows = [json.loads(line) for line in (out / "iterations.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return rows, hash_file(out / "model.safetensors"), hash_file(out / "critic" / "model.safetensors")


@pytest.mark.slow
def test_kill_9_changes_nothing_of_the_trajectory(two_armed, asking, settled, tmp_path, starter):
    settings = settled(two_armed, asking, iterations=4, answers=8, passes=2, critic_warmup=6,
                       trainer={"checkpoint_seconds": 1e-9})
    assert go(starter, settings, tmp_path / "whole") == 0
    out = tmp_path / "killed"
    rollouts, checkpoints = out / "rollouts", out / "checkpoints"
    moments = {"while the first answers are made": lambda: (out / "machine.json").exists(),
               "in the middle of an iteration": lambda: (checkpoints / "step-00000003").exists(),
               "while answers are written": lambda: any(rollouts.glob("*00002*")),
               "behind the warm-up": lambda: (checkpoints / "step-00000014").exists()}
    for moment, seen in moments.items():
        assert go(starter, settings, out, seen) == signal.SIGKILL, f"not killed {moment}"
    assert go(starter, settings, out) == 0
    assert learned(out) == learned(tmp_path / "whole")
