"""The fine-tuning stage: chat SFT, every turn of a dialogue in one sequence, loss on the assistant's tokens; all of a
model, some of its blocks, or adapters beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator

from headwater.artifacts import read_json, write_json
from headwater.errors import InputError
from headwater.finetune.dialogues import read_dialogues, render_all
from headwater.finetune.general import GeneralSettings, Measured, before_and_after, measured
from headwater.finetune.keeping import NearBase, Replayed, ReplaySettings, texts_of
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import LoraSettings, attach, attach_prefix, save_adapter, without_adapters
from headwater.model.checkpoint import load_model, read_config, save_model
from headwater.model.extension import KeptContext, extended
from headwater.model.prefix import PrefixSettings
from headwater.plan import Trained
from headwater.progress import print_result
from headwater.settings import InputPath, Seed, Settings
from headwater.tokenizer import Rendered, Tokenizer
from headwater.train.batches import Batches
from headwater.train.gathering import on_leader
from headwater.train.machine import products
from headwater.train.memory import Frozen, require_memory
from headwater.train.objective import Objective, next_token
from headwater.train.packing import PackedBatches
from headwater.train.processes import is_leader, leader_first, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer
from headwater.train.validation import target_loss

BEFORE = "before.json"


class FinetuneSettings(Settings):
    """What is tuned, on which dialogues, and how."""

    model: InputPath = Path("${pretrain}")
    dialogues: list[InputPath] = Field(min_length=1)
    """JSON-lines files or JSON arrays of messages, ShareGPT conversations or Alpaca instructions."""
    validation: list[InputPath] = []
    """Dialogues that are not trained on; their loss is reported by language."""
    method: Literal["full", "lora", "prefix"] = "full"
    """full: the model's own weights. lora: low-rank matrices beside them. prefix: keys and values before every text, in
    each layer (P-Tuning v2). Both are written as an adapter, and the model stays as it is."""
    lora: LoraSettings = LoraSettings()
    prefix: PrefixSettings = PrefixSettings()
    base: Literal["int8", "nf4"] | None = None
    """lora, prefix: the form into which the model's matrices are packed while it is tuned; as floats when not set."""
    frozen_blocks: int = Field(default=0, ge=0)
    """full: the first so many blocks stay as they are, and the embedding with them."""
    replay: ReplaySettings = ReplaySettings()
    near_base: float = Field(default=0.0, ge=0)
    """Weight of KL(base || model) at every target: above 0 the model is held to what it said before."""
    general: GeneralSettings = GeneralSettings()
    context: KeptContext = KeptContext()
    """A longer context than the model's own, trained and saved with it."""
    seed: Seed = 0
    trainer: TrainerSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="after")
    def _used(self) -> FinetuneSettings:
        for name in ("lora", "prefix"):
            if name in self.model_fields_set and self.method != name:
                raise ValueError(f"{name} has no effect with method {self.method}")
        if self.base and self.method == "full":
            raise ValueError("base has no effect with method full: packed matrices do not learn")
        if self.frozen_blocks and self.method != "full":
            raise ValueError(f"frozen_blocks has no effect with method {self.method}: all blocks are frozen")
        if self.near_base and self.trainer.parallel.tensor > 1:
            raise ValueError("near_base needs whole heads: leave trainer.parallel.tensor at 1")
        self.replay.rows(self.trainer.rows)
        return self


def run(settings: FinetuneSettings, out: Path) -> dict[str, float]:
    """Write a model's folder, or an adapter's, and `finetune.json`, what is measured before and after. Figures: loss,
    throughput, trained parameters, loss per token of held-back dialogues by language."""
    tokenizer, trainer = Tokenizer.load(settings.model), settings.trainer
    config = extended(read_config(settings.model)[0], settings.context)
    frozen = _frozen(settings)
    require_memory(config, trainer, frozen)
    model = _prepared(settings, config)
    dialogues = render_all(read_dialogues(settings.dialogues), tokenizer, trainer.sequence_length)
    batches = _batches(settings, tokenizer, dialogues, config.position_axes, out)
    held_back = _validation_batches(settings, tokenizer, config.position_axes)

    def validate(model: Decoder) -> dict[str, float]:
        return {f"dialogue.{language}.loss": target_loss(model, batches) for language, batches in held_back.items()}

    def save(model: Decoder, folder: Path) -> None:
        if settings.method == "full":
            save_model(model, folder, tokenizer_from=settings.model)
        else:
            save_adapter(model, folder, settings.model, context=settings.context)

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
    return {**figures, "dialogues": float(len(dialogues))}


def _batches(settings: FinetuneSettings, tokenizer: Tokenizer, dialogues: list[Rendered], axes: int, out: Path
             ) -> Batches:
    trainer = settings.trainer
    texts = settings.replay.rows(trainer.rows)
    length, seed = trainer.sequence_length, settings.seed
    packed = PackedBatches([(one.ids, one.loss_mask) for one in dialogues], rows=trainer.rows - texts, length=length,
                           seed=seed, pad=tokenizer.pad, axes=axes)
    if not texts:
        return packed
    with leader_first():
        stream = texts_of(settings.replay, tokenizer, settings.model, out, rows=texts, length=length, seed=seed,
                          axes=axes)
    return Replayed(packed, stream, trainer.rows, sum(len(one.ids) for one in dialogues))


def _objective(settings: FinetuneSettings) -> Objective:
    if not settings.near_base:
        return next_token
    if settings.method != "full":
        return NearBase(settings.near_base, None)
    base = load_model(settings.model, dtype=torch.float32, context=settings.context)
    return NearBase(settings.near_base, base.to(settings.trainer.training_device()).requires_grad_(False))


def _kept(path: Path, measure: Callable[[], Measured]) -> Measured:
    """What was measured before the training; taken once, so that a run that goes on does not take it again."""
    if not path.exists():
        write_json(path, measure())
    return dict(read_json(path))


def _prepared(settings: FinetuneSettings, config: ModelConfig) -> Decoder:
    """The model with what is to be learned in float32; the rest frozen, in the type of the products or packed."""
    if settings.method != "full":
        return _beside(settings, config)
    model = on_leader(lambda: load_model(settings.model, context=settings.context), config)
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


def _beside(settings: FinetuneSettings, config: ModelConfig) -> Decoder:
    dtype = getattr(torch, products(settings.trainer))

    def load() -> Decoder:
        return load_model(settings.model, context=settings.context, dtype=dtype, base=settings.base)

    model = load() if settings.base else on_leader(load, config)  # packed matrices are handed to nobody
    if settings.method == "prefix":
        return attach_prefix(model, settings.prefix, settings.seed)
    return attach(model, settings.lora, settings.seed)


def _frozen(settings: FinetuneSettings) -> Frozen | None:
    if settings.method == "full":
        return None
    learns = Trained(rank=settings.lora.rank) if settings.method == "lora" else Trained(prefix=settings.prefix.length)
    return Frozen(settings.base, learns)


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
