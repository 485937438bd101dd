"""What a model says, from its tokens: text as soon as it is whole characters, special tokens by their names."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from headwater.tokenizer.calls.reply import Mark, Part
from headwater.tokenizer.vocabulary import Tokenizer


class Spoken:
    """Tokens to parts. Only an id gives a mark: text that reads like one stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._names = {index: name for name, index in tokenizer.specials.items()}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Iterable[int]) -> Iterator[Part]:
        for index in ids:
            if index in self._names:
                yield from self.finish()
                yield Mark(self._names[index])
            elif text := self._decoder.decode(self._tokenizer.decode_bytes([index])):
                yield text

    def finish(self) -> Iterator[Part]:
        """Half a character at the end, as U+FFFD."""
        if text := self._decoder.decode(b"", final=True):
            yield text
        self._decoder.reset()
