"""Small models for the study of long contexts: how they are trained, read further and measured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from headwater.context.bound import least_base
from headwater.context.perplexity import by_length
from headwater.context.positional import positional_vectors
from headwater.context.texts import corpus_texts, pieces
from headwater.model import Decoder, ModelConfig
from headwater.model.checkpoint import load_model, save_model
from headwater.model.extension import ContextSettings
from headwater.model.replacement import KEPT, add_by_position, stretched
from headwater.progress import say
from headwater.studies.learners import ShapedSettings, train
from headwater.studies.planted import IDS, Emphasised, PlantedBatches, found
from headwater.studies.trials import once
from headwater.train.optimizer import OptimizerSettings
from headwater.train.trainer import Trainer

DEPTHS = (0.0, 0.25, 0.5, 0.75, 0.95)
"""Where marks are planted, as shares of the text."""
LAST = 64
"""Tokens that the perplexity is of."""
STRENGTHS = (1.0, 1.1, 1.2)
"""Tried of new positional vectors, behind every block, on texts that nothing else is measured on."""
SINKS = 4
EMPHASIS = 5.0
"""Times that an answer counts in training: counted once, 22 % of the marks were found after 500 steps, and 12 % is
chance."""


class LongSettings(ShapedSettings):
    """The models, and what they are measured on."""

    quick: bool = False
    """One seed, 5 of 12 steps and half of the texts; what else is given stays."""
    hidden_size: Annotated[int, Field(ge=16)] = 128
    layers: Annotated[int, Field(ge=2)] = 4
    heads: Annotated[int, Field(ge=1)] = 4
    length: Annotated[int, Field(ge=LAST)] = 128
    """Tokens in a row, to which the models are trained."""
    rows: Annotated[int, Field(ge=2)] = 16
    steps: Annotated[int, Field(ge=1)] = 1200
    learning_rate: Annotated[float, Field(gt=0)] = 6e-3
    factor: Annotated[int, Field(ge=2, le=16)] = 4
    """Times the trained length that they are read up to."""
    planted: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of rows in which marks are asked for."""
    low_base: Annotated[float, Field(gt=1)] = 10.0
    """RoPE's base of the model below the bound."""
    tuned_steps: Annotated[int, Field(ge=1)] = 60
    """Of the short training at the longer length, with half as many rows."""
    tuned_rate: Annotated[float, Field(gt=0)] = 5e-4
    texts: Annotated[int, Field(ge=4)] = 64
    """That are measured."""
    vector_texts: Annotated[int, Field(ge=16)] = 2048
    """Over which positional vectors are means."""

    @model_validator(mode="before")
    @classmethod
    def _quickly(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not values.get("quick"):
            return values
        return {"seeds": 1, "steps": 500, "texts": 32, "vector_texts": 256, **values}

    @property
    def lengths(self) -> list[int]:
        """The trained length and its doubles up to the longest, and that."""
        found, reach = [self.length], self.factor * self.length
        while 2 * found[-1] < reach:
            found.append(2 * found[-1])
        return [*found, reach]

    @property
    def longest(self) -> int:
        return self.lengths[-1]

    def optimizer(self, steps: int, rate: float) -> OptimizerSettings:
        """Muon: marks are learnt in half the steps that AdamW takes."""
        return OptimizerSettings(name="muon", learning_rate=rate, warmup_steps=max(1, min(50, steps // 5)))


KINDS = ("rope", "rope, low base", "alibi", "none", "window")


def fields_of(kind: str, settings: LongSettings) -> dict[str, Any]:
    """Of `ModelConfig`."""
    fields: dict[str, dict[str, Any]] = {
        "rope": {}, "rope, low base": {"rope_theta": settings.low_base}, "alibi": {"position": "alibi"},
        "none": {"position": "none"}, "window": {"position": "none", "sliding_window": settings.length // 4}}
    return fields[kind]


class Way(NamedTuple):
    """A kind of model, and how it is read."""

    kind: str
    name: str
    context: ContextSettings | None
    """None: as it is, or as `name` says."""
    tuned: bool = False
    """Whether it is trained for a little at the longer length."""


def ways(settings: LongSettings) -> list[Way]:
    """All that are compared, `as it is` first of each kind."""
    def rotary(method: str, **more: Any) -> ContextSettings:
        return ContextSettings.parse({"length": settings.longest, "method": method, **more})

    bound = least_base(settings.longest, settings.hidden_size // settings.heads)
    assert bound is not None  # without still dimensions every length has one
    plain = [Way(kind, "as it is", None) for kind in KINDS]
    untrained = [Way("rope", name, rotary(name)) for name in ("linear", "ntk", "dynamic", "yarn", "llama3")]
    further = [
        Way("rope", "base of the bound", rotary("base", base=bound.at)),
        Way("rope", "log-n", ContextSettings(length=settings.longest, log_n=True)),
        Way("rope", "window and sinks", ContextSettings(length=settings.longest, sinks=SINKS,
                                                        window=settings.length - SINKS)),
        Way("rope", "trained on", rotary("base", base=ModelConfig.model_fields["rope_theta"].default), True),
        *(Way("rope", f"{name}, trained on", rotary(name), True) for name in ("linear", "ntk", "yarn")),
        Way("none", "vectors replaced", None), Way("none", "shuffled vectors", None),
        Way("none", "log-n", ContextSettings(length=settings.longest, log_n=True)),
        Way("window", "window widened", rotary("window"))]
    return sorted([*plain, *untrained, *further], key=lambda way: KINDS.index(way.kind))


class Measured(NamedTuple):
    """Of one model read in one way, by length as a word: JSON has no other keys."""

    loss: dict[str, float]
    """In nats a token."""
    found: dict[str, list[float]]
    """Share of marks found again, by depth."""

    def share(self, length: int) -> float:
        return float(np.mean(self.found[str(length)]))


class Laboratory:
    """Models of one seed, trained and measured; what is done already is read from the folder."""

    def __init__(self, settings: LongSettings, out: Path, seed: int) -> None:
        self.settings, self.out, self.seed = settings, out, seed
        self.text = settings.text(out / "text")
        self.source = settings.tokenizer or out / "text" / "tokenizer"
        self.first = self.text.vocabulary  # of the marks' ids

    def measured(self, way: Way) -> Measured:
        def measure() -> dict[str, Any]:
            say(f"long-context: {way.kind}, {way.name}, model {self.seed}")
            return self._measure(self._model(way))._asdict()

        return Measured(**once(self._folder(way) / "measured.json", measure))

    def stretching(self) -> dict[str, float]:
        """How far the positional vectors of the model with a window are stretched, when its window is widened and, as a
        control, when it is not: means over the blocks."""
        def measure() -> dict[str, float]:
            longest = self.settings.longest
            plain = self.trained("window")
            wide = self.trained("window", ContextSettings(length=longest, method="window"))
            old = self.vectors(plain, self.settings.length)
            return {name: float(np.mean([effective_ratio(one, two, 2 * self.settings.factor)
                                         for one, two in zip(old[1:], self.vectors(model, longest)[1:], strict=True)]))
                    for name, model in (("widened", wide), ("as it is", plain))}

        return dict(once(self.out / f"window-{self.seed}" / "stretching.json", measure))

    def trained(self, kind: str, context: ContextSettings | None = None) -> Decoder:
        folder, settings = self.out / f"{kind.replace(', ', '-').replace(' ', '-')}-{self.seed}", self.settings
        if not (folder / "model" / "config.json").exists():
            say(f"long-context: training {kind}, model {self.seed}")
            config = settings.shaped(self.first + -(-IDS // 64) * 64, initializer_range=settings.hidden_size**-0.5,
                                     **fields_of(kind, settings))
            trainer = settings.trainer(optimizer=settings.optimizer(settings.steps, settings.learning_rate))
            model = train(folder, config, self._batches(settings), trainer, self.seed, self._objective)
            save_model(model, folder / "model", tokenizer_from=self.source)
        return load_model(folder / "model", context=context)

    def vectors(self, model: Decoder, length: int) -> Tensor:
        """[1 + layers, length, D], over text that the model was trained on."""
        longer = self.settings.model_copy(update={"length": length, "rows": 16})
        stream = longer.stream(self.text, seed=0)
        steps = range(-(-self.settings.vector_texts // 16))
        return positional_vectors(model, (stream.batch(step).tokens for step in steps)).vectors

    def _folder(self, way: Way) -> Path:
        name = f"{way.kind}-{self.seed}/{way.name}" if way.name != "as it is" else f"{way.kind}-{self.seed}"
        return self.out / name.replace(", ", "-").replace(" ", "-")

    def _batches(self, settings: LongSettings) -> PlantedBatches:
        planted = round(settings.planted * settings.rows)
        return PlantedBatches(settings.stream(self.text, self.seed), planted, self.first, self.seed)

    def _model(self, way: Way) -> Decoder:
        if way.name in ("vectors replaced", "shuffled vectors"):
            return self._replaced(shuffled=way.name == "shuffled vectors")
        return self._tuned(way) if way.tuned else self.trained(way.kind, way.context)

    def _tuned(self, way: Way) -> Decoder:
        steps, rows = self.settings.tuned_steps, max(2, self.settings.rows // 2)
        longer = self.settings.model_copy(update={"length": self.settings.longest, "rows": rows})
        trainer = longer.trainer_of(steps, optimizer=longer.optimizer(steps, longer.tuned_rate))
        model = self.trained(way.kind, way.context).float()
        folder = self._folder(way)
        folder.mkdir(parents=True, exist_ok=True)
        Trainer(model, self._objective, self._batches(longer), trainer).fit(folder)
        return model.eval()

    def _replaced(self, *, shuffled: bool) -> Decoder:
        """By the layer and strength that do best on texts of their own; shuffled: the same, with the trained positions'
        vectors in another order."""
        length, reach = self.settings.length, self.settings.longest
        vectors = self.vectors(self.trained("none"), reach)

        def replaced(layer: int, strength: float, given: Tensor) -> Decoder:
            model = self.trained("none", ContextSettings(length=reach))
            table = strength * stretched(given[layer], length, self.settings.factor) - vectors[layer]
            table[:KEPT] = 0
            add_by_position(model, layer, table)
            return model

        tried = {(layer, strength): by_length(replaced(layer, strength, vectors), self._spare, [reach], LAST)[reach]
                 for layer in range(1, self.settings.layers) for strength in STRENGTHS}
        best = min(tried, key=lambda one: tried[one].mean)
        order = KEPT + np.random.default_rng(self.seed).permutation(length - KEPT)
        other = torch.cat((vectors[:, :KEPT], vectors[:, order], vectors[:, length:]), 1)
        return replaced(*best, other if shuffled else vectors)

    def _measure(self, model: Decoder) -> Measured:
        lengths = self.settings.lengths
        loss = by_length(model, self._texts, lengths, LAST)
        return Measured({str(length): loss[length].mean for length in lengths},
                        {str(length): found(model, self._texts[:, -length:], self.first, DEPTHS) for length in lengths})

    @cached_property
    def _objective(self) -> Emphasised:
        return Emphasised(self.first, EMPHASIS)

    @cached_property
    def _pieces(self) -> Tensor:
        return pieces(corpus_texts(self.text.corpus), self.text.tokenizer, self.settings.longest,
                      2 * self.settings.texts, 0, where=self.text.corpus)

    @property
    def _texts(self) -> Tensor:
        return self._pieces[::2]

    @property
    def _spare(self) -> Tensor:
        """For choosing by."""
        return self._pieces[1::2]


def effective_ratio(old: Tensor, new: Tensor, most: float) -> float:
    """How far positional vectors [T,D] are stretched in those of more positions [S,D]: the ratio, 1 to `most` by
    quarters, at which the first, `stretched` by it, lie nearest to the second, each less its own mean."""
    whole = torch.cat((old, old[-1:].expand(len(new) - len(old), -1))) - old[KEPT:].mean(0)
    centred = new - new[KEPT:].mean(0)
    tried = torch.arange(1, most + 0.25, 0.25).tolist()
    return min(tried, key=lambda ratio: float(
        (stretched(whole, len(old), ratio) - centred)[KEPT:].square().sum(-1).mean()))
