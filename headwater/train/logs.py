"""The files that a process of a run writes line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headwater.progress import Bar
from headwater.train.batches import Batch
from headwater.train.metrics import Meter, Rows, runs
from headwater.train.parallel import Parallel
from headwater.train.processes import is_leader, leader_first
from headwater.train.settings import TrainerSettings


class Logs:
    """`metrics.jsonl`, which the leader writes, and this process's `places/rank-N.jsonl`; what is past the step that
    a run goes on from is dropped."""

    def __init__(self, out: Path, done: int, settings: TrainerSettings, parallel: Parallel, meter: Meter) -> None:
        self.settings, self.parallel, self.meter = settings, parallel, meter
        self.metrics, places = Rows(out / "metrics.jsonl"), out / "places"
        with leader_first():
            if is_leader():
                places.mkdir(exist_ok=True)
                self.metrics.cut(done)
                for path in places.glob("rank-*.jsonl"):  # of more processes than there are now, too
                    Rows(path).cut(done)
        self.places: Rows | None = None
        if self.settings.record_places and self.parallel.tensor_rank == 0:
            self.places = Rows(places / f"rank-{self.parallel.data_rank:05d}.jsonl")

    def saw(self, step: int, batch: Batch, skipped: str | None) -> None:
        """Note what a step read."""
        if self.places is not None:
            note = {"skipped": skipped} if skipped else {}
            self.places.add({"step": step + 1, "readers": self.parallel.data_ranks, "read": runs(batch.places), **note})

    def log(self, row: dict[str, Any], shown: Bar) -> None:
        row.update(tokens=row["step"] * self.settings.rows * self.settings.sequence_length, **self.meter.read())
        if is_leader():
            self.metrics.add(row)
        shown.note(f"loss {row['loss']:.3f}, {row['tokens_per_second']:.0f} tok/s, "
                   f"{100 * row['peak_share']:.0f} % of matmul peak")
