"""Bytes of tokens into text that is safe to show: whole characters only, stop texts held back until decided."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence


class TextStream:
    """Incremental UTF-8 decoding with stop texts.

    However the bytes are split, the pieces join to the same text: the bytes decoded with U+FFFD for what is not
    UTF-8, up to the first stop text to be completed. `stopped` tells that one was.
    """

    def __init__(self, stop: Sequence[str] = (), *, trim_start: bool = False,
                 may_stop: Callable[[str], bool] | None = None) -> None:
        """trim_start: white space before the first other character is dropped. may_stop: whether a stop text counts,
        asked with all text from its beginning on when it is completed; None: every one does."""
        self._may_stop = may_stop
        self._trim = trim_start
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._held = ""
        self._passed = 0  # characters of it where no stop text that counts begins
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """The text that became certain through `data`; empty when a character or a stop text is undecided."""
        return self._release(self._trimmed(self._decoder.decode(data)))

    def finish(self) -> str:
        """What was held back; half a character at the very end becomes U+FFFD."""
        text = self._release(self._trimmed(self._decoder.decode(b"", final=True)))
        rest, self._held = ("" if self.stopped else self._held), ""
        return text + rest

    def _trimmed(self, text: str) -> str:
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        return text

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        if not self._stop:
            ready, self._held = self._held, ""
            return ready
        # The first to be completed wins (then the longest): the same whether text comes by letters or at once.
        while found := [(at + len(stop), at) for stop in self._stop
                        if (at := self._held.find(stop, self._passed)) >= 0]:
            at = min(found)[1]
            if self._may_stop is None or self._may_stop(self._held[at:]):
                self.stopped = True
                ready, self._held = self._held[:at], ""
                return ready
            self._passed = at + 1
        cut = len(self._held) - self._undecided()
        ready, self._held = self._held[:cut], self._held[cut:]
        self._passed = max(0, self._passed - cut)
        return ready

    def _undecided(self) -> int:
        """Length of the longest end of the held text that may still become a stop text."""
        longest = min(len(self._held), max(map(len, self._stop)) - 1)
        for length in range(longest, 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
