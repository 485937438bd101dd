"""How any stage trains, as its user says it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from headwater import hardware
from headwater.errors import InputError
from headwater.settings import Change, Settings
from headwater.train.optimizer import OptimizerSettings
from headwater.train.parallel import ParallelSettings
from headwater.train.recompute import Recompute


class TrainerSettings(Settings):
    """How any stage trains."""

    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps; give either these or epochs."""
    epochs: float | None = Field(default=None, gt=0)
    """Times the data is read."""
    rows: int = Field(default=16, gt=0)
    """Packed rows in a batch, over all processes."""
    micro_rows: Annotated[int | None, Change.HOW] = Field(default=None, gt=0)
    """Rows that a process computes at once; gradients are added up over the batch. None: all of its own."""
    sequence_length: int = Field(default=256, gt=1)
    """Tokens in a row."""
    optimizer: OptimizerSettings = OptimizerSettings()
    parallel: Annotated[ParallelSettings, Change.HOW] = ParallelSettings()
    recompute: Annotated[Recompute, Change.HOW] = "none"
    """Activation checkpointing: compute again in the backward pass nothing, what is cheap (selective), or all."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Change.MIDWAY] = "auto"
    """auto: bfloat16 where its measured matrix products are clearly faster. Weights and moments stay float32."""
    compile: Annotated[Literal["auto", "on", "off"], Change.HOW] = "auto"
    """torch.compile; auto: where a compiler exists and the run is long enough for it to pay."""
    device: Annotated[Literal["auto", "cpu", "cuda"], Change.HOW] = "auto"
    threads: Annotated[int, Change.HOW] = Field(default=0, ge=0, le=1024)
    """CPU threads of a process; 0 means all cores, shared by the processes of a machine."""
    log_every: Annotated[int, Change.HOW] = Field(default=10, gt=0)
    validate_every: Annotated[int, Change.MIDWAY] = Field(default=0, ge=0)
    """Steps between validations; 0 means only at the end."""
    checkpoint_seconds: Annotated[float, Change.HOW] = Field(default=20.0, gt=0)
    """A kill loses at most this much work."""
    keep_checkpoints: Annotated[int, Change.HOW] = Field(default=2, ge=1)
    """The newest so many stay; the one before the last is used where the last is damaged."""
    snapshot_tokens: Annotated[int, Change.MIDWAY] = Field(default=0, ge=0)
    """Write the model as a folder of its own every so many tokens and at the end, to be evaluated; 0 means never."""
    on_bad_step: Annotated[Literal["stop", "skip"], Change.HOW] = "stop"
    """When a loss is not finite or a spike: stop, or go on without that batch. The batch is kept either way."""
    spike_deviations: Annotated[float, Change.HOW] = Field(default=0.0, ge=0)
    """A loss so many standard deviations above those of the last hundred steps is a spike; 0: none is."""
    record_places: Annotated[bool, Change.HOW] = True
    """Write down which tokens every step read, as ranges of the data's stream."""

    @model_validator(mode="after")
    def _goes_together(self) -> TrainerSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give steps or epochs" + (", not both" if self.steps else ""))
        if self.micro_rows is not None and self.micro_rows > self.rows:
            raise ValueError(f"micro_rows {self.micro_rows} is more than the batch's rows, {self.rows}")
        return self

    def rows_at_once(self, ranks: int) -> int:
        """Rows that each of so many processes computes at once. Raises `InputError` for an impossible layout."""
        own = max(1, self.rows // self.parallel.readers(ranks))
        return min(own, self.micro_rows or own)

    def check_machine(self) -> None:
        """Raises `InputError` for what this machine does not have."""
        self.training_device()
        if self.compile == "on" and not hardware.has_compiler():
            raise InputError("no C++ compiler is found", where="trainer.compile",
                             fix="install one (g++ or clang++), or set trainer.compile=auto")

    def training_device(self) -> str:
        """What "auto" means on this machine. Raises `InputError` for a GPU that is not there."""
        gpu = torch.cuda.is_available()
        if self.device == "cuda" and not gpu:
            raise InputError("PyTorch finds no CUDA device", where="trainer.device", fix="set trainer.device=cpu")
        return self.device if self.device != "auto" else "cuda" if gpu else "cpu"
