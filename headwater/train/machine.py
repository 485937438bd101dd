"""What a run does on this machine by measurement: chosen once and kept, so that a resumed run keeps it until its user
or the number of processes says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from headwater import hardware
from headwater.artifacts import read_json, write_json
from headwater.model.native.build import library
from headwater.progress import say
from headwater.train.processes import agree, is_leader, local_ranks, ranks
from headwater.train.settings import TrainerSettings

COMPILE_WORTH_SECONDS = 120.0
"""`compile: auto` compiles when the run is expected to take longer than this without (see docs/decisions.md)."""
EAGER_SHARE = 0.35
"""Share of the machine's matrix-product peak that an uncompiled step reaches, for that expectation."""


class Machine(NamedTuple):
    """How a run uses the machine it is on."""

    device: str
    """"cpu" or "cuda"."""
    precision: str
    """Of matrix products: "bfloat16" or "float32"."""
    compile: bool
    threads: int
    """Of each process."""
    matmul_flops: float
    """The measured peak of one process that speed is a share of, in FLOP/s."""
    kernels: str = ""
    """Whose code attention and loss run: "compiled" for the project's own, or "PyTorch"."""

    @property
    def half(self) -> bool:
        return self.precision == "bfloat16"

    def words(self) -> str:
        compiled = "compiled" if self.compile else "not compiled"
        return f"{self.device}, {self.threads} threads, {self.precision}, {compiled}"


def choose(path: Path, settings: TrainerSettings, flops: float) -> Machine:
    """The choices of a run of so many FLOPs, from its file where it has begun; the same on every process."""
    found = _choose(path, settings, flops)._asdict() if is_leader() else None
    return Machine(**agree(found))


def _choose(path: Path, settings: TrainerSettings, flops: float) -> Machine:
    known: dict[str, Any] = dict(read_json(path)) if path.exists() else {}
    asked = {"device": settings.training_device(), "precision": settings.precision, "compile": settings.compile,
             "threads": settings.threads, "processes": local_ranks()}
    if known.get("asked") != asked:
        before = known.get("asked", {})
        kept: dict[str, Any] = {name: known[name] for name in ("precision", "compile", "kernels")
                if name in known and before.get(name) == asked.get(name)}
        if before:
            changed = [name for name in asked if before.get(name) != asked[name]]
            say(f"this run began with other {' and '.join(changed)}: from now on its numbers are rounded otherwise")
        known = {**_measured(settings, flops, kept.get("precision")), **kept, "asked": asked}
        write_json(path, known)
    if known["kernels"] != _kernels():
        say(f"this run began with the {known['kernels']} kernels, here are the {_kernels()} ones: from now on its last "
            "bits are others")
    return Machine(**{name: known[name] for name in Machine._fields})


def _measured(settings: TrainerSettings, flops: float, precision: str | None) -> dict[str, Any]:
    """precision: the one that stays, where the run has begun in it."""
    device = settings.training_device()
    if settings.threads > hardware.cores():
        say(f"trainer.threads is {settings.threads}, more than the {hardware.cores()} cores here: they will wait for "
            "each other")
    torch.set_num_threads(settings.threads or hardware.cores())
    if precision is None:
        precision = products(settings)
    peak = hardware.matmul_peaks(device)[precision] / (local_ranks() if device == "cpu" else 1)
    pays = hardware.has_compiler() and flops / (EAGER_SHARE * peak * ranks()) > COMPILE_WORTH_SECONDS
    return {"device": device, "precision": precision, "matmul_flops": peak, "kernels": _kernels(),
            "threads": settings.threads or max(1, hardware.cores() // local_ranks()),
            "compile": pays if settings.compile == "auto" else settings.compile == "on"}


def products(settings: TrainerSettings) -> str:
    """The type of a new run's matrix products here: "bfloat16" or "float32"."""
    if settings.precision != "auto":
        return settings.precision
    return hardware.best_precision(settings.training_device())


def _kernels() -> str:
    return "PyTorch" if None in map(library, ("attention", "softmax", "fused")) else "compiled"
