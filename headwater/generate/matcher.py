"""An answer's way through its grammar, token by token, with an end always in reach."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headwater.generate.ending import Endings
from headwater.generate.token_table import TokenTable

_FORBIDDEN = torch.where((torch.arange(256)[:, None] >> torch.arange(8) & 1) == 1, 0.0, -math.inf)
"""What is added to logits for every bit of a mask's byte: quicker than filling where it is 0."""


class Matcher:
    """Of one request. What may come next is found out while the model computes.

    Behind every token an end is known that fits into what is left of the answer's length, and a token behind which none
    is found is not taken: so the answer is whole when its length is used up.
    """

    def __init__(self, start: Any, ending: list[int], endings: Endings, table: TokenTable,
                 stop_ids: Collection[int], words: Collection[str] = ()) -> None:
        """start: an `llguidance.LLMatcher` before the first token. ending: a whole answer that has room. stop_ids: what
        ends the answer where the grammar allows it. words: what the grammar holds literally."""
        self._words = words
        self._table, self._endings = table, endings
        self._start, self._state, self._ending = start, start.deep_copy(), ending
        self._stop_ids = [index for index in stop_ids if index < table.size]
        self.complete = False
        """Nothing may follow."""
        self.ended = False
        """By a mark."""
        self._lost = False
        self._coming: Future[None] | None = None
        self._look()

    def mask(self) -> Tensor:
        """float32 [V]: 0 for what may come next, else minus infinity."""
        self._wait()
        return self._mask

    def takes(self, token: int, left: int) -> bool:
        """Go on with a token that may come next, if an end of at most `left` tokens is known behind it."""
        self._wait()
        if self._lost and self._ending:
            return token == self._ending[0] and self.follow() == token
        native = self._state.deep_copy()
        if native.consume_token(token) and not native.is_error():
            ending = self._endings.behind(native, self._ending, token, left, self._words)
            if ending is None:
                return False
            self._state, self._ending = native, ending
            self.complete = bool(native.is_stopped())
            self.ended = token in self._stop_ids and bool(native.is_accepting())
        elif self._may_end and token in self._stop_ids:
            self.ended = True
        else:
            return False
        return True

    def follow(self) -> int | None:
        """Take the next token of the end that is known, and so go on to its last; None if this is the end."""
        self._wait()
        self._lost = True
        if not self._ending:
            return None
        token, *self._ending = self._ending
        self.complete = not self._ending
        self.ended = self.complete and token in self._stop_ids
        return token

    def fits(self, tokens: list[int], cut: int) -> bool:
        """Whether these tokens without so many bytes at their end would be a whole answer."""
        kept, rest = list(tokens), b""
        while cut > 0 and kept:
            piece = self._table.pieces[kept.pop()]
            rest, cut = piece[: max(0, len(piece) - cut)], cut - len(piece)
        native = self._start.deep_copy()
        return bool(native.consume_tokens([*kept, *self._table.bytewise(rest)])) and bool(native.is_accepting())

    def _wait(self) -> None:
        if self._coming is not None:
            self._coming.result()

    def _look(self) -> None:
        """Find out what may come next, and whether the answer may end here."""
        end = self._table.end
        bits = np.zeros(-(-(end + 1) // 8), np.uint8)
        if not self._lost:
            mask = self._state.compute_bitmask()
            self._lost = bool(self._state.is_error())
            if not self._lost:
                bits = np.frombuffer(mask, np.uint8).copy()
        if self._lost:
            _set(bits, self._ending[:1] or [end])
        self._may_end = bool(bits[end >> 3] >> (end & 7) & 1)
        if self._may_end:
            _set(bits, self._stop_ids)
        self._mask = _FORBIDDEN.index_select(0, torch.from_numpy(bits).int()).view(-1)[:end]


def look_ahead(matchers: Iterable[Matcher]) -> None:
    """Have a thread find out what may come next in each of these answers."""
    going = [one for one in matchers if not one.complete and not one.ended]
    if going:
        coming = _threads().submit(_look_at, going)
        for one in going:
            one._coming = coming


def _look_at(matchers: list[Matcher]) -> None:
    for one in matchers:
        one._look()


def _set(bits: np.ndarray, ids: list[int]) -> None:
    for index in ids:
        bits[index >> 3] |= 1 << (index & 7)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="headwater-grammar")
