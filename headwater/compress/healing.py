"""What is left of a model learns on for a while, from the corpus that it is measured on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Protocol

from headwater.compress.quality import BenchmarkSettings, Quality
from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.checkpoint import read_config, save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import Shards
from headwater.train.blanks import BlankInfilling
from headwater.train.memory import require_memory
from headwater.train.settings import TrainerSettings
from headwater.train.stage import ObjectiveSettings, split_shards
from headwater.train.streams import StreamBatches
from headwater.train.trainer import Trainer
from headwater.train.validation import TOKENS_PER_BATCH, bits_per_byte


class Pruning(Protocol):
    """The settings of which a healing takes its own."""

    @property
    def model(self) -> Path: ...
    @property
    def corpus(self) -> Path | None: ...
    @property
    def benchmarks(self) -> BenchmarkSettings: ...
    @property
    def objective(self) -> ObjectiveSettings: ...
    @property
    def seed(self) -> int: ...


class Healing:
    """A corpus as the model reads it. Raises `InputError` for a tokenizer without the marks that the objective needs.
    """

    def __init__(self, settings: Pruning, tokenizer: Tokenizer, out: Path) -> None:
        self.settings, self.tokenizer, self.out = settings, tokenizer, out
        self.layout = settings.objective.layout(tokenizer, read_config(settings.model)[0].position_axes)

    @property
    def _blank(self) -> BlankInfilling | None:
        return self.layout if isinstance(self.layout, BlankInfilling) else None

    @cached_property
    def held_out(self) -> Shards:
        return self._shards("validation")

    def _shards(self, split: str) -> Shards:
        assert self.settings.corpus is not None
        return split_shards(self.settings.corpus, split, self.tokenizer, self.settings.model, self.out)

    @cached_property
    def quality(self) -> Quality:
        return Quality(self.tokenizer, self.settings.benchmarks, self.held_out, self._blank)

    def heal(self, model: Decoder, trainer: TrainerSettings) -> dict[str, float]:
        """Train the model in place, in float32; it keeps its type. Returns the trainer's figures."""
        if trainer.sequence_length > model.config.longest:
            raise InputError(f"rows of {trainer.sequence_length:,} tokens, and the model reads "
                             f"{model.config.longest:,}", where="healing.sequence_length", fix="give shorter rows")
        require_memory(model.config, trainer)
        batches = StreamBatches(self._shards("train"), rows=trainer.rows, length=trainer.sequence_length,
                                seed=self.settings.seed, layout=self.layout, pad=self.tokenizer.pad)
        dtype = model.dtype

        def validate(model: Decoder) -> dict[str, float]:
            at_once = min(TOKENS_PER_BATCH, trainer.rows_at_once(1) * trainer.sequence_length)  # as a step's
            found = bits_per_byte(model, self.held_out, trainer.sequence_length, self._blank, tokens=at_once)
            return {f"text.{language}.bits_per_byte": value for language, value in found.items()}

        def snapshot(model: Decoder, folder: Path) -> None:
            save_model(model, folder, tokenizer_from=self.settings.model)

        figures = Trainer(model.float(), self.settings.objective.loss(), batches, trainer, validate,
                          snapshot).fit(self.out)
        model.to(dtype)
        return figures
