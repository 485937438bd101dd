"""The pretraining stage: a decoder from random weights on the corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, ValidationError, model_validator

from headwater.documents import corpus_files
from headwater.errors import SettingsError
from headwater.hardware import cores
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.presets import preset
from headwater.progress import say
from headwater.settings import FieldsOf, InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import Shards, write_shards
from headwater.train.blanks import BlankInfilling, GlmSettings, glm_ids
from headwater.train.dial import DialSettings, derive
from headwater.train.gathering import on_leader
from headwater.train.layouts import Causal, Layout, Prefix
from headwater.train.loss import Penalties
from headwater.train.memory import require_memory
from headwater.train.objective import NextToken
from headwater.train.processes import is_leader, leader_first, ranks
from headwater.train.sentences import SentenceEnds
from headwater.train.settings import TrainerSettings
from headwater.train.streams import StreamBatches
from headwater.train.trainer import Trainer
from headwater.train.validation import TOKENS_PER_BATCH, bits_per_byte


class ObjectiveSettings(Settings):
    """What the model learns to predict."""

    name: Literal["causal", "prefix", "glm"] = "causal"
    """causal: every next token. prefix: the same after a prefix read both ways. glm: the blanks of a text."""
    glm: GlmSettings = GlmSettings()
    max_z: float = Field(default=0.0, ge=0)
    """Weight of the square of the largest logit, against large logits; Baichuan 2 takes 0.0002."""
    z: float = Field(default=0.0, ge=0)
    """Weight of the squared logarithm of the softmax's normaliser; PaLM takes 0.0001."""

    @model_validator(mode="after")
    def _used(self) -> ObjectiveSettings:
        if self.glm != GlmSettings() and self.name != "glm":
            raise ValueError(f"objective.glm has no effect with objective.name {self.name}")
        return self

    def loss(self) -> NextToken:
        return NextToken(Penalties(max_z=self.max_z, z=self.z))

    def layout(self, tokenizer: Tokenizer, axes: int) -> Layout:
        """How rows are written, for a model of so many position axes. Raises `SettingsError`, and `InputError` for a
        tokenizer without the marks of blanks."""
        if self.name == "causal":
            return Causal(axes)
        if self.name == "prefix":
            return Prefix(axes)
        sentences = SentenceEnds.of(tokenizer) if self.glm.sentence_share else None
        return BlankInfilling(self.glm, glm_ids(tokenizer), axes=axes, sentences=sentences)


class PretrainSettings(Settings):
    """What is pretrained, on what, and how."""

    corpus: InputPath = Path("${corpus}")
    tokenizer: InputPath = Path("${tokenizer}")
    seed: Seed = 0
    preset: str | None = None
    """An open model whose configuration the fields of `model` start from, for example Baichuan2-7B."""
    dial: DialSettings = DialSettings()
    """One number from which shape, batch, learning rate and length of the training follow where they are not given."""
    model: Annotated[dict[str, Any], FieldsOf(ModelConfig)] = Field(default_factory=dict)
    """Fields of `ModelConfig`; vocab_size comes from the tokenizer, rounded up to a multiple of 64."""
    objective: ObjectiveSettings = ObjectiveSettings()
    trainer: TrainerSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="before")
    @classmethod
    def _follow_the_dial(cls, values: Any) -> Any:
        return _dialled(values) if isinstance(values, dict) and values.get("dial") else values

    @model_validator(mode="after")
    def _model_is_possible(self) -> PretrainSettings:
        """Now and not after the work before it: only the vocabulary is still to come."""
        model_config(self, vocab_size=64)
        return self


def _dialled(values: dict[str, Any]) -> dict[str, Any]:
    """The settings with what follows from their dial; what they say themselves goes before."""
    try:
        dial = DialSettings.model_validate(values["dial"])
    except ValidationError:
        return values  # told, with its place, where the settings themselves are read
    if not dial.turned:
        return values
    if not all(isinstance(values.get(name) or {}, dict) for name in ("trainer", "model")):
        return values
    if values.get("preset"):
        raise ValueError("dial and preset both give the model's shape; give one of them")
    found = derive(dial)
    trainer = {name: value for name, value in dict(values.get("trainer") or {}).items() if value is not None}
    length = trainer.get("sequence_length", TrainerSettings.model_fields["sequence_length"].default)
    if not isinstance(length, int) or length < 2 or not isinstance(trainer.get("optimizer", {}), dict):
        return values  # refused where they are read
    rest = found.trainer(length)
    optimizer = {**rest.pop("optimizer"), **trainer.pop("optimizer", {})}
    if "epochs" in trainer:
        del rest["steps"]
    model = {**found.model(), **(values.get("model") or {})}
    return {**values, "model": model, "trainer": {**rest, **trainer, "optimizer": optimizer}}


class Trains(Protocol):
    """Settings of any stage that trains."""

    @property
    def trainer(self) -> TrainerSettings: ...


def check_machine(settings: Trains) -> None:
    """Raises `InputError` for what this machine does not have."""
    settings.trainer.check_machine()


def run(settings: PretrainSettings, out: Path) -> dict[str, float]:
    """Write a model folder. Figures: loss, throughput, validation bits per byte by language."""
    tokenizer = Tokenizer.load(settings.tokenizer)
    if settings.dial.turned:
        found = derive(settings.dial)
        other = found.overruled(settings.model, settings.trainer.model_dump())
        say(f"the dial says: {found.words()}" + (f"; you say {', '.join(other)}" if other else ""))
    config = model_config(settings, tokenizer.vocab_size)
    require_memory(config, settings.trainer)
    layout = settings.objective.layout(tokenizer, config.position_axes)
    with leader_first():
        train, held_out = (split_shards(settings.corpus, split, tokenizer, settings.tokenizer, out)
                           for split in ("train", "validation"))
    model = on_leader(lambda: initialise(Decoder(config), settings.seed), config)
    trainer = settings.trainer
    batches = StreamBatches(train, rows=trainer.rows, length=trainer.sequence_length, seed=settings.seed,
                            layout=layout, pad=tokenizer.pad)

    blank = layout if isinstance(layout, BlankInfilling) else None
    if blank is not None and not blank.settings.document_share:
        say("no bits per byte: with document_share 0 the model never learns to go on with a text")

    def validate(model: Decoder) -> dict[str, float]:
        if blank is not None and not blank.settings.document_share:
            return {}
        at_once = min(TOKENS_PER_BATCH, trainer.rows_at_once(ranks()) * trainer.sequence_length)  # as a step's
        found = bits_per_byte(model, held_out, trainer.sequence_length, blank, tokens=at_once)
        return {f"text.{language}.bits_per_byte": value for language, value in found.items()}

    def snapshot(model: Decoder, folder: Path) -> None:
        save_model(model, folder, tokenizer_from=settings.tokenizer)

    figures = Trainer(model, settings.objective.loss(), batches, trainer, validate, snapshot).fit(out)
    if is_leader():
        save_model(model, out, tokenizer_from=settings.tokenizer)
    return {**figures, "corpus_tokens": float(train.total),
            "epochs": figures["tokens"] / max(1, train.total)}


def model_config(settings: PretrainSettings, vocab_size: int) -> ModelConfig:
    """The model's configuration, sized for the vocabulary and the trained length. Raises `SettingsError`."""
    sizes, length = {"vocab_size": -(-vocab_size // 64) * 64}, settings.trainer.sequence_length
    if settings.preset is not None:
        config = preset(settings.preset, **sizes, **settings.model)
    else:
        config = ModelConfig.parse({**sizes, "max_position_embeddings": length, **settings.model},
                                   where="pretrain.model")
    if config.vocab_size < vocab_size:
        raise SettingsError(f"model.vocab_size {config.vocab_size} is less than the tokenizer's {vocab_size}",
                            where="pretrain", fix="leave it out, or give at least as many")
    if config.max_position_embeddings < length:
        raise SettingsError(f"trainer.sequence_length {length} is more than the model's max_position_embeddings "
                            f"{config.max_position_embeddings}", where="pretrain",
                            fix="shorten the rows, or set model.max_position_embeddings")
    return config


def split_shards(corpus: Path, split: str, tokenizer: Tokenizer, source: Path, out: Path) -> Shards:
    """A split's shards below `out`; the first process writes them, the others find them done. source: what the
    tokenizer was loaded from."""
    folder = out / "shards" / split
    if not is_leader():  # written already; who writes sweeps the others' temporaries
        return Shards(folder)
    return write_shards(corpus_files(corpus, split), tokenizer, source, folder, processes=cores())
