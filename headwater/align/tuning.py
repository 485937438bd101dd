"""What the stages of this room that tune a model have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.adapters import LoraSettings, require_no_prefix
from headwater.model.checkpoint import read_config
from headwater.model.extension import KeptContext
from headwater.model.packed import Base
from headwater.model.prefix import PrefixSettings
from headwater.model.task_head import require_no_head
from headwater.settings import InputPath, OwnDefaults, Seed, Settings
from headwater.tokenizer import Rendered, Tokenizer
from headwater.tokenizer.fitting import require_template
from headwater.train.learning import Learning, frozen_by, prepared, require_trainable, write_learned
from headwater.train.memory import require_memory
from headwater.train.objective import Objective
from headwater.train.packing import PackedBatches, PrefixSample, Supervised, as_read
from headwater.train.processes import ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer, Validate

TUNED = OwnDefaults({"optimizer": {"learning_rate": 2e-5}})
"""Of the trainer: the rate of LLaMA 2's tuning (2307.09288, section 3.1)."""


class TuningSettings(Settings):
    """Which model is tuned, and what of it learns."""

    model: InputPath = Path("${finetune}")
    method: Literal["full", "lora"] = "full"
    """full: the model's own weights. lora: low-rank matrices beside them, written as an adapter."""
    lora: LoraSettings = LoraSettings()
    seed: Seed = 0

    prefix: ClassVar[PrefixSettings] = PrefixSettings()
    base: ClassVar[Base | None] = None
    frozen_blocks: ClassVar[int] = 0
    context: ClassVar[KeptContext] = KeptContext()


class Trains(Protocol):
    """Settings of a stage that trains, or does not."""

    @property
    def trainer(self) -> TrainerSettings | None: ...


def check_machine(settings: Trains) -> None:
    """Raises `InputError` for what this machine does not have."""
    if settings.trainer is not None:
        settings.trainer.check_machine()
    if ranks() > 1:
        raise InputError("one process samples and judges, and what it finds is learned there", where="align",
                         fix="start one process; it uses all cores, or its GPU")


class Tuning:
    """A model that is to be tuned. Raises `InputError` for one that cannot be."""

    def __init__(self, settings: Learning) -> None:
        require_no_prefix(settings.model, "tuned further")
        require_no_head(settings.model)
        require_trainable(settings)
        self.settings, self.trainer = settings, settings.trainer
        self.tokenizer, self.config = Tokenizer.load(settings.model), read_config(settings.model)[0]
        require_template(self.tokenizer, settings.model)
        self.frozen = frozen_by(settings)
        require_memory(self.config, self.trainer, self.frozen)

    def load(self) -> Decoder:
        """With what learns in float32."""
        return prepared(self.settings, self.config)

    def packed(self, sequences: Sequence[Supervised | PrefixSample], rows: int, *, together: int = 1) -> PackedBatches:
        return PackedBatches([as_read(one, self.config) for one in sequences], rows=rows,
                             length=self.trainer.sequence_length, seed=self.settings.seed, pad=self.tokenizer.pad,
                             axes=self.config.position_axes, together=together)

    def fit(self, model: Decoder, objective: Objective, batches: PackedBatches, out: Path,
            validate: Validate | None = None) -> dict[str, float]:
        """Train, and write the model's folder or an adapter's. Returns the trainer's figures."""
        def save(model: Decoder, folder: Path) -> None:
            write_learned(self.settings, model, self.tokenizer, folder)

        figures = Trainer(model, objective, batches, self.trainer, validate, save, self.frozen).fit(out)
        save(model, out)
        return figures


def last_answer(rendered: Rendered) -> list[bool]:
    """A dialogue's loss mask with its last answer alone."""
    end = max((place for place, learned in enumerate(rendered.loss_mask, 1) if learned), default=0)
    begin = end
    while begin and rendered.loss_mask[begin - 1]:
        begin -= 1
    return [begin <= place < end for place in range(len(rendered.ids))]
