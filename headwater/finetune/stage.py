"""The fine-tuning stage: chat SFT, every turn of a dialogue in one sequence, loss on the assistant's tokens."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from headwater.finetune.dataset import DatasetSettings, Sequences, read_dataset
from headwater.model import Decoder
from headwater.model.checkpoint import load_model, read_config, save_model
from headwater.model.extension import KeptContext, extended
from headwater.settings import InputPath, Seed
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import record_template, require_template
from headwater.train.gathering import on_leader
from headwater.train.memory import require_memory
from headwater.train.objective import next_token
from headwater.train.packing import PackedBatches
from headwater.train.processes import is_leader, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer
from headwater.train.validation import target_loss


class FinetuneSettings(DatasetSettings):
    """What is tuned, on which dialogues, and how."""

    model: InputPath = Path("${pretrain}")
    context: KeptContext = KeptContext()
    """A longer context than the model's own, trained and saved with it."""
    force_template: bool = False
    """Tune with the tokenizer's chat template even where the checkpoint records another."""
    seed: Seed = 0
    trainer: TrainerSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words


def run(settings: FinetuneSettings, out: Path) -> dict[str, float]:
    """Write a model folder. Figures: loss, throughput, loss per token of held-back dialogues by language."""
    tokenizer = Tokenizer.load(settings.model)
    require_template(tokenizer, settings.model, force=settings.force_template)
    config = extended(read_config(settings.model)[0], settings.context)
    require_memory(config, settings.trainer)
    model = on_leader(lambda: load_model(settings.model, context=settings.context).float(), config)
    trainer = settings.trainer
    dataset = read_dataset(settings, tokenizer, trainer.sequence_length, settings.seed)

    def packed(sequences: Sequences, rows: int, seed: int) -> PackedBatches:
        return PackedBatches(sequences, rows=rows, length=trainer.sequence_length, seed=seed, pad=tokenizer.pad,
                             axes=model.config.position_axes)

    batches = packed(dataset.train, trainer.rows, settings.seed)
    held_back = {language: packed(sequences, trainer.rows_at_once(ranks()), 0)
                 for language, sequences in dataset.validation.items()}

    def validate(model: Decoder) -> dict[str, float]:
        return {f"dialogue.{language}.loss": target_loss(model, batches) for language, batches in held_back.items()}

    def snapshot(model: Decoder, folder: Path) -> None:
        save_model(model, folder, tokenizer_from=settings.model)
        record_template(tokenizer, folder)

    figures = Trainer(model, next_token, batches, trainer, validate, snapshot).fit(out)
    if is_leader():
        snapshot(model, out)
    return {**figures, "dialogues": float(len(dataset.train))}

