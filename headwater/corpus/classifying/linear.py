"""A linear classifier of texts: hashed n-grams, one byte a weight, thousands of documents a second."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.artifacts import atomic_write
from headwater.corpus.classifying.ngrams import FeatureSettings, ngrams
from headwater.errors import InputError
from headwater.settings import Settings, nearest_name

F64 = NDArray[np.float64]
SHIPPED = ("machine", "ocr", "toxicity")
"""Classifiers that come with the package, by name."""
_LEVELS = 127
_BATCH = 50_000
"""Characters scored at once."""


class Model(Settings):
    """What a weights file says of itself."""

    name: str
    """What the positive class is called."""
    features: FeatureSettings
    """The n-grams it was trained on."""
    window: int = Field(ge=0)
    """Longer texts are cut into windows of so many characters, whose log-odds are averaged; 0 never cuts."""
    bias: float
    """Log-odds of a text without n-grams."""
    scale: float = Field(gt=0)
    """Weight of the highest code."""
    thresholds: dict[str, float]
    """Per language (ISO 639-1), the probability from which a text counts as positive."""


class Classifier:
    """`codes` [2^bits] int8: the weight of bucket b is sign(c) scale (c / 127)^2, so that small ones keep digits."""

    def __init__(self, model: Model, codes: NDArray[np.int8]) -> None:
        self.model, self.codes = model, codes
        shares = codes.astype(np.float32) / _LEVELS
        self._weights = np.sign(shares) * shares * shares * np.float32(model.scale)

    def __reduce__(self) -> tuple[type[Classifier], tuple[Model, NDArray[np.int8]]]:
        return Classifier, (self.model, self.codes)

    @classmethod
    def from_weights(cls, model: Model, weights: F64) -> Classifier:
        """Round float weights [2^bits] to one byte each; `model.scale` is taken from them."""
        scale = float(np.abs(weights).max()) or 1.0
        codes = np.rint(np.sign(weights) * _LEVELS * np.sqrt(np.abs(weights) / scale)).astype(np.int8)
        return cls(model.model_copy(update={"scale": scale}), codes)

    @classmethod
    def load(cls, path_or_name: str | Path, *, task: str | None = None) -> Classifier:
        """A shipped classifier by name, or weights that `training.train_classifier` wrote.

        task: what it is wanted for, one of `SHIPPED`. Raises `InputError` when there is no such file, it holds
        something else, or was trained for another of these tasks.
        """
        found = _shipped(path_or_name) if path_or_name in SHIPPED else _read(_weights_file(Path(path_or_name)))
        if task is not None and found.model.name in SHIPPED and found.model.name != task:
            raise InputError(f"this classifier tells '{found.model.name}', not '{task}'", where=path_or_name,
                             fix=f"give one trained for '{task}', or leave it to the shipped one")
        return found

    def save(self, path: Path) -> None:
        """Write a safetensors file that `load` reads."""
        from safetensors.numpy import save

        # One line of metadata: nothing in the file decides what code runs.
        blob = save({"codes": self.codes}, {"model": json.dumps(self.model.model_dump(), sort_keys=True)})
        with atomic_write(path) as stream:
            stream.write(blob)

    def probability(self, texts: Sequence[str]) -> F64:
        """Chance that each text is positive: [len(texts)], as the balance of the training rows had it."""
        return 1 / (1 + np.exp(-self.log_odds(texts)))

    def log_odds(self, texts: Sequence[str]) -> F64:
        """Log-odds of each text [len(texts)]: those of its windows, averaged."""
        pieces = [cut(text, self.model.window) for text in texts]
        flat = [piece for part in pieces for piece in part]
        scores = np.concatenate([[], *map(self._score, _batches(flat))])
        if len(flat) == len(texts):
            return scores
        starts = np.concatenate([[0], np.cumsum([len(part) for part in pieces])])
        return np.array([scores[first:last].mean() for first, last in itertools.pairwise(starts)])

    def threshold(self, language: str) -> float | None:
        """The probability from which a text in that language is positive; None where it was not calibrated."""
        return self.model.thresholds.get(language)

    def _score(self, texts: list[str]) -> F64:
        totals, counts = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
        for buckets, starts, ends in ngrams(texts, self.model.features):
            some = np.flatnonzero(ends > starts)
            if len(some):
                weights = np.append(self._weights.take(buckets), np.float32(0))  # an end may lie beyond the last
                bounds = np.stack([starts[some], ends[some]], 1).reshape(-1)
                totals[some] += np.add.reduceat(weights, bounds, dtype=np.float64)[::2]
            counts += ends - starts
        return totals / np.sqrt(np.maximum(counts, 1)) + self.model.bias


def _batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def cut(text: str, characters: int) -> list[str]:
    """The text in windows of about equal length, at most so many characters each (0: one window, all of it)."""
    count = -(-len(text) // characters) if characters else 1
    if count <= 1:
        return [text]
    edges = [len(text) * number // count for number in range(count + 1)]
    return [text[first:last] for first, last in itertools.pairwise(edges)]


@lru_cache(maxsize=8)
def _shipped(name: str) -> Classifier:
    return _read(Path(str(files("headwater.corpus.classifying") / "weights" / f"{name}.safetensors")))


def _weights_file(path: Path) -> Path:
    """A folder stands for the one weights file in it."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise InputError(f"{len(found)} weights files in the folder, expected one", where=path,
                             fix="give the .safetensors file itself")
        return found[0]
    return path


def _read(path: Path) -> Classifier:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as stream:
            metadata, names = stream.metadata() or {}, list(stream.keys())
            if "model" not in metadata or names != ["codes"]:
                raise InputError("these are not a text classifier's weights", where=path,
                                 fix="give weights that 'headwater corpus classifier' wrote")
            codes = stream.get_tensor("codes")
        model = Model.parse(json.loads(metadata["model"]), where=path)
    except FileNotFoundError:
        nearest = nearest_name(str(path), SHIPPED)
        raise InputError("no such classifier", where=path, fix=f"did you mean '{nearest}'?" if nearest else
                         f"give a weights file, or one of {', '.join(SHIPPED)}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"cannot be read as classifier weights: {error}", where=path, fix="train them again") from None
    if codes.dtype != np.int8 or codes.shape != (1 << model.features.bits,):
        raise InputError(f"expected {1 << model.features.bits} bytes of weights, found {codes.shape} {codes.dtype}",
                         where=path, fix="train them again")
    return Classifier(model, codes)
