"""The quickstart killed at random moments and given the same command again, against a run that nothing disturbed.

    python benchmarks/resume.py [--full] [--kills N] [--processes N] [--seed S] [--keep DIR]

Every kill is SIGKILL to the run and all its children; the moments are drawn over the undisturbed run. Of several
processes that torchrun started, in turn all are killed and one is; the moments are then drawn over the steps of
training. What counts is whether the last model's weights are the same bytes; the time lost to the kills is a row of its
own. `--quick` takes the smallest world and a few steps, `--full` the quickstart as it ships.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _harness import Case, arguments, report

from headwater.artifacts import hash_file

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "quickstart.yaml"
MODEL = "quantize/model.safetensors"
TINY = [
    "atlas.size=tiny", "corpus.min_tokens=20", "corpus.validation_share=0.1", "tokenizer.vocab_size=1536",
    *(f"pretrain.model.{name}" for name in ("hidden_size=64", "intermediate_size=128", "num_hidden_layers=2",
                                            "num_attention_heads=2")),
    *(f"{stage}.trainer.{name}" for stage in ("pretrain", "finetune")
      for name in ("epochs=null", "steps=120", "rows=4", "sequence_length=128", "validate_every=0", "compile=off",
                   "precision=float32", "threads=1", "checkpoint_seconds=0.2")),
    "finetune.general.choice={}", "evaluate.choice={}"]


def main() -> None:
    options = arguments(__doc__, ("--kills", {"type": int, "default": None, "help": "4, or 10 with --full"}),
                        ("--processes", {"type": int, "default": 1, "help": "that share the training"}),
                        ("--seed", {"type": int, "default": 0}),
                        ("--keep", {"type": Path, "default": None, "help": "keep the two runs here"}))
    with tempfile.TemporaryDirectory() as temporary:
        rows = compare(options, options.keep or Path(temporary))
    report("resume", rows, {}, ("torch",))


def compare(options: argparse.Namespace, folder: Path) -> list[Case]:
    """Both runs and their rows."""
    overrides = [] if options.full else TINY
    run = Run(options.processes, overrides, random.Random(options.seed))
    kills = options.kills if options.kills is not None else 10 if options.full else 4
    undisturbed, unchanged = (run.finish(folder / "undisturbed") for _ in range(2))
    disturbed, hits = kill_by_steps(run, folder, kills) if options.processes > 1 else kill_by_time(
        run, folder / "killed", kills, undisturbed, unchanged)
    disturbed += run.finish(folder / "killed")
    same = hash_file(folder / "undisturbed" / MODEL) == hash_file(folder / "killed" / MODEL)
    case, peer = f"{len(hits)} kills ({', '.join(hits)})", "undisturbed run"
    return [Case.compare(case, "model files with the same bytes", float(same), peer, 1.0),
            Case.compare(case, "seconds in all", disturbed, peer, undisturbed, more_is_better=False),
            Case.compare("nothing changed", "seconds", unchanged, peer, undisturbed, more_is_better=False)]


def kill_by_time(run: Run, out: Path, kills: int, undisturbed: float, unchanged: float) -> tuple[float, list[str]]:
    """Seconds that the killed attempts had, and the stages they were in."""
    moments = sorted(run.chance.uniform(0, 0.9 * undisturbed) for _ in range(kills))
    disturbed, hits = 0.0, []
    for before, moment in zip([0.0, *moments], moments, strict=False):
        # Every attempt first finds again what is done; then it works on to the next moment.
        end = time.perf_counter() + moment - before + (unchanged if before else 0)
        seconds, killed = run.kill_when(out, lambda end=end: time.perf_counter() > end)
        disturbed += seconds
        if killed:
            hits.append(stage_in_work(out))
            print(f"killed at {moment:.1f} s of {undisturbed:.1f} s, in {hits[-1]}", file=sys.stderr)
    return disturbed, hits


def kill_by_steps(run: Run, folder: Path, kills: int) -> tuple[float, list[str]]:
    """The same, each attempt being killed when it has come to a step drawn for it."""
    total, out, disturbed, hits = steps_done(folder / "undisturbed"), folder / "killed", 0.0, []
    for point in sorted(run.chance.sample(range(1, total), kills)):
        seconds, killed = run.kill_when(out, lambda point=point: steps_done(out) >= point)
        disturbed += seconds
        if killed:
            hits.append(stage_in_work(out))
            print(f"killed at step {steps_done(out)} of {total}, in {hits[-1]}", file=sys.stderr)
    return disturbed, hits


def steps_done(out: Path) -> int:
    """Optimizer steps of all stages, those that a kill will take back included."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/places/rank-00000.jsonl"))


class Run:
    """How the recipe is run: by how many processes, with which overrides."""

    def __init__(self, processes: int, overrides: list[str], chance: random.Random) -> None:
        self.processes, self.overrides, self.chance, self.kills = processes, overrides, chance, 0

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        shared = ["torch.distributed.run", f"--nproc-per-node={self.processes}", "--standalone", "-m"]
        command = [sys.executable, "-m", *(shared if self.processes > 1 else []), "headwater", "run", str(RECIPE),
                   "--out", str(out), *self.overrides]
        log = open(out.with_suffix(".log"), "ab")  # noqa: SIM115 (the child writes to it after we return)
        environment = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **os.environ} if self.processes > 1 else None
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=environment)

    def finish(self, out: Path) -> float:
        """Run to the end; returns the seconds."""
        out.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        if self.start(out).wait():
            sys.exit(f"the run failed:\n{out.with_suffix('.log').read_text()[-3000:]}")
        return time.perf_counter() - start

    def kill_when(self, out: Path, due: Callable[[], bool]) -> tuple[float, bool]:
        """Start the run and kill it when that is due; the seconds it had, and whether it was hit."""
        process, start = self.start(out), time.perf_counter()
        while not due():
            if process.poll() is not None:
                return time.perf_counter() - start, False
            time.sleep(0.02)
        workers = children(process.pid)
        self.kills += 1
        one = [self.chance.choice(workers)] if workers and self.processes > 1 and self.kills % 2 else None
        for number in one or [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()  # torchrun ends the others where one has died
        return time.perf_counter() - start, True


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False).stdout.split()
    return [int(number) for number in found]


def descendants(process: int) -> list[int]:
    """Children, their children and so on."""
    return [number for child in children(process) for number in (child, *descendants(child))]


def stage_in_work(out: Path) -> str:
    """The stage that a killed run was in."""
    begun = [path.parent.name for path in out.glob("*/started.json")]
    return begun[-1] if begun else "between stages"


if __name__ == "__main__":
    main()
