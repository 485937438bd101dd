"""Benchmarks beside a stage that trains: the process that takes them, started with the stage and ended with it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.artifacts import hash_json, write_json
from headwater.errors import HeadwaterError
from headwater.progress import bar, say
from headwater.recipe.manifest import InputRecord
from headwater.recipe.stages import Stage
from headwater.settings import REFERENCE, Settings, path_settings

if TYPE_CHECKING:
    from headwater.evaluate.following import FollowSettings, Job

MESSAGES = "benchmarks.log"
NICENESS = 19
"""The lowest priority while there is training: that has every core that it wants."""
OF_TORCHRUN = re.compile(r"(GROUP_|ROLE_|LOCAL_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_.*")
"""Variables by which a process would take itself for one of those that train."""
LOOK_SECONDS = 0.2
END_SECONDS = 5.0


def check(stage: Stage, settings: Settings) -> None:
    """Raises `InputError` for benchmarks that cannot be asked, of those whose files no stage is still to write."""
    found = _asked(stage, settings)
    if found is not None and not any(REFERENCE.search(str(one.path)) for one in path_settings(found)):
        found.evaluate.check(f"{stage.name}.benchmarks.evaluate")


@contextmanager
def benchmarks(stage: Stage, settings: Settings, folder: Path, inputs: Mapping[str, InputRecord]
               ) -> Iterator[Evaluator | None]:
    """While the body trains into `folder`, its snapshots are evaluated; None where nothing is asked for.

    However the body ends, the process beside it ends too. Raises `InputError` for benchmarks that cannot be asked.
    """
    asked = _asked(stage, settings)
    if asked is None:
        yield None
        return
    asked.evaluate.check(f"{stage.name}.benchmarks.evaluate")
    with tempfile.TemporaryDirectory(prefix="headwater-", ignore_cleanup_errors=True) as work:
        evaluator = Evaluator(asked, folder, Path(work), _identity(asked, inputs))
        evaluator.start()
        try:
            yield evaluator
        finally:
            evaluator.end()


def _asked(stage: Stage, settings: Settings) -> FollowSettings | None:
    if not stage.benchmarked:
        return None
    from headwater.recipe.benchmarked import Benchmarked

    assert isinstance(settings, Benchmarked)
    return settings.benchmarks


def _identity(asked: FollowSettings, inputs: Mapping[str, InputRecord]) -> str:
    """Of what is measured, by the content of its files and not by their places."""
    contents = [[name, record.sha256] for name, record in sorted(inputs.items()) if name.startswith("benchmarks.")]
    paths = {str(one.path) for one in path_settings(asked)}

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {name: plain(inner) for name, inner in value.items()}
        return "" if isinstance(value, str) and value in paths else value

    return hash_json([plain(asked.evaluate.model_dump(mode="json")), contents])[:12]


class Evaluator:
    """The process that evaluates the snapshots of a stage. Its crash is said, and stops nothing."""

    def __init__(self, asked: FollowSettings, folder: Path, work: Path, identity: str) -> None:
        from headwater.evaluate.following import Job

        self.folder, self.job_file, self.threads = folder, work / "job.json", asked.threads
        self.job: Job = Job(folder=folder.absolute(), work=work, settings=asked, asked=identity)
        write_json(self.job_file, self.job.model_dump(mode="json"))
        if self.job.log.path.exists():
            self.job.log.cut(sys.maxsize)  # a kill may have torn the last row
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        package = str(Path(__file__).parents[2])
        kept = {name: value for name, value in os.environ.items() if not OF_TORCHRUN.fullmatch(name)}
        path = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH")]))
        environment = {**kept, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": path}
        with open(self.folder / MESSAGES, "ab") as messages:
            # A group of its own, so that Ctrl-C is the trainer's; no session of its own, in which some kernels would
            # weigh it as much as all of the training.
            self.process = subprocess.Popen([sys.executable, "-m", "headwater.evaluate.following", str(self.job_file)],
                                            stdin=subprocess.PIPE, stdout=messages, stderr=messages, env=environment,
                                            process_group=0)
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self.process.pid, NICENESS)
        threading.Thread(target=self._watch, args=(self.process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if code and self.process is process:
            say(f"the evaluation beside training ended ({self._why(code)}); training goes on, and what is missing is "
                f"evaluated at its end. {self.folder / MESSAGES} has its messages")

    def _why(self, code: int) -> str:
        lines = (self.folder / MESSAGES).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"signal {-code}" if code < 0 else lines[-1][:200] if lines else f"exit code {code}"

    def finish(self) -> dict[str, float]:
        """Wait until every snapshot is evaluated. Returns the last one's figures, as benchmarks.TASK.LANGUAGE.METRIC.

        Raises `HeadwaterError` where that fails once more after a crash.
        """
        from headwater.evaluate.following import figures

        crashed = self._wait()
        if crashed is not None:
            say("the evaluation is started again for what is missing")
            self.start()
            crashed = self._wait()
        if crashed is not None:
            raise HeadwaterError(f"snapshots could not be evaluated ({self._why(crashed)})",
                                 where=self.folder / MESSAGES, fix="correct what it says, then give the same command: "
                                 "the model is trained, they alone are missing; or leave benchmarks out")
        rows = sorted(self.job.evaluated(), key=lambda row: float(row["tokens"]))
        return {f"benchmarks.{name}": value for name, value in figures(rows[-1]).items()} if rows else {}

    def _wait(self) -> int | None:
        """The exit code of a process that failed."""
        process = self.process
        assert process is not None
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b".")
            process.stdin.flush()
        with contextlib.suppress(OSError):  # not everybody may raise it again
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0))
        pending, done = self.job.pending(), len(self.job.evaluated())
        if pending and process.poll() is None:
            say(f"trained; waiting for the benchmarks of {len(pending)} snapshots")
        with bar("snapshots evaluated", done + len(pending), start=done) as shown:
            while process.poll() is None:
                now = len(self.job.evaluated())
                shown.advance(now - done)
                done = now
                shown.note(" ".join(f"at {row['tokens']:,} tokens" for row in self.job.pending()[:1]))
                time.sleep(LOOK_SECONDS)
        return process.returncode or None

    def end(self) -> None:
        """Without waiting for what is not evaluated yet; the next start does that."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
