"""Benchmarks of a model while it is trained: every snapshot is evaluated beside the training, in their order.

    python -m headwater.evaluate.following JOB

It is a process of its own, that whoever trains starts and speaks with over standard input: a byte says that no more
snapshots will come, and its end that the other process is gone. JOB is a file that holds a `Job` as JSON.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from headwater.artifacts import read_json
from headwater.errors import HeadwaterError
from headwater.evaluate.stage import EvaluatedModel, EvaluateSettings, Measures
from headwater.evaluate.stage import run as evaluate
from headwater.generate.choice import Style
from headwater.progress import say
from headwater.settings import Settings
from headwater.train import snapshots
from headwater.train.metrics import Rows

LOG = "benchmarks.jsonl"
POLL_SECONDS = 0.5
MODEL = "snapshot"
"""What the one model of an evaluation is called."""


class SnapshotMeasures(Measures):
    """What is measured of a model in training."""

    style: Style = "plain"
    """plain: asked as text to continue. chat: through the chat template."""

    @model_validator(mode="after")
    def _measures_something(self) -> SnapshotMeasures:
        if not self.names:
            raise ValueError("nothing is measured: give corpus=DIR, or choice.NAME.LANGUAGE=DIR")
        if self.spoken and self.style == "plain":
            raise ValueError("spoken has no effect with style plain")
        return self


class FollowSettings(Settings):
    """What is measured of a model while it is trained, beside the training: of every snapshot that
    `trainer.snapshot_tokens` has written."""

    evaluate: SnapshotMeasures
    keep: Literal["all", "last", "none"] = "none"
    """The snapshots that stay when they have been evaluated."""
    threads: int = Field(default=1, gt=0, le=1024)
    """CPU threads of the evaluation; they get what training leaves."""


class Job(Settings):
    """What to evaluate, and where."""

    folder: Path
    """Of the stage that trains."""
    work: Path
    """For files that nobody needs afterwards."""
    settings: FollowSettings
    asked: str
    """Tells rows of these measures, on this data, from those of others."""

    @property
    def log(self) -> Rows:
        """Of the evaluated snapshots: step, tokens, seconds, what was asked, and figures by TASK.LANGUAGE.METRIC."""
        return Rows(self.folder / LOG)

    def evaluated(self) -> list[dict[str, Any]]:
        return [row for row in self.log.read() if row["asked"] == self.asked]

    def pending(self) -> list[dict[str, Any]]:
        """The snapshots that are still to be evaluated, in the order of their tokens."""
        done = {row["tokens"] for row in self.evaluated()}
        rows = Rows(self.folder / snapshots.LOG).read()
        return sorted((row for row in rows if row["tokens"] not in done and self.path(row).is_dir()),
                      key=lambda row: row["tokens"])

    def path(self, row: dict[str, Any]) -> Path:
        return snapshots.folder_of(self.folder, row["tokens"])


def figures(row: dict[str, Any]) -> dict[str, float]:
    """Those of a row of the log, by TASK.LANGUAGE.METRIC."""
    return {name: value for name, value in row.items() if "." in name}


def follow(job: Job, complete: threading.Event) -> None:
    """Evaluate snapshots as they appear, until there is none left behind `complete`."""
    while True:
        last = complete.is_set()  # asked before looking: what was written before is seen
        while pending := job.pending():
            job.log.add(_evaluated(job, pending[0]))
            _drop(job)
        _drop(job)
        if last:
            return
        complete.wait(POLL_SECONDS)


def _evaluated(job: Job, row: dict[str, Any]) -> dict[str, Any]:
    began, asked = time.monotonic(), job.settings.evaluate
    say(f"evaluating the model at {row['tokens']:,} tokens")
    measures = {name: getattr(asked, name) for name in Measures.model_fields}
    model = EvaluatedModel(path=job.path(row), style=asked.style)
    out = job.work / job.path(row).name
    out.mkdir(exist_ok=True)
    found = evaluate(EvaluateSettings(models={MODEL: model}, **measures), out)
    shutil.rmtree(out)
    return {"step": row["step"], "tokens": row["tokens"], "seconds": round(time.monotonic() - began, 3),
            "asked": job.asked, **{name.removeprefix(f"{MODEL}/"): value for name, value in found.items()}}


def _drop(job: Job) -> None:
    """Delete the evaluated snapshots that are not to be kept."""
    if job.settings.keep == "all":
        return
    done = sorted(row["tokens"] for row in job.evaluated())
    for tokens in done[:-1] if job.settings.keep == "last" else done:
        path = snapshots.folder_of(job.folder, tokens)
        if path.is_dir():
            dropped = path.with_name(f".{path.name}.dropped.tmp")
            os.replace(path, dropped)  # half of a model is never seen
            shutil.rmtree(dropped, ignore_errors=True)


def _listen(complete: threading.Event) -> None:
    if os.read(0, 1):
        complete.set()
        os.read(0, 1)
    say("the process that trains is gone: the evaluation ends")
    os._exit(1)


def main(path: Path) -> None:
    """Evaluate what the file says. The process ends here, with 0 where all is evaluated; else the last line that it has
    written says why."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
        stream.write("1000")  # where memory ends, this process does and not the training
    job = Job.parse(read_json(path), where=path)
    complete = threading.Event()
    threading.Thread(target=_listen, args=(complete,), daemon=True).start()
    code = 0
    try:
        follow(job, complete)
    except HeadwaterError as error:
        say(" ".join(str(error).split()))
        code = error.exit_code
    sys.stderr.flush()
    os._exit(code)  # the listener waits in the system, native threads may be at work


if __name__ == "__main__":
    main(Path(sys.argv[1]))
