"""The model in the middle of its training, as folders of their own: every so many tokens, and at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from headwater.artifacts import atomic_folder
from headwater.model import Decoder
from headwater.train.disk import when_it_fits
from headwater.train.metrics import Rows
from headwater.train.processes import agree, is_leader
from headwater.train.settings import TrainerSettings

Snapshot = Callable[[Decoder, Path], None]
"""Writes a model's folder."""
LOG = "snapshots.jsonl"


def folder_of(out: Path, tokens: int) -> Path:
    """The snapshot of a stage's model after so many tokens."""
    return out / "snapshots" / f"tokens-{tokens:014d}"


class Snapshots:
    """`snapshots/tokens-N` of a stage, N the tokens read until then, and `snapshots.jsonl` with a row for each.

    Where they are taken follows from the tokens alone, so a run that goes on takes the same ones. One that has its row
    is not written again, also where its folder is gone: whoever has evaluated it may have deleted it.
    """

    def __init__(self, out: Path, settings: TrainerSettings, steps: int, write: Snapshot | None) -> None:
        self.out, self.write, self.steps = out, write, steps
        self.every, self.batch = settings.snapshot_tokens, settings.rows * settings.sequence_length
        self.log = Rows(out / LOG)
        if is_leader() and self.log.path.exists():
            self.log.cut(sys.maxsize)  # a kill may have torn the last row

    @property
    def taken(self) -> bool:
        """Whether there are any."""
        return bool(self.every) and self.write is not None

    def due(self, step: int) -> bool:
        """Whether the model is to be written after so many steps; every process is told the same."""
        crossed = self.taken and step * self.batch // self.every != (step - 1) * self.batch // self.every
        if not (crossed or (self.taken and step == self.steps)):
            return False
        return bool(agree(is_leader() and all(row["step"] != step for row in self.log.read())))

    def keep(self, step: int, model: Decoder, began: float) -> None:
        """Write the model's folder, whole or not at all, then its row. A full disk makes it wait.

        began: when training came to stand still for it, by `time.perf_counter`.
        """
        write, tokens = self.write, step * self.batch
        assert write is not None
        path = folder_of(self.out, tokens)

        def whole() -> None:
            with atomic_folder(path) as staging:
                write(model, staging)

        when_it_fits(whole, self.out, sum(one.nbytes for one in model.parameters()), "a snapshot")
        self.log.add({"step": step, "tokens": tokens, "seconds": round(time.perf_counter() - began, 4)})

    def figures(self) -> dict[str, float]:
        """How long training stood still for all of them, in all its attempts."""
        return {"snapshot_seconds": sum(row["seconds"] for row in self.log.read())} if self.taken else {}
