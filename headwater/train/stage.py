"""The pretraining stage: a decoder from random weights on the corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field, model_validator

from headwater.documents import corpus_files
from headwater.hardware import cores
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.presets import preset
from headwater.settings import FieldsOf, InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import Shards, write_shards
from headwater.train.objective import next_token
from headwater.train.streams import StreamBatches
from headwater.train.trainer import Trainer, TrainerSettings, require_memory
from headwater.train.validation import bits_per_byte


class PretrainSettings(Settings):
    """What is pretrained, on what, and how."""

    corpus: InputPath = Path("${corpus}")
    tokenizer: InputPath = Path("${tokenizer}")
    seed: Seed = 0
    preset: str | None = None
    """An open model whose configuration the fields of `model` start from, for example Baichuan2-7B."""
    model: Annotated[dict[str, Any], FieldsOf(ModelConfig)] = Field(default_factory=dict)
    """Fields of `ModelConfig`; vocab_size comes from the tokenizer, rounded up to a multiple of 64."""
    trainer: TrainerSettings

    @model_validator(mode="after")
    def _model_is_possible(self) -> PretrainSettings:
        """Now and not after the work before it: only the vocabulary is still to come."""
        model_config(self, vocab_size=64)
        return self


class Trains(Protocol):
    """Settings of any stage that trains."""

    @property
    def trainer(self) -> TrainerSettings: ...


def check_device(settings: Trains) -> None:
    """Raises `InputError` for a device that this machine does not have."""
    settings.trainer.training_device()


def run(settings: PretrainSettings, out: Path) -> dict[str, float]:
    """Write a model folder. Figures: loss, throughput, validation bits per byte by language."""
    tokenizer = Tokenizer.load(settings.tokenizer)
    config = model_config(settings, tokenizer.vocab_size)
    require_memory(config, settings.trainer)
    train = _shards(settings, "train", tokenizer, out)
    held_out = _shards(settings, "validation", tokenizer, out)
    model = initialise(Decoder(config), settings.seed)
    trainer = settings.trainer
    batches = StreamBatches(train, rows=trainer.rows, length=trainer.sequence_length, seed=settings.seed)

    def validate(model: Decoder) -> dict[str, float]:
        found = bits_per_byte(model, held_out, trainer.sequence_length)
        return {f"text.{language}.bits_per_byte": value for language, value in found.items()}

    figures = Trainer(model, next_token, batches, trainer, validate).fit(out)
    save_model(model, out, tokenizer_from=settings.tokenizer)
    return {**figures, "corpus_tokens": float(train.total),
            "epochs": figures["tokens"] / max(1, train.total)}


def model_config(settings: PretrainSettings, vocab_size: int) -> ModelConfig:
    """The model's configuration, sized for the vocabulary and the trained length. Raises `SettingsError`."""
    sizes = {"vocab_size": -(-vocab_size // 64) * 64}
    if settings.preset is not None:
        return preset(settings.preset, **sizes, **settings.model)
    length = {"max_position_embeddings": settings.trainer.sequence_length}
    return ModelConfig.parse({**sizes, **length, **settings.model}, where="pretrain.model")


def _shards(settings: PretrainSettings, split: str, tokenizer: Tokenizer, out: Path) -> Shards:
    return write_shards(corpus_files(settings.corpus, split), tokenizer, settings.tokenizer, out / "shards" / split,
                        processes=cores())
