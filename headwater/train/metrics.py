"""What a run writes down as it goes: losses and speed, which tokens were read, which steps went wrong."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch

from headwater.artifacts import read_jsonl, write_jsonl
from headwater.errors import InputError
from headwater.train.disk import when_it_fits

RECENT = 100
"""Losses that a spike is judged by."""


class Meter:
    """Throughput over the steps since it was last read; time spent outside of steps is left out by `pause`."""

    def __init__(self, flops_per_step: float, peak: float) -> None:
        self.flops_per_step, self.peak = flops_per_step, peak
        self.seconds, self.steps, self.tokens, self.targets = 0.0, 0, 0, 0
        self.last = time.perf_counter()

    def tick(self, targets: int, tokens: int) -> None:
        self.pause(count=True)
        self.steps, self.tokens, self.targets = self.steps + 1, self.tokens + tokens, self.targets + targets

    def pause(self, *, count: bool = False) -> None:
        now = time.perf_counter()
        self.seconds += now - self.last if count else 0.0
        self.last = now

    def read(self) -> dict[str, float]:
        """Tokens per second, share of tokens that carry loss, seconds per step, share of the matrix-product peak."""
        seconds, steps = max(self.seconds, 1e-9), max(1, self.steps)
        figures = {"tokens_per_second": self.tokens / seconds, "target_share": self.targets / max(1, self.tokens),
                   "step_seconds": seconds / steps, "peak_share": self.flops_per_step * steps / seconds / self.peak}
        self.seconds, self.steps, self.tokens, self.targets = 0.0, 0, 0, 0
        return figures


class Rows:
    """A JSON-lines file with a row for some steps; rows past the checkpoint that a run resumes from are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut(self, done: int) -> None:
        """Keep the rows of the first `done` steps."""
        kept = [row for row in self.read() if row["step"] <= done] if done and self.path.exists() else []
        write_jsonl(self.path, kept)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; while the disk is full, wait. A part of a line that did reach it is taken back."""
        size = self.path.stat().st_size if self.path.exists() else 0

        def write() -> None:
            try:
                with open(self.path, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
            except OSError:
                if self.path.exists():
                    os.truncate(self.path, size)
                raise

        when_it_fits(write, self.path.parent, 1 << 20, "a line of the log")

    def read(self) -> list[dict[str, Any]]:
        return _whole_rows(self.path)


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows before the first that cannot be read: a kill may have torn the last one, past the checkpoint."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(InputError):
        for row in read_jsonl(path):
            rows.append(row)
    return rows


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The last row's loss and validation, and the median throughput."""
    if not rows:
        return {}
    last = rows[-1]
    medians = {name: statistics.median_high(row[name] for row in rows) for name in ("tokens_per_second", "peak_share")}
    return {"steps": last["step"], "loss": last["loss"], "tokens": last["tokens"], **medians,
            **{name: value for name, value in last.items() if name.startswith("validation.")}}


class Watch:
    """Recognises a step whose loss is not finite, or far above those before it."""

    def __init__(self, deviations: float, recent: list[float]) -> None:
        self.deviations, self.recent = deviations, deque(recent, RECENT)
        self.wrong_in_a_row = 0

    def wrong(self, loss: float, norm: float) -> str | None:
        """What is wrong with a step, None where nothing is; the loss is then one to judge later ones by."""
        found = self._wrong(loss, norm)
        self.wrong_in_a_row = 0 if found is None else self.wrong_in_a_row + 1
        if found is None:
            self.recent.append(loss)
        return found

    def _wrong(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        if self.deviations and len(self.recent) >= RECENT // 2:
            mean, deviation = statistics.fmean(self.recent), statistics.pstdev(self.recent)
            if loss > mean + self.deviations * deviation:
                return (f"the loss jumped to {loss:.4g}, more than {self.deviations:g} standard deviations above the "
                        f"{mean:.4g} of the steps before")
        return None


def runs(places: torch.Tensor) -> list[list[int]]:
    """Places in the stream, [..], as ranges [begin, end) in their order; places below 0 belong to no text."""
    flat = places.flatten()
    flat = flat[flat >= 0]
    if not len(flat):
        return []
    breaks = (flat[1:] != flat[:-1] + 1).nonzero()[:, 0] + 1
    begins = torch.cat([flat[:1], flat[breaks]])
    ends = torch.cat([flat[breaks - 1], flat[-1:]]) + 1
    return torch.stack([begins, ends], 1).tolist()
