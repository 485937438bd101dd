"""The memory of a run: predicted, refused where it cannot fit, and measured beside the prediction."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from headwater import hardware, plan
from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig
from headwater.progress import say
from headwater.train.machine import Machine
from headwater.train.processes import is_leader, local_ranks, ranks
from headwater.train.settings import TrainerSettings

_libraries_loaded = False


def planned(settings: TrainerSettings, ranks: int, *, half: bool, compiled: bool) -> plan.Step:
    """A step of so many processes as the planner sees it."""
    parallel, rows = settings.parallel, settings.rows_at_once(ranks)
    return plan.Step(rows, settings.sequence_length, half, compiled, settings.recompute, settings.optimizer.name,
                     rows * parallel.readers(ranks) < settings.rows, ranks, parallel.zero, parallel.tensor,
                     parallel.replicas, "cuda" if settings.training_device() == "cuda" else "cpu")


class Frozen(NamedTuple):
    """A model that does not learn itself, and what learns beside it."""

    packed: Literal["int8", "int4", "nf4"] | None
    """The form of its matrices; floats in the products' type when None."""
    beside: plan.Trained

    def memory(self, config: ModelConfig, step: plan.Step) -> plan.Memory:
        return plan.finetuning_memory(config, step, self.packed or ("bfloat16" if step.half else "float32"),
                                      self.beside)


class Beside(NamedTuple):
    """What a run holds beside the model that it is given."""

    learning: tuple[ModelConfig, ...] = ()
    """Other models that learn with it, whole."""
    held: int = 0
    """Bytes that stay: models that judge, a cache."""

    def memory(self, step: plan.Step) -> int:
        """At a step's worst moment, taken for that of all; the libraries are there already."""
        return self.held + sum(plan.training_memory(one, step).total - plan.libraries(step) for one in self.learning)


ALONE = Beside()


def require_memory(config: ModelConfig, settings: TrainerSettings, frozen: Frozen | None = None,
                   beside: Beside = ALONE) -> None:
    """Refuse at once what cannot fit, by the most favourable estimate. Raises `InputError`."""
    device = settings.training_device()
    halves = {"float32": [False], "bfloat16": [True], "auto": [True, False]}[settings.precision]
    ways = {"on": [True], "off": [False], "auto": [True, False]}[settings.compile]
    memory = plan.training_memory if frozen is None else frozen.memory
    steps = [planned(settings, ranks(), half=half, compiled=compiled) for half in halves for compiled in ways]
    alone = min(memory(config, step).total + beside.memory(step) for step in steps)
    needed = alone * (local_ranks() if device == "cpu" else 1)
    available = hardware.total_memory_bytes(device)
    learned = 0 if frozen is None else frozen.beside.parameters(config)
    # weights, gradients and two moments in float32
    if needed > available and frozen is not None and 16 * learned > alone / 2:
        name = "lora.rank" if frozen.beside.rank else "prefix.length"
        raise InputError(f"what learns beside the model, {learned / 1e6:,.0f} M parameters, needs about "
                         f"{needed / 2**30:,.0f} GiB of memory; {device} has {available / 2**30:,.0f} GiB", where=name,
                         fix=f"lower {name}")
    if needed > available:
        raise InputError(f"training {plan.parameters(config) / 1e6:,.0f} M parameters on {settings.rows:,} rows of "
                         f"{settings.sequence_length:,} tokens needs about {needed / 2**30:,.0f} GiB of memory; "
                         f"{device} has {available / 2**30:,.0f} GiB", where="trainer",
                         fix="lower trainer.rows, trainer.sequence_length or the model's size" if frozen else
                         "lower trainer.rows, trainer.sequence_length or the model's size; a model that is tuned takes "
                         "less with method=lora or prefix, and with base=nf4")


def begin(model: Decoder) -> int:
    """Count the peak from now on. Returns the bytes that this process holds beside the model's weights."""
    weights = [one.detach() for one in (*model.parameters(), *model.buffers()) if not one.is_meta]
    for one in weights:
        one.flatten()[::1024].sum()  # those mapped from a file are read in: they count as held
    hardware.trim_heap()  # what was freed before would be taken again unseen
    hardware.forget_peak_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return hardware.memory_bytes() - sum(one.nbytes for one in weights)


class Used(NamedTuple):
    """Memory of one process, in bytes."""

    measured: float
    predicted: float
    checkpoints: float
    """What writing them beside the steps takes; 0 where none was."""


def used(config: ModelConfig, settings: TrainerSettings, machine: Machine, before: int, *,
         saved: bool, frozen: Frozen | None = None, beside: Beside = ALONE) -> Used:
    """What this process has taken so far, and what was to be expected.

    before: what `begin` returned. saved: whether a checkpoint was written beside the steps.
    """
    step = planned(settings, ranks(), half=machine.half, compiled=machine.compile)
    gpu = machine.device == "cuda"
    if frozen is None:
        written = plan.checkpoint_bytes(step, config, *beside.learning)
        predicted, steps = plan.peak_memory(config, step).total, plan.training_memory(config, step).total
    else:
        written = 12 * frozen.beside.parameters(config)
        predicted = steps = frozen.memory(config, step).total
    if saved and not gpu:
        predicted = max(predicted, steps + written)
    predicted += beside.memory(step)
    if _libraries_loaded and not gpu:  # by a training before in this process; what compiling takes comes again
        predicted -= plan.LIBRARIES[False]
    measured = torch.cuda.max_memory_allocated() if gpu else hardware.peak_memory_bytes() - before
    return Used(float(measured), float(predicted), float(written) if saved else 0.0)


def told(found: Used, device: str) -> dict[str, float]:
    """Predicted and measured memory at the end of a run, as figures; both are said."""
    global _libraries_loaded
    _libraries_loaded = True
    if is_leader():
        how = "more of the host" if device == "cuda" else "of it"
        of_it = f" ({found.checkpoints / 2**20:,.0f} {how} for checkpoints)" if found.checkpoints else ""
        say(f"memory: {found.predicted / 2**20:,.0f} MiB predicted{of_it}, {found.measured / 2**20:,.0f} MiB measured")
    return {"predicted_memory_bytes": found.predicted, "measured_memory_bytes": found.measured}
