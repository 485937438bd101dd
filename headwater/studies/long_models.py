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
from headwater.context.retrieval import ANSWER_TOKENS, Haystack, Language, Question, Task, questions, right
from headwater.context.texts import corpus_texts, pieces
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder, ModelConfig
from headwater.model.checkpoint import load_model, save_model
from headwater.model.extension import ContextSettings
from headwater.model.replacement import KEPT, add_by_position, difference
from headwater.progress import say
from headwater.studies.asked import AskedBatches, haystacks
from headwater.studies.learners import ShapedSettings, train
from headwater.studies.trials import once
from headwater.train.objective import next_token
from headwater.train.trainer import Trainer

TASKS: tuple[Task, ...] = ("passkey", "needle", "several")
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
LAST = 64
"""Tokens that the perplexity is of."""
STRENGTHS = (1.0, 1.1, 1.2)
"""Tried of new positional vectors, behind every block, on texts that nothing else is measured on."""
SINKS = 4


class LongSettings(ShapedSettings):
    """The models, and what they are measured on."""

    quick: bool = False
    """One seed, half of the steps and half of the questions; what else is given stays."""
    hidden_size: Annotated[int, Field(ge=16)] = 128
    layers: Annotated[int, Field(ge=2)] = 4
    heads: Annotated[int, Field(ge=1)] = 4
    length: Annotated[int, Field(ge=256)] = 256
    """Tokens in a row, to which the models are trained."""
    rows: Annotated[int, Field(ge=2)] = 16
    steps: Annotated[int, Field(ge=1)] = 1200
    factor: Annotated[int, Field(ge=2, le=16)] = 4
    """Times the trained length that they are read up to."""
    asked: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of rows in which a needle is asked for."""
    low_base: Annotated[float, Field(gt=1)] = 10.0
    """RoPE's base of the model below the bound."""
    tuned_steps: Annotated[int, Field(ge=1)] = 60
    """Of the short training at the longer length, as many rows for each."""
    tuned_rate: Annotated[float, Field(gt=0)] = 5e-4
    texts: Annotated[int, Field(ge=4)] = 64
    """Whose perplexity is taken."""
    each: Annotated[int, Field(ge=1)] = 4
    """Questions of every task, language, length and depth."""
    vector_texts: Annotated[int, Field(ge=16)] = 512
    """Over which positional vectors are means."""

    @model_validator(mode="before")
    @classmethod
    def _quickly(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not values.get("quick"):
            return values
        whole = {name: cls.model_fields[name].default for name in ("steps", "each", "texts", "vector_texts")}
        return {"seeds": 1, **{name: value // 2 for name, value in whole.items()}, **values}

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
    """Of one model read in one way."""

    loss: dict[str, float]
    """In nats a token, by length (JSON has no other keys than words)."""
    found: dict[str, dict[str, list[float]]]
    """By length and task: the share of needles found again at every depth."""

    def share(self, length: int, depths: slice = slice(None)) -> float:
        return float(np.mean([shares[depths] for shares in self.found[str(length)].values()]))


class Laboratory:
    """Models of one seed, trained and measured; what is done already is read from the folder."""

    def __init__(self, settings: LongSettings, out: Path, seed: int) -> None:
        self.settings, self.out, self.seed = settings, out, seed
        self.text = settings.text(out / "text")
        self.source = settings.tokenizer or out / "text" / "tokenizer"

    def measured(self, way: Way) -> Measured:
        def measure() -> dict[str, Any]:
            say(f"long-context: {way.kind}, {way.name}, model {self.seed}")
            return self._measure(self._model(way))._asdict()

        return Measured(**once(self._folder(way) / "measured.json", measure))

    def stretching(self) -> float:
        """By how much the positional vectors of the model with a window are stretched when its window is widened: the
        inverse slope of the likest old position over the new one, behind the last block."""
        def measure() -> float:
            wide = ContextSettings(length=self.settings.longest, method="window")
            old = self.vectors(self.trained("window"), self.settings.length)[-1]
            new = self.vectors(self.trained("window", wide), self.settings.longest)[-1]
            return effective_ratio(old, new)

        return float(once(self.out / f"window-{self.seed}" / "stretching.json", measure))

    def trained(self, kind: str, context: ContextSettings | None = None) -> Decoder:
        folder, settings = self.out / f"{kind.replace(', ', '-').replace(' ', '-')}-{self.seed}", self.settings
        if not (folder / "model" / "config.json").exists():
            say(f"long-context: training {kind}, model {self.seed}")
            config = settings.shaped(self.text.vocabulary, **fields_of(kind, settings))
            model = train(folder, config, self._batches(settings), settings.trainer(), self.seed)
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

    def _batches(self, settings: LongSettings) -> AskedBatches:
        asked = round(settings.asked * settings.rows)
        return AskedBatches(settings.stream(self.text, self.seed), self._hay, TASKS, asked, self.seed)

    def _model(self, way: Way) -> Decoder:
        if way.name in ("vectors replaced", "shuffled vectors"):
            return self._replaced(shuffled=way.name == "shuffled vectors")
        return self._tuned(way) if way.tuned else self.trained(way.kind, way.context)

    def _tuned(self, way: Way) -> Decoder:
        longer = self.settings.model_copy(update={"length": self.settings.longest, "rows": 8})
        trainer = longer.trainer_of(self.settings.tuned_steps, learning_rate=self.settings.tuned_rate)
        model = self.trained(way.kind, way.context).float()
        folder = self._folder(way)
        folder.mkdir(parents=True, exist_ok=True)
        Trainer(model, next_token, self._batches(longer), trainer).fit(folder)
        return model.eval()

    def _replaced(self, *, shuffled: bool) -> Decoder:
        """With the layer and strength that do best on texts of their own; shuffled: the same with the vectors of other
        positions."""
        vectors = self.vectors(self.trained("none"), self.settings.longest)

        def with_vectors(layer: int, strength: float, given: Tensor) -> Decoder:
            model = self.trained("none", ContextSettings(length=self.settings.longest))
            there = difference(given[layer], self.settings.length, self.settings.factor, strength)
            add_by_position(model, layer, there + given[layer] - vectors[layer] if shuffled else there)
            return model

        tried = {(layer, strength): by_length(with_vectors(layer, strength, vectors), self._spare,
                                              [self.settings.longest], LAST)[self.settings.longest].mean
                 for layer in range(1, self.settings.layers) for strength in STRENGTHS}
        return with_vectors(*min(tried, key=lambda one: tried[one]), vectors)

    def _measure(self, model: Decoder) -> Measured:
        loss = by_length(model, self._texts, self.settings.lengths, LAST)
        engine = Engine(model, self.text.tokenizer, max_batch=16, max_length=self.settings.longest)
        params = SamplingParams(max_tokens=ANSWER_TOKENS, temperature=0)
        answers = engine.generate([one.prompt for one in self._asked], params)
        heard = [(one, right(one, answer.text)) for one, answer in zip(self._asked, answers, strict=True)]
        return Measured({str(length): one.mean for length, one in loss.items()},
                        {str(length): {task: _shares(heard, length, task) for task in TASKS}
                         for length in self.settings.lengths})

    @cached_property
    def _hay(self) -> dict[Language, Haystack]:
        return haystacks(self.text, "train")

    @cached_property
    def _asked(self) -> list[Question]:
        return [one for hay in haystacks(self.text, "validation").values() for task in TASKS
                for one in questions(task, hay, lengths=self.settings.lengths, depths=DEPTHS,
                                     each=self.settings.each, seed=0)]

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


def _shares(heard: list[tuple[Question, bool]], length: int, task: Task) -> list[float]:
    """Of right answers, by depth."""
    return [float(np.mean([ok for one, ok in heard if (one.length, one.task, one.depth) == (length, task, depth)]))
            for depth in DEPTHS]


def effective_ratio(old: Tensor, new: Tensor) -> float:
    """How far positional vectors [T,D] are stretched in others of more positions [S,D]: 1 over the slope, through the
    origin, of the old position whose vector is likest to that of a new one. The first `KEPT` are left out, and what
    is likest to the very end, beyond which there is nothing old."""
    one, two = (x - x[KEPT:].mean(0) for x in (old, new))
    likest = torch.nn.functional.normalize(two, dim=-1) @ torch.nn.functional.normalize(one, dim=-1)[KEPT:].T
    found = likest[KEPT:].argmax(1).double()
    places = torch.arange(len(found), dtype=torch.float64)
    inside = found < len(old) - KEPT - 1
    return float((places[inside] ** 2).sum() / (places[inside] * found[inside]).sum().clamp(min=1e-9))
