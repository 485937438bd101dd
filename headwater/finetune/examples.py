"""Texts with what is to be said of them: files of labelled examples, and as rows of a model."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from headwater.artifacts import not_utf8
from headwater.dialogues.rows import Row, read_rows
from headwater.errors import InputError
from headwater.model import ModelConfig
from headwater.model.task_head import Kind
from headwater.progress import say
from headwater.settings import Settings, nearest_name
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, counted
from headwater.train.blanks import glm_ids
from headwater.train.packing import PrefixSample

Label = str | float | list[str]


class Columns(Settings):
    """Which fields of a row hold what."""

    text: str = Field(default="text", min_length=1)
    """A text; for kind tokens the list of its words."""
    label: str = Field(default="label", min_length=1)
    """A label; for regression a number; for kind tokens a list with one label a word."""


class Example(NamedTuple):
    text: str | list[str]
    label: Label


def read_examples(paths: Iterable[Path], columns: Columns, kind: Kind) -> list[Example]:
    """Of JSON lines, a JSON array, or CSV with a header. Raises `InputError` with file and row for one that lacks a
    field or holds something else in it."""
    found = [_example(row.value, row.place, columns, kind) for path in paths for row in rows_of(path)]
    if not found:
        raise InputError("no examples", where=", ".join(map(str, paths)), fix="give rows with a text and a label")
    return found


def rows_of(path: Path) -> Iterator[Row]:
    """A file's rows, one after the other. Raises `InputError`."""
    if path.suffix != ".csv":
        yield from read_rows(path)
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 1):
                yield Row(row, f"{path}, row {number}")
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except (OSError, csv.Error) as error:
        raise InputError(f"not a CSV file: {error}", where=path, fix="write the file again") from None


def text_of(row: Any, where: str, columns: Columns, kind: Kind) -> str | list[str]:
    """A row's text, or its words. Raises `InputError`."""
    text = _field(row, columns.text, "text", where)
    if kind == "tokens":
        if not _words(text):
            raise InputError("the text is not a list of words", where=where, fix='write {"text": ["He", "left"], ...}')
    elif not isinstance(text, str) or not text.strip():
        raise InputError("the text is empty or no string", where=where, fix="remove the row")
    found: str | list[str] = text
    return found


def _example(row: Any, where: str, columns: Columns, kind: Kind) -> Example:
    text, label = text_of(row, where, columns, kind), _field(row, columns.label, "label", where)
    if kind != "tokens":
        return Example(text, _number(label, where) if kind == "regression" else str(label))
    if not _words(label) or len(text) != len(label):
        raise InputError("the label is not a list of one label a word", where=where,
                         fix='write {"text": ["He", "left"], "label": ["O", "O"]}')
    return Example(text, label)


def _field(row: Any, name: str, field: str, where: str) -> Any:
    if not isinstance(row, dict):
        raise InputError(f"expected an object, found {type(row).__name__}", where=where, fix="write one object a row")
    if row.get(name) is None:
        known = [str(key) for key in row if key]
        nearest = nearest_name(name, known)
        raise InputError(f"no field {name!r}", where=where, fix=f"set columns.{field}=" + (
            f"{nearest}" if nearest else f"NAME to one of {', '.join(known)}"))
    return row[name]


def _words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)


def _number(value: Any, where: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not np.isfinite(found):
        raise InputError(f"the label {value!r} is not a number", where=where, fix="correct the row")
    return found


class Reader:
    """How a model reads a text that it shall answer about, and at which tokens it answers.

    Causal models read `<bos> text <eos>` and answer at its end. Models that were trained to fill blanks (ChatGLM-6B,
    GLM) read text and [gMASK] both ways and answer at <sop>, where the blank's first token would be told.
    """

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig, kind: Kind, length: int) -> None:
        self.tokenizer, self.axes, self.kind, self.length = tokenizer, config.position_axes, kind, length
        self.blank = glm_ids(tokenizer) if config.prefix_ids or config.position_axes == 2 else None
        self.cut = 0
        """Texts of which the beginning alone was read, since it was told."""

    def sample(self, text: str | list[str], asked: int | list[int]) -> PrefixSample | None:
        """A text, and what is asked at its end, or at every word; None where a text to be answered word by word does
        not fit. Any other keeps its beginning."""
        ids, places = self._ids(text)
        if len(ids) > self.length - 2 and self.kind == "tokens":
            return None
        self.cut += len(ids) > self.length - 2
        ids = ids[: self.length - 2]
        before, after = ([], [self.blank.gmask, self.blank.sop]) if self.blank else (
            [self.tokenizer.bos], [self.tokenizer.eos])
        whole = [*before, *ids, *after]
        targets = np.full(len(whole), IGNORE)
        if isinstance(asked, list):
            targets[np.array(places) + len(before)] = asked
        else:
            targets[-1] = asked
        prefix = len(whole) - 1 if self.blank else 0
        return PrefixSample(whole, [False] * len(whole), prefix, targets.tolist(), self._positions(len(whole)))

    def tell_cut(self, texts: int) -> None:
        """Say how many of so many were cut."""
        if self.cut:
            say(f"of {texts:,} texts, {self.cut:,} are longer than {self.length} tokens: their beginning is read")
        self.cut = 0

    def _ids(self, text: str | list[str]) -> tuple[list[int], list[int]]:
        """The text's ids, and where each word begins."""
        if isinstance(text, str):
            return self.tokenizer.encode(text), []
        ids: list[int] = []
        places = []
        for number, word in enumerate(text):
            pieces = self.tokenizer.encode(word if number == 0 or _wide(word) else f" {word}")
            places.append(len(ids))
            ids += pieces
        return ids, places

    def _positions(self, size: int) -> Any:
        positions = counted(size, self.axes)
        if self.blank and self.axes == 2:
            positions[:, -1] = size - 2, 1  # <sop> stands at its mark's place, the first of the blank
        return positions


def _wide(word: str) -> bool:
    """Whether it begins with a character that is written without spaces around it."""
    return "\u2e80" <= word[0] <= "\uffef"
