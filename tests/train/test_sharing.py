"""Runs shared by real processes, over gloo on the CPU, against the same runs of one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from headwater.model.checkpoint import load_model
from headwater.train.snapshots import folder_of
from tests.train.sharing import losses, run, shard

ADAMW, MUON = {"learning_rate": 1e-2, "warmup_steps": 2}, {"name": "muon", "learning_rate": 1e-2, "warmup_steps": 2}
ODD = {"tie_word_embeddings": True, "head": "normalized", "attention_bias": True, "num_hidden_layers": 3,
       "activation": "gelu"}
TWO = {
    **{f"zero-{zero}": {"parallel": {"zero": zero}} for zero in range(4)},
    "muon-1": {"parallel": {"zero": 1}, "optimizer": MUON}, "muon-3": {"parallel": {"zero": 3}, "optimizer": MUON},
    "tensor": {"parallel": {"tensor": 2}}, "alibi-tensor": {"parallel": {"tensor": 2}, "model": {"position": "alibi"}},
    "parts": {"micro_rows": 1, "recompute": "full"},
    "parts-3": {"micro_rows": 1, "recompute": "selective", "parallel": {"zero": 3}},
    "odd": {"model": ODD, "parallel": {"zero": 3}},
    **{f"lora-{zero}": {"lora": {"rank": 4}, "parallel": {"zero": zero}} for zero in (1, 2, 3)},
    "prefix": {"prefix": {"length": 4}, "parallel": {"zero": 3}},
    "frozen": {"frozen": 1, "parallel": {"zero": 2}, "micro_rows": 1},
    **{f"snapshots-{name}": {"parallel": how, "snapshot_tokens": 4 * 4 * 32}
       for name, how in {"zero": {"zero": 3}, "tensor": {"tensor": 2}}.items()},
}
FOUR = {
    "tensor-data": {"parallel": {"tensor": 2, "zero": 3}}, "tensor-data-0": {"parallel": {"tensor": 2, "zero": 0}},
    "tensor-muon": {"parallel": {"tensor": 2, "zero": 2}, "optimizer": MUON}, "replicas": {"parallel": {"replicas": 2}},
    "odd-tensor": {"model": ODD, "parallel": {"tensor": 2}},
}


def start(processes, out, cases, *options, script=Path(__file__).with_name("sharing.py")):  # noqa: B008
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone",
               *options, str(script), str(out), json.dumps(cases)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def children(process):
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False).stdout.split()
    return [int(number) for number in found]


def finished(worker):
    """What it said; nothing of it is left running, whatever happens."""
    try:
        return worker.communicate(timeout=200)[0]
    except BaseException:
        for number in (*children(worker.pid), worker.pid):
            os.kill(number, signal.SIGKILL)
        raise


def together(processes, out, cases, **options):
    worker = start(processes, out, cases, **options)
    said = finished(worker)
    assert worker.returncode == 0, said[:6000]


@pytest.mark.parametrize(("processes", "cases"), [(2, TWO), (4, FOUR)])
@pytest.mark.slow
def test_however_a_run_is_shared_it_is_the_run_of_one_process(tmp_path, processes, cases):
    together(processes, tmp_path, cases)
    for name, case in cases.items():
        alone = {key: value for key, value in case.items() if key in ("optimizer", "model", "lora", "prefix", "frozen")}
        model = run(tmp_path / "one" / name, **alone).model
        found, wanted = losses(tmp_path / name), losses(tmp_path / "one" / name)
        rounding = 5e-4 if "muon" in name else 2e-5  # Muon orthogonalises in bfloat16, where a last bit may tip
        assert found == [pytest.approx(row, rel=rounding) for row in wanted], name
        shared = torch.load(tmp_path / name / "weights.pt")
        for key, parameter in model.named_parameters():
            error = (shared[key] - parameter).norm() / parameter.norm()
            assert error < 100 * rounding, f"{name}: {key}"
        if "snapshot_tokens" in case:
            first, last = (load_model(folder_of(tmp_path / name, steps * 4 * 32)) for steps in (4, 6))
            assert all(torch.equal(one, shared[key]) for key, one in last.named_parameters())
            assert not any(torch.equal(one, shared[key]) for key, one in first.named_parameters() if one.dim() > 1)



@pytest.mark.slow
def test_from_two_processes_to_four_to_one_no_token_is_skipped_or_read_twice(tmp_path):
    for processes, steps in ((2, 4), (4, 9)):
        together(processes, tmp_path, {"run": {"steps": steps, "optimizer": {**MUON, "schedule": "constant"}}})
    run(tmp_path / "run", steps=15, optimizer={**MUON, "schedule": "constant"})
    run(tmp_path / "one", steps=15, optimizer={**MUON, "schedule": "constant"})
    assert losses(tmp_path / "run") == [pytest.approx(row, rel=1e-4) for row in losses(tmp_path / "one")]
    logs = (tmp_path / "run" / "places").iterdir()
    read = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    assert Counter(row["step"] for row in read) == {step: 2 if step <= 4 else 4 if step <= 9 else 1
                                                    for step in range(1, 16)}
    seen = Counter(place for row in read for begin, end in row["read"] for place in range(begin, end))
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == 15 * 4 * 32
    assert max(seen) < shard().total


@pytest.mark.slow
def test_kill_9_of_a_shared_run_changes_no_bit(tmp_path):
    """All processes at once, and a start by hand; then one of them, which torchrun starts again."""
    case = {"steps": 24, "checkpoint_seconds": 0.05, "parallel": {"zero": 3}}
    together(2, tmp_path, {"whole": case})
    for victims, restarts in ((2, 0), (1, 1)):
        worker = start(2, tmp_path, {"run": case}, f"--max-restarts={restarts}")
        before = newest(tmp_path / "run")
        while newest(tmp_path / "run") == before and worker.poll() is None:
            time.sleep(0.01)
        workers = children(worker.pid)
        assert len(workers) == 2
        for number in workers[:victims]:
            os.kill(number, signal.SIGKILL)
        said = finished(worker)
        assert (worker.returncode == 0) == bool(restarts), said[:6000]
    whole, again = (torch.load(tmp_path / name / "weights.pt") for name in ("whole", "run"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "run")


def newest(folder):
    return max((int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*")), default=0)
