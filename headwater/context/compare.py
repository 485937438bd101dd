"""`headwater context compare`: one model under every method, by perplexity and by what it finds again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from headwater.artifacts import make_folder, write_json, write_text
from headwater.context.check import described
from headwater.context.measure import Measure, Measured, MeasureSettings
from headwater.generate.engine import Engine
from headwater.generate.run_folder import find_model
from headwater.model import ModelConfig
from headwater.model.checkpoint import read_config
from headwater.model.extension import ContextSettings, extended
from headwater.plots import heat_maps
from headwater.progress import say
from headwater.settings import InputPath, Seed
from headwater.tokenizer import Tokenizer

Method = Literal["none", "linear", "ntk", "dynamic", "yarn", "llama3", "base", "ratio"]


class CompareSettings(MeasureSettings):
    """What is compared, on what text."""

    corpus: InputPath
    """A corpus folder: the text of its validation split, of both languages, is read and needles are hidden in it."""
    methods: Annotated[list[Method], Field(min_length=1)] | None = None
    """none: the model as it is, read on beyond its length. When not set, that and, of a model with rotary positions,
    linear, ntk, dynamic, yarn and llama3."""
    base: float | None = Field(default=None, gt=1)
    """Of the method base."""
    ratio: float | None = Field(default=None, ge=1)
    """Of the method ratio."""
    lengths: list[Annotated[int, Field(ge=64)]] | None = None
    """Tokens; the model's own length, twice and four times it when not set."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits(self) -> CompareSettings:
        for name in ("base", "ratio"):
            if (getattr(self, name) is not None) != (name in (self.methods or ())):
                raise ValueError(f"{name} is given if and only if methods names it")
        return self


def compare(model: Path, out: Path, settings: CompareSettings) -> None:
    """Print a table; write `compare.json`, `perplexity.svg` and, of every task, `TASK.svg` into `out`.

    Raises `InputError` for a model, method or length that cannot be, before any work.
    """
    folder = find_model(model)
    config, tokenizer = read_config(folder)[0], Tokenizer.load(folder)
    trained = config.max_position_embeddings
    lengths = sorted(settings.lengths or [trained, 2 * trained, 4 * trained])
    rotary: list[Method] = ["linear", "ntk", "dynamic", "yarn", "llama3"] if config.position == "rope" else []
    contexts = {method: _context(method, lengths[-1], config, settings)
                for method in settings.methods or ["none", *rotary]}
    configs = {method: config if context is None else extended(config, context)
               for method, context in contexts.items()}
    measure = Measure.of(settings, settings.corpus, tokenizer, lengths, settings.seed)
    make_folder(out, fix="give another folder")
    found: dict[str, Measured] = {}
    for method, context in contexts.items():
        say(f"{method}: {described(configs[method], lengths[-1])}")
        found[method] = measure.take(Engine.load(folder, max_batch=1, max_length=lengths[-1], context=context))
    measure.tell(found)
    write_json(out / "compare.json", measure.as_json(found))
    write_text(out / "perplexity.svg", measure.drawn(found))
    _draw_depths(out, measure, found)


def _context(method: Method, length: int, config: ModelConfig, settings: CompareSettings) -> ContextSettings | None:
    if method == "none" or length <= config.max_position_embeddings:
        return None
    return ContextSettings.parse({"length": length, "method": method,
                                  **({method: getattr(settings, method)} if method in ("base", "ratio") else {})})


def _draw_depths(out: Path, measure: Measure, found: dict[str, Measured]) -> None:
    """A heat map of length and depth for every task and language, the methods side by side."""
    lengths, depths = measure.lengths, measure.settings.depths
    for number, one in enumerate(next(iter(found.values())).scores):
        maps = {method: [[taken.scores[number].right[length][row] for length in lengths] for row in range(len(depths))]
                for method, taken in found.items()}
        write_text(out / f"{one.task}.{one.language}.svg", heat_maps(
            maps, [f"{length:,}" for length in lengths], [f"{depth:.0%}" for depth in depths], x="tokens",
            y="depth of the needle", title=f"{one.task}, {one.language}: share found again"))
