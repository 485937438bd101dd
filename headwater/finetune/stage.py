"""The fine-tuning stage: chat SFT, every turn of a dialogue in one sequence, loss on the assistant's tokens; all of a
model, some of its blocks, or adapters beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from headwater.errors import InputError
from headwater.finetune.dialogues import read_dialogues, render_all
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import LoraSettings, attach, save_adapter
from headwater.model.checkpoint import load_model, read_config, save_model
from headwater.model.extension import KeptContext, extended
from headwater.settings import InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.gathering import on_leader
from headwater.train.memory import require_memory
from headwater.train.objective import next_token
from headwater.train.packing import PackedBatches
from headwater.train.processes import is_leader, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer
from headwater.train.validation import target_loss


class FinetuneSettings(Settings):
    """What is tuned, on which dialogues, and how."""

    model: InputPath = Path("${pretrain}")
    dialogues: list[InputPath] = Field(min_length=1)
    """JSON-lines files or JSON arrays of messages, ShareGPT conversations or Alpaca instructions."""
    validation: list[InputPath] = []
    """Dialogues that are not trained on; their loss is reported by language."""
    method: Literal["full", "lora"] = "full"
    """full: the model's own weights. lora: low-rank matrices beside them, written as an adapter."""
    lora: LoraSettings = LoraSettings()
    frozen_blocks: int = Field(default=0, ge=0)
    """full: the first so many blocks stay as they are, and the embedding with them."""
    context: KeptContext = KeptContext()
    """A longer context than the model's own, trained and saved with it."""
    seed: Seed = 0
    trainer: TrainerSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="after")
    def _used(self) -> FinetuneSettings:
        if "lora" in self.model_fields_set and self.method != "lora":
            raise ValueError(f"lora has no effect with method {self.method}")
        if self.frozen_blocks and self.method != "full":
            raise ValueError(f"frozen_blocks has no effect with method {self.method}: all blocks are frozen")
        return self


def run(settings: FinetuneSettings, out: Path) -> dict[str, float]:
    """Write a model's folder, or an adapter's. Figures: loss, throughput, trained parameters, loss per token of
    held-back dialogues by language."""
    tokenizer = Tokenizer.load(settings.model)
    config = extended(read_config(settings.model)[0], settings.context)
    require_memory(config, settings.trainer)
    model = _prepared(settings, config)
    trainer = settings.trainer
    dialogues = render_all(read_dialogues(settings.dialogues), tokenizer, trainer.sequence_length)
    batches = PackedBatches([(one.ids, one.loss_mask) for one in dialogues], rows=trainer.rows,
                            length=trainer.sequence_length, seed=settings.seed, pad=tokenizer.pad,
                            axes=model.config.position_axes)
    held_back = _validation_batches(settings, tokenizer, model.config.position_axes)

    def validate(model: Decoder) -> dict[str, float]:
        return {f"dialogue.{language}.loss": target_loss(model, batches) for language, batches in held_back.items()}

    def save(model: Decoder, folder: Path) -> None:
        if settings.method == "lora":
            save_adapter(model, folder, settings.model, context=settings.context)
        else:
            save_model(model, folder, tokenizer_from=settings.model)

    figures = Trainer(model, next_token, batches, trainer, validate, save).fit(out)
    if is_leader():
        save(model, out)
    return {**figures, "dialogues": float(len(dialogues))}


def _prepared(settings: FinetuneSettings, config: ModelConfig) -> Decoder:
    """The model with what is to be learned in float32; the rest as it is stored, and frozen."""
    model = on_leader(lambda: load_model(settings.model, context=settings.context), config)
    if settings.method == "lora":
        return attach(model, settings.lora, settings.seed)
    if settings.frozen_blocks >= config.num_hidden_layers:
        raise InputError(f"frozen_blocks {settings.frozen_blocks} leaves none of {config.num_hidden_layers} blocks to "
                         "learn", where="finetune", fix="freeze fewer")
    if settings.frozen_blocks:
        for frozen in (model.embedding, model.positions, *model.blocks[: settings.frozen_blocks]):
            frozen.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _validation_batches(settings: FinetuneSettings, tokenizer: Tokenizer, axes: int) -> dict[str, PackedBatches]:
    if not settings.validation:
        return {}
    dialogues, found = read_dialogues(settings.validation), {}
    for language in sorted({dialogue.language for dialogue in dialogues}):
        chosen = [dialogue for dialogue in dialogues if dialogue.language == language]
        rendered = render_all(chosen, tokenizer, settings.trainer.sequence_length)
        found[language] = PackedBatches([(one.ids, one.loss_mask) for one in rendered],
                                        rows=settings.trainer.rows_at_once(ranks()),
                                        length=settings.trainer.sequence_length, seed=0, pad=tokenizer.pad, axes=axes)
    return found
