"""Real text in pieces of one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headwater.documents import corpus_files
from headwater.errors import InputError
from headwater.progress import say
from headwater.tokenizer import Tokenizer


def corpus_texts(corpus: Path, split: str = "validation") -> Iterator[tuple[str, str]]:
    """(language, text) of a split. Raises `InputError`."""
    for file in corpus_files(corpus, split):
        for batch in file.batches(["text", "language"]):
            yield from zip(batch["language"].to_pylist(), batch["text"].to_pylist(), strict=True)


def pieces(texts: Iterable[tuple[str, str]], tokenizer: Tokenizer, length: int, count: int, seed: int, *,
           where: Path) -> Tensor:
    """`count` pieces of `length` tokens, a `<bos>` first, drawn from all that the texts hold, int64 [count,length].

    Texts that are too short are joined end to end where the long ones give too few, and fewer pieces come where even
    those do not suffice; both is said. Raises `InputError` below two.
    """
    short: list[int] = []
    found: list[list[int]] = []
    for _, text in texts:
        ids = tokenizer.encode(text)
        own = _cut(ids, length)
        found += [[tokenizer.bos, *piece] for piece in own]
        short += [] if own else [tokenizer.bos, *ids]
    draw = np.random.default_rng(seed)
    found = [found[place] for place in draw.permutation(len(found))[:count]]
    if len(found) < count:
        joined = [[tokenizer.bos, *piece] for piece in _cut(short, length)]
        joined = [joined[place] for place in draw.permutation(len(joined))[: count - len(found)]]
        found += joined
        say(f"note: texts of {length:,} tokens: {len(found)}, {len(joined)} of them of several documents end to end")
    if len(found) < 2:
        raise InputError(f"the validation split has {len(found)} pieces of {length:,} tokens", where=where,
                         fix="give shorter lengths, or a larger corpus")
    return torch.tensor(found)


def _cut(ids: list[int], length: int) -> list[list[int]]:
    """Pieces with room for a `<bos>` each."""
    return [ids[start : start + length - 1] for start in range(0, len(ids) - length + 2, length - 1)]
