"""The fine-tuning stage: chat SFT, every turn of a dialogue in one sequence, loss on the assistant's tokens; all of a
model, some of its blocks, or adapters beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field, model_validator

from headwater.artifacts import read_json, write_json
from headwater.errors import InputError
from headwater.finetune.dataset import DatasetSettings, Sequences, read_dataset
from headwater.finetune.general import GeneralSettings, Measured, before_and_after, measured
from headwater.finetune.keeping import NearBase, Replayed, ReplaySettings, texts_of
from headwater.generate.choice import require_questions
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import LoraSettings, require_no_prefix, without_adapters
from headwater.model.checkpoint import load_model, read_config
from headwater.model.extension import KeptContext, extended
from headwater.model.packed import Base
from headwater.model.prefix import PrefixSettings
from headwater.model.task_head import require_no_head
from headwater.progress import print_result, say
from headwater.settings import InputPath, Seed
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import require_template
from headwater.train.batches import Batches
from headwater.train.learning import Method, check, frozen_by, prepared, require_trainable, write_learned
from headwater.train.memory import require_memory
from headwater.train.objective import Objective, Reference, next_token
from headwater.train.packing import PackedBatches, as_read
from headwater.train.processes import is_leader, leader_first, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer
from headwater.train.validation import target_loss

BEFORE = "before.json"


class FinetuneSettings(DatasetSettings):
    """What is tuned, on which dialogues, and how."""

    model: InputPath = Path("${pretrain}")
    method: Method = "full"
    """full: the model's own weights. lora: low-rank matrices beside them. prefix: keys and values before every text, in
    each layer (P-Tuning v2). The last two are written as an adapter, and the model stays as it is."""
    lora: LoraSettings = LoraSettings()
    prefix: PrefixSettings = PrefixSettings()
    base: Base | None = None
    """lora, prefix: the form into which the model's matrices are packed while it is tuned; as floats when not set."""
    frozen_blocks: int = Field(default=0, ge=0)
    """full: the first so many blocks stay as they are, and the embedding with them."""
    replay: ReplaySettings = ReplaySettings()
    near_base: float = Field(default=0.0, ge=0)
    """Weight of KL(base || model) at every target: above 0 the model is held to what it said before."""
    general: GeneralSettings = GeneralSettings()
    context: KeptContext = KeptContext()
    """A longer context than the model's own, trained and saved with it."""
    force_template: bool = False
    """Tune with the tokenizer's chat template even where the checkpoint records another."""
    seed: Seed = 0
    trainer: TrainerSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="after")
    def _used(self) -> FinetuneSettings:
        check(self)
        if self.near_base and self.trainer.parallel.tensor > 1:
            raise ValueError("near_base needs whole heads: leave trainer.parallel.tensor at 1")
        self.replay.rows(self.trainer.rows)
        return self


def run(settings: FinetuneSettings, out: Path) -> dict[str, float]:
    """Write a model's folder, or an adapter's, and `finetune.json`, what is measured before and after. Figures: loss,
    throughput, trained parameters, loss per token of held-back dialogues by language."""
    require_no_prefix(settings.model, "tuned further")
    require_no_head(settings.model)
    require_trainable(settings)
    require_questions(settings.general.choice, "general.choice")
    tokenizer, trainer = Tokenizer.load(settings.model), settings.trainer
    require_template(tokenizer, settings.model, force=settings.force_template)
    config = extended(read_config(settings.model)[0], settings.context)
    frozen = frozen_by(settings)
    require_memory(config, trainer, frozen)
    dataset = read_dataset(settings, tokenizer, trainer.sequence_length, settings.seed, reads=config.longest)
    tell_length(dataset.train, config)
    model = prepared(settings, config)

    def packed(sequences: Sequences, rows: int, seed: int) -> PackedBatches:
        return PackedBatches([as_read(one, config) for one in sequences], rows=rows, length=trainer.sequence_length,
                             seed=seed, pad=tokenizer.pad, axes=config.position_axes)

    texts = settings.replay.rows(trainer.rows)
    batches: Batches = packed(dataset.train, trainer.rows - texts, settings.seed)
    if texts and config.prefix_ids:
        raise InputError("this model reads prompts both ways, and general text is no prompt", where="finetune.replay",
                         fix="leave replay out")
    if texts:
        batches = _replayed(settings, batches, dataset.train, tokenizer, config, out)
    held_back = {language: packed(sequences, trainer.rows_at_once(ranks()), 0)
                 for language, sequences in dataset.validation.items()}

    def validate(model: Decoder) -> dict[str, float]:
        return {f"dialogue.{language}.loss": target_loss(model, batches) for language, batches in held_back.items()}

    def save(model: Decoder, folder: Path) -> None:
        write_learned(settings, model, tokenizer, folder)

    def measure() -> Measured:
        return validate(model) | measured(model, tokenizer, settings.model, settings.general, out)

    with without_adapters(model):
        before = _kept(out / BEFORE, measure) if is_leader() else {}
    figures = Trainer(model, _objective(settings), batches, trainer, validate, save, frozen).fit(out)
    if is_leader():
        save(model, out)
        found = {"before": before, "after": measure()}
        write_json(out / "finetune.json", found)
        if any(found.values()):
            print_result(before_and_after(found))
        figures |= {f"{when}.{name}": value for when, values in found.items() for name, value in values.items()}
    return {**figures, "dialogues": float(len(dataset.train))}


def tell_length(dialogues: Sequences, config: ModelConfig) -> None:
    """Say so where dialogues are longer than what the model reads. Raises `InputError` where its positions end."""
    sizes = [len(one[0]) for one in dialogues]
    longer = sum(size > config.longest for size in sizes)
    what = f"{longer:,} of {len(sizes):,} dialogues are longer than the {config.longest:,} tokens that this model reads"
    if longer and config.position.endswith("_2d"):
        raise InputError(f"{what}, and its positions end there", where="trainer.sequence_length",
                         fix=f"give at most {config.longest}: longer dialogues keep their first rounds")
    if longer:
        how = " with context.method=yarn" if config.position == "rope" else ""
        say(f"note: {what}: give context.length={max(sizes)} or more{how}, or a trainer.sequence_length of at most "
            f"{config.longest}")


def _replayed(settings: FinetuneSettings, dialogues: Batches, sequences: Sequences, tokenizer: Tokenizer,
              config: ModelConfig, out: Path) -> Batches:
    """The dialogues' batches with rows of general text behind them."""
    trainer = settings.trainer
    with leader_first():
        texts = texts_of(settings.replay, tokenizer, settings.model, out, rows=settings.replay.rows(trainer.rows),
                         length=trainer.sequence_length, seed=settings.seed, axes=config.position_axes)
    return Replayed(dialogues, texts, trainer.rows, sum(len(one[0]) for one in sequences))


def _objective(settings: FinetuneSettings) -> Objective:
    if not settings.near_base:
        return next_token
    if settings.method != "full":
        return NearBase(settings.near_base, Reference(None))
    base = load_model(settings.model, dtype=torch.float32, context=settings.context)
    return NearBase(settings.near_base, Reference(base.to(settings.trainer.training_device())))


def _kept(path: Path, measure: Callable[[], Measured]) -> Measured:
    """What was measured before the training; taken once, so that a run that goes on does not take it again."""
    if not path.exists():
        write_json(path, measure())
    return dict(read_json(path))
