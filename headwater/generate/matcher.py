"""An answer's way through its grammar, token by token, with an end always in reach."""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from headwater.generate.constraint import Grammar, Grammars


class Matcher:
    """Of one request. What may come next is found out while the model computes.

    Behind every token an end is known that fits into what is left of the answer's length, and a token behind which none
    is found is not taken: so the answer is whole when its length is used up.
    """

    def __init__(self, grammars: Grammars, grammar: Grammar, stop_ids: Collection[int]) -> None:
        """grammar: as `Grammars.check` gave it. stop_ids: what ends the answer where the grammar allows it."""
        self._table, self._endings = grammars.table, grammars.endings
        self._start, self._native, self._ending = grammar.native, grammar.native.deep_copy(), grammar.ending
        self._stop_ids = [index for index in stop_ids if index < self._table.size]
        self.complete = False
        """Nothing may follow."""
        self.ended = False
        """By a mark."""
        self._lost = False
        self._coming: Future[tuple[Tensor, bool]] = _threads().submit(self._look)

    def forbidden(self) -> Tensor:
        """bool [V]: what may not come next."""
        return self._coming.result()[0]

    def takes(self, token: int, left: int) -> bool:
        """Go on with a token that may come next, if an end of at most `left` tokens is known behind it."""
        may_end = self._coming.result()[1]
        if self._lost and self._ending:
            return token == self._ending[0] and self.follow() == token
        native = self._native.deep_copy()
        if native.consume_token(token) and not native.is_error():
            ending = self._endings.behind(native, self._ending, token, left)
            if ending is None:
                return False
            self._native, self._ending = native, ending
            self.complete = bool(native.is_stopped())
            self.ended = token in self._stop_ids and bool(native.is_accepting())
        elif may_end and token in self._stop_ids:
            self.ended = True
        else:
            return False
        if not self.complete and not self.ended:
            self._coming = _threads().submit(self._look)
        return True

    def follow(self) -> int | None:
        """Take the next token of the end that is known, and so go on to its last; None if this is the end."""
        self._coming.result()
        self._lost = True
        if not self._ending:
            return None
        token, *self._ending = self._ending
        self.complete = not self._ending
        self.ended = self.complete and token in self._stop_ids
        self._coming = _threads().submit(self._look)
        return token

    def fits(self, tokens: list[int], cut: int) -> bool:
        """Whether these tokens without so many bytes at their end would be a whole answer."""
        kept, rest = list(tokens), b""
        while cut > 0 and kept:
            piece = self._table.pieces[kept.pop()]
            rest, cut = piece[: max(0, len(piece) - cut)], cut - len(piece)
        native = self._start.deep_copy()
        return bool(native.consume_tokens([*kept, *self._table.bytewise(rest)])) and bool(native.is_accepting())

    def _look(self) -> tuple[Tensor, bool]:
        """What may not come next, and whether the answer may end here."""
        bits = np.zeros(self._table.size + 1, np.uint8)
        if not self._lost:
            mask = self._native.compute_bitmask()
            self._lost = bool(self._native.is_error())
            if not self._lost:
                bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little", count=len(bits))
        if self._lost:
            bits[self._ending[0] if self._ending else self._table.end] = 1
        if bits[-1]:
            bits[self._stop_ids] = 1
        return torch.from_numpy(bits[:-1] == 0), bool(bits[-1])


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="headwater-grammar")
