"""The extension stage: a trained model goes on to longer texts, measured before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from headwater.artifacts import write_json, write_text
from headwater.context.check import described
from headwater.context.long_rows import LongBatches
from headwater.context.measure import Depths, Measure, Measured, MeasureSettings, Tasks
from headwater.errors import InputError, MissingExtraError
from headwater.generate.engine import Engine
from headwater.hardware import trim_heap
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import require_no_prefix
from headwater.model.checkpoint import load_model, read_config, require_floats, save_model
from headwater.model.extension import ContextSettings, KeptContext, extended
from headwater.model.task_head import require_no_head
from headwater.progress import say
from headwater.settings import InputPath, OwnDefaults, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.gathering import on_leader
from headwater.train.memory import require_memory
from headwater.train.objective import next_token
from headwater.train.processes import is_leader, leader_first, ranks
from headwater.train.settings import TrainerSettings
from headwater.train.stage import check_machine, split_shards
from headwater.train.trainer import Trainer
from headwater.train.validation import TOKENS_PER_BATCH, bits_per_byte

BEFORE, RESULT = "before.json", "extend.json"
OURS = OwnDefaults({"recompute": "full", "micro_rows": 1}, without=("sequence_length",))
"""Of the trainer: a row is long."""


class BeforeAndAfter(MeasureSettings):
    """What is taken of the model before and after, from the trained length to the new one."""

    tasks: Tasks = ["passkey", "needle"]
    """Kinds of needles; an empty list: perplexity alone. When not set, those that the lengths hold."""
    depths: Depths = [0.0, 0.5, 1.0]
    """Of the needle, as shares of the text."""


class ExtendSettings(Settings):
    """Which model learns to read how far, from what, and how that is measured."""

    model: InputPath = Path("${pretrain}")
    corpus: InputPath = Path("${corpus}")
    context: KeptContext
    """The length, and how rotary positions reach it."""
    replay: float = Field(default=0.25, ge=0, lt=1)
    """Share of the tokens that are read as in the training before: text cut at the trained length."""
    measure: BeforeAndAfter = BeforeAndAfter()
    """What is taken of the model before and after, from the trained length to the new one."""
    seed: Seed = 0
    trainer: Annotated[TrainerSettings, OURS] = Field(default={})  # type: ignore[assignment]  # refused in its own words
    """Its rows are as long as the context."""

    @model_validator(mode="before")
    @classmethod
    def _train_on_long_rows(cls, values: Any) -> Any:
        given = {name: values.get(name) or {} for name in ("context", "trainer")} if isinstance(values, dict) else {}
        if not given or not all(isinstance(one, dict) for one in given.values()) or "length" not in given["context"]:
            return values  # complete, or refused where it is read
        return {**values, "trainer": {"sequence_length": given["context"]["length"], **given["trainer"]}}

    @model_validator(mode="after")
    def _fits(self) -> ExtendSettings:
        if self.context.length is None:
            raise ValueError("context.length is not given: the tokens that the model shall read")
        if self.trainer.sequence_length != self.context.length:
            raise ValueError(f"trainer.sequence_length {self.trainer.sequence_length} is not context.length "
                             f"{self.context.length}; leave it out")
        return self


def check(settings: ExtendSettings) -> None:
    """Raises `InputError` for what this machine does not have, or a model that is there cannot do."""
    check_machine(settings)
    if (settings.model / "config.json").is_file():
        _extended(read_config(settings.model)[0], settings)


def run(settings: ExtendSettings, out: Path) -> dict[str, float]:
    """Write a model folder, `extend.json` and `extend.svg`. Figures: loss, throughput, and perplexity and needles found
    by length, before and after."""
    require_no_prefix(settings.model, "extended")
    require_no_head(settings.model)
    require_floats(settings.model, "trained", "give the float model")
    tokenizer, trainer = Tokenizer.load(settings.model), settings.trainer
    source = read_config(settings.model)[0]
    trained, config = source.longest, _extended(source, settings)
    if is_leader():
        length = trainer.sequence_length
        say(f"{trained:,} to {length:,} tokens: {described(config, length)}")
    require_memory(config, trainer)
    with leader_first():
        train, held_out = (split_shards(settings.corpus, split, tokenizer, settings.model, out)
                           for split in ("train", "validation"))
    batches = LongBatches(train, rows=trainer.rows, length=trainer.sequence_length, trained=trained,
                          replay=settings.replay, seed=settings.seed, pad=tokenizer.pad)
    measure = _measure(settings, tokenizer, trained) if is_leader() else None
    found = {} if measure is None else _before(settings, measure, out)
    model = on_leader(lambda: load_model(settings.model, context=settings.context).float(), config)

    def validate(model: Decoder) -> dict[str, float]:
        at_once = min(TOKENS_PER_BATCH, trainer.rows_at_once(ranks()) * trainer.sequence_length)  # as a step's
        found = bits_per_byte(model, held_out, trainer.sequence_length, tokens=at_once)
        return {f"text.{language}.bits_per_byte": value for language, value in found.items()}

    def snapshot(model: Decoder, folder: Path) -> None:
        save_model(model, folder, tokenizer_from=settings.model)

    training = Trainer(model, next_token, batches, trainer, validate, snapshot)
    epochs = training.steps / batches.batches_per_epoch
    if is_leader():
        _tell_rows(batches, epochs)
    figures = training.fit(out)
    if measure is not None:
        save_model(model, out, tokenizer_from=settings.model)
        found["after"] = measure.take(_engine(out, measure, trainer))
        _keep(measure, found, out)
    return {**figures, "long_rows": float(batches.long_rows), "epochs": epochs,
            **_figures(found, [trained, trainer.sequence_length])}


def _extended(source: ModelConfig, settings: ExtendSettings) -> ModelConfig:
    trained, length = source.longest, settings.trainer.sequence_length
    if length <= trained:
        raise InputError(f"this model reads {trained:,} tokens already", where="extend.context.length",
                         fix="give a longer one")
    return extended(source, settings.context)


def _measure(settings: ExtendSettings, tokenizer: Tokenizer, trained: int) -> Measure:
    """At the trained length and, doubled again and again, up to the new one."""
    lengths = [trained]
    while 2 * lengths[-1] < settings.trainer.sequence_length:
        lengths.append(2 * lengths[-1])
    return Measure.of(settings.measure, settings.corpus, tokenizer, [*lengths, settings.trainer.sequence_length],
                      settings.seed)


def _before(settings: ExtendSettings, measure: Measure, out: Path) -> dict[str, Measured]:
    """The model as it is, and as it is read by the method; kept, so that a run that goes on does not take them again.
    """
    ways: dict[str, ContextSettings | None] = {"before": None}
    if settings.context.method is not None or settings.context.log_n:
        ways["untrained"] = settings.context
    if not (out / BEFORE).exists():
        found = {}
        for name, context in ways.items():
            say(f"measuring the model {name}")
            found[name] = measure.take(_engine(settings.model, measure, settings.trainer, context))
        measure.keep(found, out / BEFORE)
        trim_heap()  # what training takes is counted from here
    return measure.kept(out / BEFORE, ways)


def _engine(folder: Path, measure: Measure, trainer: TrainerSettings, context: ContextSettings | None = None) -> Engine:
    return Engine.load(folder, max_batch=1, max_length=measure.lengths[-1], device=trainer.training_device(),
                       context=context)


def _tell_rows(batches: LongBatches, epochs: float) -> None:
    whole = int((batches.pieces.sizes == batches.length).sum())
    others, rows = len(batches.pieces.sizes) - whole, batches.long_rows
    say(f"{rows:,} long rows, {batches.fill:.0%} full: {whole:,} of one document's {batches.length:,} tokens, "
        f"{rows - whole:,} of {others:,} shorter pieces; {batches.replay_rows:.0%} of all rows are replay")
    if not whole:
        say(f"note: no document fills a row; the longest piece has {batches.pieces.sizes.max():,} tokens")
    if epochs > 1:
        say(f"note: the corpus has few long documents for this training: they are read {epochs:.1f} times")


def _keep(measure: Measure, found: dict[str, Measured], out: Path) -> None:
    measure.tell(found)
    write_json(out / RESULT, measure.as_json(found))
    try:
        write_text(out / "extend.svg", measure.drawn(found))
    except MissingExtraError as error:  # what was trained and measured stays
        say(f"note: no extend.svg: {error}")


def _figures(found: dict[str, Measured], lengths: Sequence[int]) -> dict[str, float]:
    """Named QUANTITY.LENGTH.WHEN."""
    losses = {f"perplexity.{length}.{name}": one.loss[length].perplexity
              for length in lengths for name, one in found.items()}
    return losses | {f"found.{length}.{name}": one.found(length)
                     for length in lengths for name, one in found.items() if one.scores}
