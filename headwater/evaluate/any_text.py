"""Bits per byte on any text: files and folders that are no corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.tokenizer.shards import Loaded
from headwater.tokenizer.texts import read_texts
from headwater.train.validation import bits_per_byte


def measure(engine: Engine, path: Path) -> dict[str, float]:
    """By language, of a file or of every file below a folder, as `tokenizer.texts.read_texts` reads them; each text
    between the start and the end token, as in validation. Raises `InputError` where there is no text."""
    found = list(read_texts(path))
    if not found:
        raise InputError("no text here", where=path, fix="give UTF-8 text, JSON, JSON lines or Parquet")
    tokenizer = engine.tokenizer
    rows = [[tokenizer.bos, *ids, tokenizer.eos] for ids in tokenizer.encode_batch([text for text, _ in found])]
    texts = Loaded(np.fromiter((token for row in rows for token in row), np.uint32),
                   np.cumsum([0, *map(len, rows)], dtype=np.int64), [language for _, language in found],
                   np.array([len(text.encode()) for text, _ in found]))
    return bits_per_byte(engine.model, texts, engine.max_length)
