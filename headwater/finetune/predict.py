"""What a trained head tells of new texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field

from headwater.artifacts import make_folder, write_jsonl
from headwater.errors import InputError
from headwater.finetune.examples import Columns, Reader, rows_of, text_of
from headwater.finetune.task import scores
from headwater.model import Decoder
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.progress import say, track
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, lay
from headwater.train.packing import PrefixSample, as_sample

AT_ONCE = 4096
"""Tokens of one pass."""


class PredictSettings(Settings):
    """Which texts."""

    texts: list[InputPath] = Field(min_length=1)
    """JSON lines, JSON arrays, or CSV with a header."""
    columns: Columns = Columns()


class Predictor(NamedTuple):
    """A model with its head."""

    model: Decoder
    head: TaskHead
    reader: Reader
    pad: int

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """From what the task stage wrote. Raises `CheckpointError`."""
        head, source, length = TaskHead.load(folder)
        model, tokenizer = load_model(source), Tokenizer.load(source)
        return cls(model, head, Reader(tokenizer, model.config, head.kind, length), tokenizer.pad)

    @torch.inference_mode()
    def scores(self, texts: Sequence[str | list[str]]) -> Iterator[list[list[float]]]:
        """For every text, at its end or at each of its words: probabilities of the labels, or a regression's numbers.

        Of a text longer than those of the training the beginning is read, as there, and said how many these are.
        Raises `InputError` for one whose words are to be told.
        """
        waiting: list[PrefixSample] = []
        for number, text in enumerate(track(texts, "reading texts"), 1):
            sample = self.reader.sample(text, list(range(len(text))) if isinstance(text, list) else 0)
            if sample is None:
                raise InputError(f"text {number} is longer than the {self.reader.length:,} tokens that the head was "
                                 "trained on, and every word is to be told", fix="cut it into several texts")
            if waiting and sum(len(one.ids) for one in (*waiting, sample)) > AT_ONCE:
                yield from self._read(waiting)
                waiting = []
            waiting.append(sample)
        yield from self._read(waiting)
        self.reader.tell_cut(len(texts))

    def _read(self, samples: list[PrefixSample]) -> list[list[list[float]]]:
        """Several texts in one row, none of which sees another."""
        axes = self.model.config.position_axes
        row = [as_sample(one, 0, axes) for one in samples]
        batch = lay([row], sum(len(one.tokens) for one in row), pad=self.pad, axes=axes).to(self.model.device)
        found = scores(self.model, self.head, batch)
        told = found * self.head.spread + self.head.mean if self.head.kind == "regression" else found.softmax(-1)
        return [part.tolist() for part in told.split([int((one.targets != IGNORE).sum()) for one in row])]


def predict(folder: Path, out: Path, settings: PredictSettings) -> None:
    """Write `predictions.jsonl` below `out`: the label, or the labels of the words, with their probability; or the
    number."""
    predictor = Predictor.load(folder)
    texts = [text_of(row.value, row.place, settings.columns, predictor.head.kind)
             for path in settings.texts for row in rows_of(path)]
    if not texts:
        raise InputError("no texts", where=", ".join(map(str, settings.texts)), fix="give rows with a text")
    make_folder(out, fix="give another folder")
    write_jsonl(out / "predictions.jsonl", (_told(predictor.head, text, found)
                                            for text, found in zip(texts, predictor.scores(texts), strict=True)))
    say(f"{len(texts):,} texts: {out / 'predictions.jsonl'}")


def _told(head: TaskHead, text: str | list[str], found: list[list[float]]) -> dict[str, Any]:
    if head.kind == "regression":
        return {"text": text, **dict(zip(head.labels, found[0]))}
    best = [max(range(len(each)), key=each.__getitem__) for each in found]
    labels = [head.labels[number] for number in best]
    sure = [round(each[number], 4) for each, number in zip(found, best)]
    return {"text": text, "label": labels if head.kind == "tokens" else labels[0],
            "probability": sure if head.kind == "tokens" else sure[0]}
