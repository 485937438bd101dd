"""How far a tokenizer compresses texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headwater.tokenizer.vocabulary import Tokenizer


@dataclass(frozen=True)
class Row:
    """One tokenizer on one kind of text in one language. Bytes are UTF-8, characters Unicode code points; `partial` is
    the share of tokens that hold only some bytes of a character."""

    tokenizer: str
    vocab_size: int
    kind: str
    language: str
    texts: int
    bytes: int
    characters: int
    tokens: int
    partial: float

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(1, self.tokens)

    @property
    def characters_per_token(self) -> float:
        return self.characters / max(1, self.tokens)

    @property
    def tokens_per_character(self) -> float:
        """What the Baichuan 2 report calls the compression rate, as far as its column can be reproduced (lower is
        better)."""
        return self.tokens / max(1, self.characters)


class Measured:
    """What a tokenizer makes of the texts that are added."""

    def __init__(self, tokenizer: Tokenizer, threads: int = 1) -> None:
        self._tokenizer, self._threads = tokenizer, threads
        self._partial = np.array([not _is_utf8(tokenizer.decode_bytes([index]))
                                  for index in range(tokenizer.vocab_size)])
        self.texts = self.bytes = self.characters = self.tokens = self.parts = 0

    def add(self, texts: Sequence[str]) -> None:
        ids = self._tokenizer.encode_packed(texts, threads=self._threads).ids
        self.texts += len(texts)
        self.bytes += sum(len(text.encode()) for text in texts)
        self.characters += sum(map(len, texts))
        self.tokens += len(ids)
        self.parts += int(self._partial[ids].sum())

    def row(self, name: str, kind: str, language: str) -> Row:
        return Row(name, self._tokenizer.vocab_size, kind, language, self.texts, self.bytes, self.characters,
                   self.tokens, self.parts / max(1, self.tokens))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
