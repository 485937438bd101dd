"""The text that a model reads to be measured: pieces drawn from all of it, in rows of one length."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from headwater.documents import corpus_files
from headwater.documents import read_texts as documents_of
from headwater.errors import InputError
from headwater.model import ModelConfig
from headwater.progress import say
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.texts import read_texts

PIECE = 8
"""Characters read for every token wanted: more than a token has in any language."""
LONGEST = 1024
"""Tokens of a row where nobody asks for more."""


class CalibrationSettings(Settings):
    """What text, and how much of it."""

    text: InputPath | None = None
    """A file of text, or a corpus folder, of which the training split is read; the stage's corpus when not set."""
    tokens: Annotated[int, Field(ge=2)] = 32_768
    length: Annotated[int, Field(ge=2)] | None = None
    """Tokens of a row; as many as the model was trained to read, 1,024 at most, when not set."""

    def source(self, corpus: Path | None) -> Path:
        """The file or folder that is read. Raises `InputError` where none is given."""
        found = self.text or corpus
        if found is None:
            raise InputError("no text for the model to read", where="calibration.text",
                             fix="give corpus=FOLDER, or calibration.text=FILE")
        return found

    def rows(self, corpus: Path | None, tokenizer: Tokenizer, config: ModelConfig, seed: int) -> Tensor:
        """int64 [N,T]. Raises `InputError` where there is no text, or too little for one row."""
        source = self.source(corpus)
        length = self.length or min(config.max_position_embeddings, LONGEST, self.tokens)
        if length > self.tokens:
            raise InputError(f"rows of {length:,} tokens, and {self.tokens:,} in all", where="calibration.length",
                             fix="give shorter rows, or more tokens")
        read = documents_of(corpus_files(source, "train")) if source.is_dir() else read_texts(source)
        texts = drawn((text for text, _ in read), PIECE * self.tokens, PIECE * length, seed)
        if not texts:
            raise InputError("it is empty" if source.is_file() else "it holds no text", where=source,
                             fix="give a file of text")
        found = _rows(texts, tokenizer, first_of(config, tokenizer), length, self.tokens // length)
        if not len(found):
            raise InputError(f"the text has no row of {length:,} tokens", where=source,
                             fix="give more text, or a shorter calibration.length")
        if found.numel() < self.tokens // length * length:
            say(f"note: the text has {found.numel():,} tokens, fewer than calibration.tokens={self.tokens:,}")
        return found


def first_of(config: ModelConfig, tokenizer: Tokenizer) -> list[int]:
    """What every row begins with: `<bos>`, or the marks behind which a model of prefixes goes on with nothing."""
    return [config.prefix_ids[0], config.prefix_ids[-1]] if config.prefix_ids else [tokenizer.bos]


def drawn(texts: Iterable[str], characters: int, longest: int, seed: int) -> list[str]:
    """Pieces of `longest` characters at most, drawn from all the texts in one pass until they hold so many; no more
    than these are in memory."""
    draw, total = np.random.default_rng(seed), 0
    held: list[tuple[float, int, str]] = []
    pieces = (text[start : start + longest] for text in texts for start in range(0, len(text), longest))
    for number, piece in enumerate(pieces):
        heappush(held, (-draw.random(), number, piece))
        total += len(piece)
        while total - len(held[0][2]) >= characters:
            total -= len(heappop(held)[2])
    return [piece for _, _, piece in sorted(held, reverse=True)]


def _rows(texts: list[str], tokenizer: Tokenizer, first: list[int], length: int, count: int) -> Tensor:
    """The texts end to end, a `<bos>` between them, cut into rows."""
    ids: list[int] = []
    own = length - len(first)
    for text in texts:
        if len(ids) >= count * own:
            break
        ids += [*([tokenizer.bos] if ids else []), *tokenizer.encode(text)]
    whole = min(count, len(ids) // own)
    return torch.tensor([[*first, *ids[row * own : (row + 1) * own]] for row in range(whole)])
