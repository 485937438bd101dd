"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from headwater import hardware, plan
from headwater.artifacts import atomic_folder, read_json, sweep_temporaries, write_json
from headwater.errors import HeadwaterError, InputError
from headwater.model import Decoder, ModelConfig
from headwater.model.native.build import library
from headwater.model.tensors import write_tensors
from headwater.progress import Bar, bar, say
from headwater.settings import Settings
from headwater.train import tensor_parallel
from headwater.train.batches import IGNORE, Batch, Batches
from headwater.train.metrics import Meter, Rows, Watch, figures, runs
from headwater.train.objective import Objective, Outcome, Task
from headwater.train.optimizer import Optimizer, OptimizerSettings, learning_rate, shrink_gradient
from headwater.train.parallel import Parallel, ParallelSettings
from headwater.train.parts import fill, whole_tensors, working_copy
from headwater.train.processes import agree, is_leader, leader_first, local_ranks, ranks
from headwater.train.recompute import Recompute, recompute
from headwater.train.state import WEIGHT, Checkpoints, DiskFull

Validate = Callable[[Decoder], dict[str, float]]
Snapshot = Callable[[Decoder, Path], None]
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
    """Packed rows in a batch, over all processes."""
    micro_rows: int | None = Field(default=None, gt=0)
    """Rows that a process computes at once; gradients are added up over the batch. None: all of its own."""
    sequence_length: int = Field(default=256, gt=1)
    """Tokens in a row."""
    optimizer: OptimizerSettings = OptimizerSettings()
    parallel: ParallelSettings = ParallelSettings()
    recompute: Recompute = "none"
    """Activation checkpointing: compute again in the backward pass nothing, what is cheap (selective), or all."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where its measured matrix products are clearly faster. Weights and moments stay float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: where a compiler exists and the run is long enough for it to pay."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    """CPU threads of a process; 0 means all cores, shared by the processes of a machine."""
    log_every: int = Field(default=10, gt=0)
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations; 0 means only at the end."""
    checkpoint_seconds: float = Field(default=20.0, gt=0)
    """A kill loses at most this much work."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """The newest so many stay; the one before the last is used where the last is damaged."""
    snapshot_tokens: int = Field(default=0, ge=0)
    """Write the model as a folder of its own every so many tokens, for the study of training; 0 means never."""
    on_bad_step: Literal["stop", "skip"] = "stop"
    """When a loss is not finite or a spike: stop, or go on without that batch. The batch is kept either way."""
    spike_deviations: float = Field(default=0.0, ge=0)
    """A loss so many standard deviations above those of the last hundred steps is a spike; 0: none is."""
    record_places: bool = True
    """Write down which tokens every step read, as ranges of the data's stream."""

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


def planned(settings: TrainerSettings, ranks: int, *, half: bool, compiled: bool) -> plan.Step:
    """A step of so many processes as the planner sees it."""
    own = max(1, settings.rows * settings.parallel.tensor // ranks)
    rows = min(own, settings.micro_rows or own)
    parallel = settings.parallel
    return plan.Step(rows, settings.sequence_length, half, compiled, settings.recompute, settings.optimizer.name,
                     rows < own, ranks, parallel.zero, parallel.tensor, parallel.replicas,
                     "cuda" if settings.training_device() == "cuda" else "cpu")


def require_memory(config: ModelConfig, settings: TrainerSettings) -> None:
    """Refuse at once what cannot fit, by the most favourable estimate. Raises `InputError`."""
    device = settings.training_device()
    step = planned(settings, ranks(), half=settings.precision != "float32", compiled=settings.compile != "off")
    needed = plan.training_memory(config, step).total
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
    are kept in the stage's folder. Under `torchrun` several processes share the work; another number of them may go
    on from a checkpoint, and reads on where the others stopped.
    """

    def __init__(self, model: Decoder, objective: Objective, batches: Batches, settings: TrainerSettings,
                 validate: Validate | None = None, snapshot: Snapshot | None = None) -> None:
        self.model, self.objective, self.batches = model, objective, batches
        self.settings, self.validate, self.snapshot = settings, validate, snapshot
        epochs = settings.epochs or 0.0
        self.steps = settings.steps or max(1, round(epochs * batches.batches_per_epoch))
        self.device = settings.training_device()
        self.parallel = Parallel(settings.parallel, self.device)
        self.rows = _rows_of_one(settings, self.parallel)

    def fit(self, out: Path) -> dict[str, float]:
        """Train to the last step; writes logs, checkpoints and snapshots below `out`. Returns the stage's figures.

        The model holds no weights until then, and the trained ones after. Raises `HeadwaterError` for a bad step
        where the settings say to stop.
        """
        if is_leader():
            out.mkdir(parents=True, exist_ok=True)
            sweep_temporaries(out)
        before = hardware.memory_bytes() - sum(one.nbytes for one in self.model.parameters())
        self.prepare(self._choices(out / "machine.json"))
        checkpoints = Checkpoints(out / "checkpoints", self.parallel, self.settings.keep_checkpoints)
        facts = checkpoints.load(self._tensors()) or {"step": 0, "updates": 0, "recent": []}
        self.optimizer.restore(facts["updates"])
        self.watch = Watch(self.settings.spike_deviations, facts["recent"])
        logs = _Logs(out, facts["step"], self)
        if facts["step"] < self.steps:
            try:
                self._loop(out, facts["step"], checkpoints, logs)
            except BaseException:
                if self.parallel.ranks == 1:  # several may not have stopped at the same place
                    checkpoints.finish()
                raise
        fill(self.model, whole_tensors(self.task.model))
        self.model.to(self.device).eval()
        return {**figures(logs.metrics.read()), "parameters": float(plan.parameters(self.model.config)),
                **self._memory(before)}

    def _choices(self, path: Path) -> dict[str, Any]:
        """Device, threads, precision and compilation: measured once, then kept, so that a resumed run keeps them."""
        found: dict[str, Any] | None = None
        if is_leader():
            found = dict(read_json(path)) if path.exists() else {}
            if found.get("processes") != local_ranks():
                found = {**self._measured(), **found, "processes": local_ranks(),
                         "threads": self.settings.threads or max(1, hardware.cores() // local_ranks())}
                write_json(path, found)
            if found["kernels"] != _kernels():
                say(f"this run began with the {found['kernels']} kernels, here are the {_kernels()} ones: from now on "
                    "its last bits are others")
        agreed: dict[str, Any] = agree(found)
        return agreed

    def _measured(self) -> dict[str, Any]:
        settings, device = self.settings, self.device
        torch.set_num_threads(settings.threads or hardware.cores())
        precision = hardware.best_precision(device) if settings.precision == "auto" else settings.precision
        peak = hardware.matmul_peaks(device)[precision]
        seconds = self._flops_per_step() * self.steps / (EAGER_SHARE * peak)
        pays = hardware.has_compiler() and seconds > COMPILE_WORTH_SECONDS
        return {"device": device, "precision": precision, "matmul_flops": peak, "kernels": _kernels(),
                "compile": pays if settings.compile == "auto" else settings.compile == "on"}

    def _flops_per_step(self) -> float:
        length = self.settings.sequence_length
        return self.settings.rows * length * plan.flops_per_token(self.model.config, length)

    def _memory(self, before: int) -> dict[str, float]:
        """Predicted and measured memory of this process, in bytes; both are said."""
        config, step = self.model.config, planned(self.settings, self.parallel.ranks,
                                                  half=self.choices["precision"] == "bfloat16",
                                                  compiled=self.choices["compile"])
        predicted = max(plan.training_memory(config, step).total, plan.saving_memory(config, step).total)
        gpu = self.device == "cuda"
        measured = torch.cuda.max_memory_allocated() if gpu else hardware.peak_memory_bytes() - before
        if is_leader():
            beside = f"{plan.checkpoint_bytes(config, step) / 2**20:,.0f} more{' of the host' if gpu else ''}"
            say(f"memory: {predicted / 2**20:,.0f} MiB predicted ({beside} where a checkpoint is written beside a "
                f"step), {measured / 2**20:,.0f} MiB measured")
        return {"predicted_memory_bytes": float(predicted), "measured_memory_bytes": float(measured)}

    def prepare(self, choices: dict[str, Any]) -> None:
        """Bring the model into the form in which it is trained: in parts, split, compiled.

        choices: what was measured or set for this machine: device, threads, precision ("bfloat16" or "float32"),
        compile (a bool), and matmul_flops, the peak that speed is a share of.
        """
        self.choices = choices
        torch.set_num_threads(choices["threads"])
        parallel, settings = self.parallel, self.settings
        model = working_copy(self.model.to(self.device))
        if parallel.tensor_mesh is not None:
            tensor_parallel.check(model.config, settings.parallel.tensor)
            tensor_parallel.split(model, parallel.tensor_mesh)
        share = settings.optimizer.embedding_gradient
        if share < 1:
            model.embedding.register_forward_hook(lambda _, __, found: shrink_gradient(found, share))
        recompute(model, settings.recompute)
        if self.choices["compile"] and parallel.ranks > 1:
            for block in model.blocks:
                block.compile(dynamic=False)
        self.task = Task(model.train(), self.objective)
        parallel.shard(self.task, list(model.blocks), half=self.choices["precision"] == "bfloat16")
        if self.choices["compile"] and parallel.ranks == 1:
            model.hidden = torch.compile(model.hidden, dynamic=False)  # type: ignore[method-assign]
        self.optimizer = Optimizer(self.task, settings.optimizer, parallel.update())
        # Sums whose order varies between two runs (an embedding's gradient) are taken in a fixed one.
        torch.use_deterministic_algorithms(self.device == "cpu")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def _tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds."""
        return {**{f"{WEIGHT}{name}": one.detach() for name, one in self.task.named_parameters()},
                **self.optimizer.momenta}

    def _loop(self, out: Path, done: int, checkpoints: Checkpoints, logs: _Logs) -> None:
        self._introduce(done)
        saved = time.monotonic()
        with bar(out.name, self.steps, start=done) as shown, _Ahead(self, done) as ahead:
            for step in range(done, self.steps):
                batch = ahead.next()
                row = self._step(step, batch, out, logs)
                last = step + 1 == self.steps
                due = last or (self.settings.validate_every > 0 and (step + 1) % self.settings.validate_every == 0)
                if due:
                    row.update(self._validated())
                if due or (step + 1) % self.settings.log_every == 0:
                    logs.log(row, shown)
                self._snapshot(step, out)
                shown.advance()
                if agree(last or time.monotonic() - saved > self.settings.checkpoint_seconds):
                    self._save(checkpoints, step + 1)
                    saved = time.monotonic()
                    logs.meter.pause()
        self._finish(checkpoints, self.steps)

    def _introduce(self, done: int) -> None:
        if not is_leader():
            return
        choices, ranks = self.choices, self.parallel.ranks
        shared = f", {ranks} processes (zero {self.settings.parallel.zero}, tensor {self.settings.parallel.tensor})"
        say(f"{choices['device']}, {choices['threads']} threads{shared if ranks > 1 else ''}, {choices['precision']}, "
            f"{'compiled' if choices['compile'] else 'not compiled'}, "
            f"{plan.parameters(self.model.config) / 1e6:.2f} M parameters" + (f", from step {done}" if done else ""))

    def _save(self, checkpoints: Checkpoints, step: int) -> None:
        facts = {"updates": self.optimizer.updates, "recent": list(self.watch.recent)}
        try:
            checkpoints.save(step, self._tensors(), facts)
        except DiskFull:  # met by the one before, which was being written: this one waits for space
            checkpoints.save(step, self._tensors(), facts)

    def _finish(self, checkpoints: Checkpoints, step: int) -> None:
        try:
            checkpoints.finish()
        except DiskFull:
            self._save(checkpoints, step)
            self._finish(checkpoints, step)

    def _step(self, step: int, batch: Batch, out: Path, logs: _Logs) -> dict[str, Any]:
        rate = learning_rate(self.settings.optimizer, step, self.steps)
        targets = int(self.parallel.sum((batch.targets != IGNORE).sum()))
        outcome = self.backward(batch, max(1, targets))
        sums = {name: float(value) / max(1, targets) for name, value in outcome.sums.items()}
        loss = float(outcome.loss)
        parameters = list(self.task.parameters())
        norm = self.parallel.gradient_norm(parameters)
        wrong = self.watch.wrong(loss, float(norm))
        logs.saw(step, batch, skipped=wrong)
        if wrong is None:
            self.parallel.clip(parameters, norm, self.settings.optimizer.clip)
            self.optimizer.step(rate)
        else:
            self._went_wrong(step, wrong, batch, out)
        logs.meter.tick(targets, self.settings.rows * self.settings.sequence_length)
        return {"step": step + 1, "loss": loss, "lr": rate, "grad_norm": float(norm), **sums}

    def backward(self, batch: Batch, divisor: float) -> Outcome:
        """Gradients of the whole batch, of which this process has these rows; the outcome, summed over all.

        divisor: targets in the whole batch.
        """
        parts, found = batch.split(self.rows), []
        for number, part in enumerate(parts):
            self.parallel.synchronise(self.task, number + 1 == len(parts))
            with self._precision():
                outcome = self.task(self.objective, part.to(self.device), divisor)
            outcome.loss.backward()
            found.append(torch.stack([outcome.loss.detach(), *outcome.sums.values()]))
        total = self.parallel.sum(torch.stack(found).sum(0))
        return Outcome(total[0], dict(zip(outcome.sums, total[1:].unbind())))

    def _went_wrong(self, step: int, wrong: str, batch: Batch, out: Path) -> None:
        """Keep the batch and go on without it, or raise `HeadwaterError`."""
        self.optimizer.forget()
        path = out / "bad-steps" / f"step-{step + 1:08d}-rank-{self.parallel.data_rank}.safetensors"
        write_tensors(path, batch._asdict())
        if self.settings.on_bad_step == "stop":
            raise HeadwaterError(f"{wrong} at step {step + 1}", where="training",
                                 fix=f"lower the learning rate, or set trainer.on_bad_step=skip to go on without this "
                                 f"batch; it is kept in {path.parent}")
        if is_leader():
            say(f"step {step + 1} skipped: {wrong}; its batch is kept in {path.parent}")

    def _validated(self) -> dict[str, float]:
        if self.validate is None:
            return {}
        # Rows of many shapes come here, each of which a compiled model would be compiled for.
        with self._precision(), torch.compiler.set_stance("force_eager"):
            return {f"validation.{name}": value for name, value in self.task(self.validate).items()}

    def _snapshot(self, step: int, out: Path) -> None:
        every, batch = self.settings.snapshot_tokens, self.settings.rows * self.settings.sequence_length
        if not every or self.snapshot is None or (step + 1) * batch // every == step * batch // every:
            return
        tensors = whole_tensors(self.task.model)
        path = out / "snapshots" / f"tokens-{(step + 1) * batch:014d}"
        if is_leader() and not path.exists():
            with torch.device("meta"):
                whole = Decoder(self.model.config)
            fill(whole, tensors)
            whole.positions.table = self.task.model.positions.table
            with atomic_folder(path) as staging:
                self.snapshot(whole.eval(), staging)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.choices["precision"] == "bfloat16")


def _kernels() -> str:
    """Whose code attention and loss run on a processor: ours, compiled here, or PyTorch's."""
    return "PyTorch" if library("attention") is None or library("softmax") is None else "compiled"


def _rows_of_one(settings: TrainerSettings, parallel: Parallel) -> int:
    """Rows that a process computes at once. Raises `InputError` where the batch cannot be shared evenly."""
    own, rest = divmod(settings.rows, parallel.data_ranks)
    if rest:
        raise InputError(f"{settings.rows} rows cannot be shared by {parallel.data_ranks} processes",
                         where="trainer.rows", fix="set it to a multiple of their number")
    rows = min(own, settings.micro_rows or own)
    if own % rows:
        raise InputError(f"{own} rows of a process cannot be read {rows} at a time", where="trainer.micro_rows",
                         fix=f"set it to a divisor of {own}")
    return rows


class _Ahead:
    """The next batch, made in a thread while the one before is computed."""

    def __init__(self, trainer: Trainer, first: int) -> None:
        self.batches, self.parallel, self.steps, self.step = trainer.batches, trainer.parallel, trainer.steps, first

    def __enter__(self) -> _Ahead:
        self.thread = ThreadPoolExecutor(1)
        self.coming = self.thread.submit(self._read, self.step)
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(cancel_futures=True)

    def _read(self, step: int) -> Batch:
        if self.parallel.data_ranks == 1:
            return self.batches.batch(step)
        return self.batches.batch(step, self.parallel.data_rank, self.parallel.data_ranks)

    def next(self) -> Batch:
        found = self.coming.result()
        self.step += 1
        if self.step < self.steps:
            self.coming = self.thread.submit(self._read, self.step)
        return found


class _Logs:
    """The files that a process of a run writes line by line."""

    def __init__(self, out: Path, done: int, trainer: Trainer) -> None:
        self.settings, self.parallel = trainer.settings, trainer.parallel
        self.meter = Meter(trainer._flops_per_step(), trainer.choices["matmul_flops"] * self.parallel.ranks)
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
