"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headwater import hardware, plan
from headwater.artifacts import sweep_temporaries
from headwater.errors import HeadwaterError, InputError, Interrupted
from headwater.model import Decoder
from headwater.model.tensors import write_tensors
from headwater.progress import bar, say
from headwater.train import memory, tensor_parallel
from headwater.train.batches import IGNORE, Batch, Batches, OnPolicy, read_ahead
from headwater.train.disk import when_it_fits
from headwater.train.gathering import hand_out, whole_again, whole_tensors
from headwater.train.logs import Logs
from headwater.train.machine import Machine, choose
from headwater.train.metrics import Meter, Watch, figures
from headwater.train.objective import Networks, Objective, Outcome, Task
from headwater.train.optimizer import Optimizer, learning_rate, shrink_gradient
from headwater.train.parallel import Parallel
from headwater.train.parts import fill, give_away, kept, shape_of, skeleton, take_back, working_copy
from headwater.train.processes import agree, is_leader
from headwater.train.recompute import recompute
from headwater.train.settings import TrainerSettings
from headwater.train.snapshots import Snapshot, Snapshots
from headwater.train.state import WEIGHT, Checkpoints, DiskFull
from headwater.train.stopping import stops_between_steps

Validate = Callable[[Decoder], dict[str, float]]
GATHERED_BYTES = 1 << 24
"""Where weights are gathered from several processes, blocks from here on are given back after use: in one heap the
holes that they leave cost up to 45 % more memory, and save no time."""
MOST_SKIPPED = 20
"""Bad steps in a row after which a run that skips them stops all the same."""


class Trainer:
    """Trains a decoder on batches by an objective; resumes exactly.

    A run that was killed and started again gives the same losses and weights, bit for bit on a CPU, as one that was
    not: batches are a function of the step (or keep what the model itself made), and the choices made from measurements
    (precision, compilation, threads) are kept in the stage's folder. Under `torchrun` several processes share the work;
    another number of them may go on from a checkpoint, and reads on where the others stopped.
    """

    def __init__(self, model: Decoder, objective: Objective, batches: Batches, settings: TrainerSettings,
                 validate: Validate | None = None, snapshot: Snapshot | None = None,
                 frozen: memory.Frozen | None = None, beside: memory.Beside = memory.ALONE) -> None:
        """frozen: what of the model does not learn, and beside: what is held with it, for the prediction of memory."""
        self.frozen, self.beside = frozen, beside
        self.model, self.objective, self.batches = model, objective, batches
        self.settings, self.validate, self.snapshot = settings, validate, snapshot
        epochs = settings.epochs or 0.0
        self.steps = settings.steps or max(1, round(epochs * batches.batches_per_epoch))
        self.device = settings.training_device()
        self.parallel = Parallel(settings.parallel, self.device)
        self.rows = _rows_of_one(settings, self.parallel)

    def fit(self, out: Path) -> dict[str, float]:
        """Train to the last step; writes logs, checkpoints and snapshots below `out`. Returns the stage's figures.

        The model holds no weights until then, and the trained ones after; of several processes the leader's alone.
        Raises `HeadwaterError` for a bad step where the settings say to stop, and `Interrupted` behind the step at
        which one process was told to end, its checkpoint written.
        """
        deterministic = torch.are_deterministic_algorithms_enabled()
        try:
            return self._fit(out)
        finally:
            torch.use_deterministic_algorithms(deterministic)
            hardware.give_back_memory()

    def _fit(self, out: Path) -> dict[str, float]:
        if is_leader():
            out.mkdir(parents=True, exist_ok=True)
            sweep_temporaries(out)
        self._before = memory.begin(self.model)
        self.prepare(choose(out / "machine.json", self.settings, self._flops_per_step() * self.steps))
        checkpoints = Checkpoints(out / "checkpoints", self.parallel, self.settings.keep_checkpoints)
        facts = checkpoints.load(self._tensors()) or {"step": 0, "updates": 0, "recent": [], "memory": []}
        self._earlier = [memory.Used(*facts["memory"])] if facts["memory"] else []
        self.optimizer.restore(facts["updates"], facts.get("behind", {}))
        self.watch = Watch(self.settings.spike_deviations, facts["recent"])
        meter = Meter(self._flops_per_step(), self.machine.matmul_flops * self.parallel.ranks)
        logs = Logs(out, facts["step"], self.settings, self.parallel, meter)
        self.snapshots = Snapshots(out, self.settings, self.steps, self.snapshot)
        if facts["step"] < self.steps:
            try:
                self._loop(out, facts["step"], checkpoints, logs)
            except BaseException:
                if self.parallel.ranks == 1:  # several may not have stopped at the same place
                    checkpoints.finish()
                raise
        take_back(self.model, whole_tensors(self.task.model, self.parallel))
        if isinstance(self.objective, nn.Module):
            whole_again(self.objective, self.parallel)
        self.model.eval()
        del self.task, self.optimizer
        found = figures(logs.metrics.read())
        say("trained: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()
                                    if name in ("steps", "loss") or name.startswith("validation.")))
        return {**found, "parameters": float(plan.parameters(self.model.config)), "trained_parameters": self.trained,
                **self.snapshots.figures(), **memory.told(self._memory(checkpoints), self.device)}

    def _memory(self, checkpoints: Checkpoints) -> memory.Used:
        """Of the attempt that took most, up to now."""
        now = memory.used(self.model.config, self.settings, self.machine, self._before, saved=checkpoints.beside,
                          frozen=self.frozen, beside=self.beside)
        return max([now, *self._earlier])

    def _flops_per_step(self) -> float:
        length, frozen = self.settings.sequence_length, self.frozen is not None
        return self.settings.rows * length * plan.flops_per_token(self.model.config, length, frozen=frozen)

    def prepare(self, machine: Machine) -> None:
        """Bring the model into the form in which this machine trains it: in parts, split, compiled."""
        self.machine = machine
        hardware.keep_freed_memory(None if self.parallel.ranks == 1 else GATHERED_BYTES)
        torch.set_num_threads(machine.threads)
        parallel, settings = self.parallel, self.settings
        shared = parallel.ranks > 1
        model = skeleton(self.model) if shared else working_copy(
            self.model.to(self.device), torch.bfloat16 if machine.half else torch.float32)
        if parallel.tensor_mesh is not None:
            tensor_parallel.check(model.config, settings.parallel.tensor)
            tensor_parallel.split(model, parallel.tensor_mesh)
        share = settings.optimizer.embedding_gradient
        if share < 1:
            model.embedding.register_forward_hook(lambda _, __, found: shrink_gradient(found, share))
        recompute(model, settings.recompute)
        if machine.compile and shared:
            for block in model.blocks:
                block.compile(dynamic=False)
        if isinstance(self.objective, nn.Module):
            self.objective.to(self.device)
        self.task = Task(model.train(), self.objective)
        self.trained = float(sum(one.numel() for one in self.task.parameters() if one.requires_grad))
        parallel.shard(self.task, list(model.blocks), half=machine.half)
        if shared:
            hand_out(give_away(self.model), model, parallel)
        if machine.compile and not shared:
            model.hidden = torch.compile(model.hidden, dynamic=False)  # type: ignore[method-assign]
        self.optimizer = Optimizer(self.task, settings.optimizer, parallel.update())
        # Sums whose order varies between two runs (an embedding's gradient) are taken in a fixed one.
        torch.use_deterministic_algorithms(self.device == "cpu")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def _tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds: what is not trained stays as it was given."""
        trained = ((name, one) for name, one in self.task.named_parameters() if one.requires_grad)
        return {**{f"{WEIGHT}{name}": one.detach() for name, one in trained}, **self.optimizer.momenta}

    def _loop(self, out: Path, done: int, checkpoints: Checkpoints, logs: Logs) -> None:
        self._introduce(done)
        saved = time.monotonic()
        steps = range(done, self.steps)
        with bar(out.name, self.steps, start=done) as shown, stops_between_steps() as stop, closing(
                self._batches(steps, logs)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                row = self._step(step, batch, out, logs)
                last = step + 1 == self.steps
                due = last or (self.settings.validate_every > 0 and (step + 1) % self.settings.validate_every == 0)
                if due:
                    row.update(self._validated())
                if due or (step + 1) % self.settings.log_every == 0:
                    logs.log(row, shown)
                self._snapshot(step)
                logs.meter.pause()
                shown.advance()
                asked = stop.asked
                if agree(last or asked or time.monotonic() - saved > self.settings.checkpoint_seconds):
                    self._save(checkpoints, step + 1, wait=last or asked)
                    saved = time.monotonic()
                    logs.meter.pause()
                if asked:
                    raise Interrupted(f"stopped; {step + 1:,} of {self.steps:,} steps are done and kept", where=out,
                                      fix="train into this folder again to go on")

    def _batches(self, steps: range, logs: Logs) -> Generator[Batch]:
        """This process's batches of these steps."""
        reader = self.parallel.data_rank, self.parallel.data_ranks
        if not isinstance(self.batches, OnPolicy):
            yield from read_ahead(self.batches, steps, *reader)
            return
        self.batches.begin(self)
        for step in steps:
            batch = self.batches.batch(step, *reader)
            logs.meter.pause()
            yield batch

    def _introduce(self, done: int) -> None:
        if not is_leader():
            return
        shared, parallel, size = "", self.settings.parallel, plan.parameters(self.model.config)
        if self.parallel.ranks > 1:
            shared = f"{self.parallel.ranks} processes (zero {parallel.zero}, tensor {parallel.tensor}), "
        say(f"{shared}{self.machine.words()}, {size / 1e6:.2f} M parameters"
            + (f", {self.trained / 1e6:.2f} M of them trained" if self.trained < size else "")
            + (f", from step {done}" if done else ""))
        if self.settings.optimizer.warmup_steps >= self.steps:
            say(f"the learning rate warms up over {self.settings.optimizer.warmup_steps:,} steps, the run has "
                f"{self.steps:,}: it never reaches its peak")

    def _save(self, checkpoints: Checkpoints, step: int, *, wait: bool) -> None:
        """wait: until it is there; else it is written beside training."""
        facts = {"updates": self.optimizer.updates, "behind": dict(self.optimizer.behind),
                 "recent": list(self.watch.recent), "memory": self._memory(checkpoints)}
        if step == self.steps:
            hardware.trim_heap()  # no step needs it again
        while True:
            try:
                return checkpoints.save(step, self._tensors(), facts, wait=wait)
            except DiskFull:  # met by this one, or by the one before while it was being written
                continue

    def _step(self, step: int, batch: Batch, out: Path, logs: Logs) -> dict[str, Any]:
        rate = learning_rate(self.settings.optimizer, step, self.steps)
        targets = int(self.parallel.sum((batch.targets != IGNORE).sum()))
        outcome = self.backward(batch, max(1, targets))
        sums = {name: float(value) / max(1, targets) for name, value in outcome.sums.items()}
        loss = float(outcome.loss)
        networks = self._networks()
        norms = [self.parallel.gradient_norm(parameters) for parameters in networks]
        norm = math.hypot(*map(float, norms))
        wrong = self.watch.wrong(loss, norm)
        logs.saw(step, batch, skipped=wrong)
        if wrong is None:
            for parameters, own in zip(networks, norms, strict=True):
                self.parallel.clip(parameters, own, self.settings.optimizer.clip)
            self.optimizer.step(rate)
        else:
            self._went_wrong(step, wrong, batch, out)
        logs.meter.tick(targets, batch.tokens.numel() * self.parallel.data_ranks)
        return {"step": step + 1, "loss": loss, "lr": rate, "grad_norm": norm, **sums}

    def _networks(self) -> list[list[nn.Parameter]]:
        """What learns, by the networks whose gradients are clipped together."""
        found: dict[str, list[nn.Parameter]] = {}
        for name, one in self.task.named_parameters():
            if one.requires_grad:
                network = self.objective.network(name) if isinstance(self.objective, Networks) else ""
                found.setdefault(network, []).append(one)
        return list(found.values())

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
        when_it_fits(partial(write_tensors, path, batch._asdict()), out, 1 << 20, "a batch that went wrong")
        if self.settings.on_bad_step == "stop":
            raise HeadwaterError(f"{wrong} at step {step + 1}", where="training",
                                 fix="set trainer.on_bad_step=skip to go on from the last checkpoint without this "
                                 f"batch, which is kept in {path.parent}; or begin anew with a lower learning rate")
        if self.watch.wrong_in_a_row >= MOST_SKIPPED:
            raise HeadwaterError(f"{MOST_SKIPPED} steps in a row were skipped, the last because {wrong}",
                                 where="training", fix="the run is lost, not a batch: begin anew with a lower learning "
                                 "rate or a longer warm-up")
        if is_leader():
            say(f"step {step + 1} skipped: {wrong}; its batch is kept in {path.parent}")

    def _validated(self) -> dict[str, float]:
        if self.validate is None:
            return {}
        # Rows of many shapes come here, each of which a compiled model would be compiled for.
        with self._precision(), torch.compiler.set_stance("force_eager"):
            return {f"validation.{name}": value for name, value in self.task(self.validate).items()}

    @torch.no_grad()
    def ask(self, ask: Any, *arguments: Any) -> Any:
        """ask(model, *arguments), computed as in a step, without gradients."""
        with self._precision():
            return self.task(ask, *arguments)

    def whole(self) -> Decoder:
        """The model as it is now, to generate with, of one process; what it does not train in parts is its own."""
        return self._filled(whole_tensors(self.task.model, self.parallel))

    def _filled(self, tensors: dict[str, Tensor]) -> Decoder:
        """Another decoder with these weights, and those that do not learn."""
        found = shape_of(self.model).eval()
        fill(found, {**tensors, **kept(self.model)})
        return found

    def _snapshot(self, step: int) -> None:
        began = time.perf_counter()
        if self.snapshots.due(step + 1):
            tensors = whole_tensors(self.task.model, self.parallel)
            if is_leader():
                self.snapshots.keep(step + 1, self._filled(tensors), began)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.machine.half)


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
