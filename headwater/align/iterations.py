"""What every iteration of PPO came to: what was made of its answers, and what was learned from them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from headwater.artifacts import read_json, write_jsonl
from headwater.train.metrics import Rows

LEARNED = ("policy_loss", "value_loss", "clip_share", "approx_kl", "ratio", "grad_norm")
"""Of a step's row, those whose mean over an iteration's steps is told."""


def write_iterations(out: Path, steps_each: int) -> list[dict[str, Any]]:
    """Write `iterations.jsonl` from the facts of the iterations so far and the logged steps; returns its rows."""
    learned: dict[int, list[dict[str, Any]]] = {}
    for row in Rows(out / "metrics.jsonl").read() if (out / "metrics.jsonl").exists() else []:
        learned.setdefault((row["step"] - 1) // steps_each + 1, []).append(row)
    rows = [_row(read_json(path), learned) for path in sorted((out / "rollouts").glob("[0-9]*.json"))]
    write_jsonl(out / "iterations.jsonl", rows)
    return rows


def _row(facts: dict[str, Any], learned: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    steps = learned.get(facts["iteration"], [])
    means = {name: fmean(row[name] for row in steps if name in row) for name in LEARNED
             if any(name in row for row in steps)}
    if steps:
        facts["seconds"]["updating"] = sum(row["step_seconds"] for row in steps)
    return {**facts, **means}
