"""The one training loop."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from headwater import hardware, plan
from headwater.artifacts import read_json, read_jsonl, sweep_temporaries, write_json, write_jsonl
from headwater.errors import HeadwaterError, InputError
from headwater.model import Decoder, ModelConfig
from headwater.progress import Bar, bar, say
from headwater.settings import Settings
from headwater.train.batches import IGNORE, Batch, Batches
from headwater.train.objective import Objective
from headwater.train.optimizer import OptimizerSettings, learning_rate, make_optimizer
from headwater.train.state import load_state, save_state

Validate = Callable[[Decoder], dict[str, float]]
COMPILE_WORTH_SECONDS = 120.0
"""`compile: auto` compiles when the run is expected to take longer than this without (see docs/decisions.md)."""
EAGER_SHARE = 0.35
"""Share of the machine's matrix-product peak that an uncompiled step reaches, for that expectation."""


class TrainerSettings(Settings):
    """How any stage trains."""

    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps; give either these or epochs."""
    epochs: float | None = Field(default=None, gt=0)
    """Times the data is read."""
    rows: int = Field(default=16, gt=0)
    """Packed rows in a batch."""
    sequence_length: int = Field(default=256, gt=1)
    """Tokens in a row."""
    optimizer: OptimizerSettings = OptimizerSettings()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where its measured matrix products are clearly faster. Weights and moments stay float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: where a compiler exists and the run is long enough for it to pay."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 means all cores."""
    log_every: int = Field(default=10, gt=0)
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations; 0 means only at the end."""
    checkpoint_seconds: float = Field(default=20.0, gt=0)
    """A kill loses at most this much work."""

    @model_validator(mode="after")
    def _one_horizon(self) -> TrainerSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self

    def training_device(self) -> str:
        """What "auto" means on this machine. Raises `InputError` for a GPU that is not there."""
        gpu = torch.cuda.is_available()
        if self.device == "cuda" and not gpu:
            raise InputError("PyTorch finds no CUDA device", where="trainer.device", fix="set trainer.device=cpu")
        return self.device if self.device != "auto" else "cuda" if gpu else "cpu"


def require_memory(config: ModelConfig, settings: TrainerSettings) -> None:
    """Refuse at once what cannot fit, by the most favourable estimate. Raises `InputError`."""
    device = settings.training_device()
    needed = plan.training_bytes(config, settings.rows, settings.sequence_length, half=settings.precision != "float32")
    available = hardware.total_memory_bytes(device)
    if needed > available:
        raise InputError(f"training {plan.parameters(config) / 1e6:,.0f} M parameters on {settings.rows:,} rows of "
                         f"{settings.sequence_length:,} tokens needs about {needed / 2**30:,.0f} GiB of memory; "
                         f"{device} has {available / 2**30:,.0f} GiB", where="trainer",
                         fix="lower trainer.rows, trainer.sequence_length or the model's size")


class Trainer:
    """Trains a decoder on batches by an objective; resumes exactly.

    A run that was killed and started again gives the same losses and weights, bit for bit on a CPU, as one that was
    not: batches are a function of the step, and the choices made from measurements (precision, compilation, threads)
    are kept in the stage's folder.
    """

    def __init__(self, model: Decoder, objective: Objective, batches: Batches, settings: TrainerSettings,
                 validate: Validate | None = None) -> None:
        self.model, self.objective, self.batches = model, objective, batches
        self.settings, self.validate = settings, validate
        epochs = settings.epochs or 0.0
        self.steps = settings.steps or max(1, round(epochs * batches.batches_per_epoch))

    def fit(self, out: Path) -> dict[str, float]:
        """Train to the last step; writes `metrics.jsonl` and checkpoints below `out`. Returns the stage's figures.

        Raises `HeadwaterError` when the loss is no longer finite.
        """
        sweep_temporaries(out)
        before = hardware.memory_bytes()
        choices = self._choices(out / "machine.json")
        torch.set_num_threads(choices["threads"])
        self.model.to(choices["device"]).train()
        optimizer = make_optimizer(self.model, self.settings.optimizer)
        done = load_state(out / "checkpoints", self.model, optimizer)
        metrics = Metrics(out / "metrics.jsonl", done)
        if done < self.steps:
            self._loop(out, optimizer, done, choices, metrics)
        self.model.eval()
        return {**metrics.figures(), "parameters": float(plan.parameters(self.model.config)),
                "predicted_memory_bytes": float(self._predicted_bytes(choices)),
                "measured_memory_bytes": float(hardware.peak_memory_bytes() - before)}

    def _choices(self, path: Path) -> dict[str, Any]:
        """Device, threads, precision and compilation: measured once, then kept, so that a resumed run keeps them."""
        if path.exists():
            return dict(read_json(path))
        settings = self.settings
        device = settings.training_device()
        threads = settings.threads or hardware.cores()
        torch.set_num_threads(threads)
        precision = hardware.best_precision(device) if settings.precision == "auto" else settings.precision
        peak = hardware.matmul_peaks(device)[precision]
        seconds = self._flops_per_step() * self.steps / (EAGER_SHARE * peak)
        pays = hardware.has_compiler() and seconds > COMPILE_WORTH_SECONDS
        choices = {"device": device, "threads": threads, "precision": precision, "matmul_flops": peak,
                   "compile": pays if settings.compile == "auto" else settings.compile == "on"}
        write_json(path, choices)
        return choices

    def _flops_per_step(self) -> float:
        length = self.settings.sequence_length
        return self.settings.rows * length * plan.flops_per_token(self.model.config, length)

    def _predicted_bytes(self, choices: dict[str, Any]) -> int:
        return plan.training_bytes(self.model.config, self.settings.rows, self.settings.sequence_length,
                                   half=choices["precision"] == "bfloat16")

    def _loop(self, out: Path, optimizer: torch.optim.Optimizer, done: int, choices: dict[str, Any],
              metrics: Metrics) -> None:
        settings, loss_of = self.settings, self._loss_function(choices)
        say(f"{choices['device']}, {choices['threads']} threads, {choices['precision']}, "
            f"{'compiled' if choices['compile'] else 'not compiled'}, "
            f"{plan.parameters(self.model.config) / 1e6:.2f} M parameters" + (f", from step {done}" if done else ""))
        meter = Meter(self._flops_per_step(), choices["matmul_flops"])
        saved = time.monotonic()
        with bar(out.name, self.steps, start=done) as shown:
            for step in range(done, self.steps):
                row = self._step(step, optimizer, loss_of, choices["device"])
                meter.tick(int(row.pop("targets")), settings.rows * settings.sequence_length)
                last = step + 1 == self.steps
                due = last or (settings.validate_every > 0 and (step + 1) % settings.validate_every == 0)
                if due:
                    row.update(self._validated(choices))
                    meter.pause()
                if due or (step + 1) % settings.log_every == 0:
                    self._log(row, meter, metrics, shown)
                shown.advance()
                if last or time.monotonic() - saved > settings.checkpoint_seconds:
                    save_state(out / "checkpoints", step + 1, self.model, optimizer)
                    saved = time.monotonic()
                    meter.pause()

    def _loss_function(self, choices: dict[str, Any]) -> Objective:
        def loss_of(model: Decoder, batch: Batch) -> torch.Tensor:
            with _precision(choices):
                return self.objective(model, batch)

        # The compiled embedding gradient adds atomically, in an order that varies; this asks for the fixed one.
        torch.use_deterministic_algorithms(choices["device"] == "cpu")
        return torch.compile(loss_of, dynamic=False) if choices["compile"] else loss_of

    def _step(self, step: int, optimizer: torch.optim.Optimizer, loss_of: Objective, device: str) -> dict[str, float]:
        rate = learning_rate(self.settings.optimizer, step, self.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = self.batches.batch(step)
        targets = int((batch.targets != IGNORE).sum())
        loss = loss_of(self.model, batch.to(device))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.optimizer.clip)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise HeadwaterError(f"the loss is {value} at step {step + 1}", where="training",
                                 fix="lower the learning rate or the gradient clip, then run again")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"step": step + 1, "loss": value, "lr": rate, "grad_norm": float(norm), "targets": targets}

    def _validated(self, choices: dict[str, Any]) -> dict[str, float]:
        if self.validate is None:
            return {}
        with _precision(choices):
            return {f"validation.{name}": value for name, value in self.validate(self.model).items()}

    def _log(self, row: dict[str, float], meter: Meter, metrics: Metrics, shown: Bar) -> None:
        row.update(tokens=row["step"] * self.settings.rows * self.settings.sequence_length, **meter.read())
        metrics.add(row)
        shown.note(f"loss {row['loss']:.3f}, {row['tokens_per_second']:.0f} tok/s, "
                   f"{100 * row['peak_share']:.0f} % of matmul peak")


def _precision(choices: dict[str, Any]) -> torch.autocast:
    return torch.autocast(choices["device"], torch.bfloat16, enabled=choices["precision"] == "bfloat16")


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


def _whole_rows(path: Path) -> list[dict[str, float]]:
    """The rows before the first that cannot be read: a kill may have torn the last one, past the checkpoint."""
    rows: list[dict[str, float]] = []
    with contextlib.suppress(InputError):
        for row in read_jsonl(path):
            rows.append(row)
    return rows


class Metrics:
    """`metrics.jsonl`: a row per logged step; rows past the checkpoint a run resumes from are dropped."""

    def __init__(self, path: Path, done: int) -> None:
        self.path = path
        self.rows = [row for row in _whole_rows(path) if row["step"] <= done] if path.exists() and done else []
        write_jsonl(path, self.rows)

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def figures(self) -> dict[str, float]:
        """The last row's loss and validation, and the median throughput."""
        if not self.rows:
            return {}
        last = self.rows[-1]
        speeds = sorted(row["tokens_per_second"] for row in self.rows)
        shares = sorted(row["peak_share"] for row in self.rows)
        return {"steps": last["step"], "loss": last["loss"], "tokens": last["tokens"],
                "tokens_per_second": speeds[len(speeds) // 2], "peak_share": shares[len(shares) // 2],
                **{name: value for name, value in last.items() if name.startswith("validation.")}}
