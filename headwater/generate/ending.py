"""The shortest way that is known to an end that a grammar allows, so that there is always room for one."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from headwater.generate.token_table import SPECIAL, TokenTable

LETTERS = 20
"""Of the small ones, so many are allowed only where any text is."""
_SMALL = np.arange(ord("a"), ord("z") + 1)
_CLOSING, _IN_TEXT = (b"}])>\"',0123456789 \n", b"\"'`\n 0a")
"""What leads to an end, the soonest first: between the parts of a structure, and inside of text."""
LONGEST = 2048
"""Tokens of the longest end that is looked for."""
QUICK, THOROUGH = 100, 5_000
"""States that are looked at for an end: at a token, and before the first."""
_KINDS: dict[str, Callable[[bytes], bool]] = {
    "digit": b"123456789".__contains__, "small": bytes.islower, "large": bytes.isupper,
    "high": lambda piece: not piece.isascii()}


class Endings:
    """Ways to an end, in ids of single bytes where the vocabulary has them; so one that starts in the middle of
    another is one too."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        single = [table.bytewise(bytes([byte])) for byte in range(256)]
        self._bytes = np.array([ids[0] if len(ids) == 1 and table.pieces[ids[0]] == bytes([byte]) else table.end
                                for byte, ids in enumerate(single)])
        self._marks = np.array(sorted(table.marks), dtype=np.int64)
        self._lengths = np.array([len(piece) for piece in table.pieces], dtype=np.int64)

    def behind(self, native: Any, before: list[int], token: int, most: int, words: Collection[str] = ()
               ) -> list[int] | None:
        """An end from here of at most `most` ids, None where none is found quickly. before: the one that was known
        before `token` came. words: see `search`."""
        rest = self._without(before, len(self._table.pieces[token]) or 1)
        old = (before[start:] for start in (0, *range(len(before), 0, -1)))
        for found in itertools.chain([rest], old, ([*rest, *before] for rest in self._rest_of_character(native))):
            if self.is_end(native, found) and (fitting := self.within(native, found, most)) is not None:
                return fitting
        new = (self._straight(native, 4 * most + 64) or self._around(native, QUICK)
               or self._by_words(words, native, THOROUGH))
        return None if new is None else self.within(native, new, most)

    def _without(self, ids: list[int], count: int) -> list[int]:
        """These without so many bytes at their beginning; a special id counts as one."""
        for place, index in enumerate(ids):
            if count <= 0:
                return ids[place:]
            piece = self._table.pieces[index]
            if count < len(piece):
                return [*self._table.encode(piece[count:]), *ids[place + 1 :]]
            count -= len(piece) or 1
        return []

    def search(self, native: Any, most: int, words: Collection[str] = ()) -> list[int] | None:
        """An end of at most `most` ids. words: what the grammar holds literally. Of five ways to look each finds what
        the one before does not, and takes longer; the last is for what single bytes are too many for."""
        for look, effort in ((self._straight, 4 * most + 64), (self._around, THOROUGH),
                             (partial(self._by_words, words), THOROUGH), (self._everywhere, THOROUGH),
                             (self._by_long_pieces, most)):
            found = look(native, effort)
            if found is not None and (fitting := self.within(native, found, most)) is not None:
                return fitting
        return None

    def first(self, native: Any, texts: Iterable[bytes]) -> list[int] | None:
        """The first of these texts that is an end from here."""
        ways = map(self._table.bytewise, texts)
        return next((ids for ids in ways if self.is_end(native, ids)), None)

    def _rest_of_character(self, native: Any) -> Iterator[list[int]]:
        """Bytes that may follow where a token ends in the middle of a character."""
        path: list[int] = []
        native = native.deep_copy()
        for _ in range(3):
            step = next(self._allowed(native), None)
            if step is None or not native.consume_token(step):
                return
            path.append(step)
            yield path

    def is_end(self, native: Any, ids: list[int]) -> bool:
        return bool(native.validate_tokens([*ids, self._table.end]) == len(ids) + 1)

    def within(self, native: Any, ids: list[int], most: int) -> list[int] | None:
        """These if they are so few, else their text in the tokenizer's own pieces if those are."""
        if len(ids) <= most:
            return ids
        joined = self.joined(ids)
        return joined if len(joined) <= most and self.is_end(native, joined) else None

    def joined(self, ids: list[int]) -> list[int]:
        """Their text in the tokenizer's own pieces."""
        found: list[int] = []
        for mark, run in itertools.groupby(ids, self._table.marks.__contains__):
            held = list(run)
            found += held if mark else self._table.encode(b"".join(self._table.pieces[index] for index in held))
        return found

    def _straight(self, native: Any, steps: int) -> list[int] | None:
        """By what closes soonest at every step."""
        path: list[int] = []
        native = native.deep_copy()
        while len(path) < steps:
            if native.is_accepting():
                return path
            step = self._forced(native) or list(itertools.islice(self._allowed(native), 1))
            if not step or not native.consume_tokens(step):
                return None
            path += step
        return None

    def _around(self, native: Any, effort: int) -> list[int] | None:
        """The same, but going on to where something else may follow than before, if one byte of a kind leads there."""
        path: list[int] = []
        seen: set[int] = set()
        while effort > 0:
            if native.is_accepting():
                return path
            forced = self._forced(native)
            first: tuple[list[int], Any] | None = None
            for step in [forced] if forced else ([one] for one in self._of_each_kind(self._allowed(native))):
                effort -= 1
                after = native.deep_copy()
                if not after.consume_tokens(step):
                    continue
                first = first or (step, after)
                if (sign := _sign(after)) not in seen:
                    seen.add(sign)
                    first = step, after
                    break
            if first is None:
                return None
            path, native = path + first[0], first[1]
        return None

    def _by_words(self, words: Collection[str], native: Any, effort: int) -> list[int] | None:
        """Straight on to a text of anything that one of the words closes. On a line of its own, if it may be: so it
        closes what the text will be later, too."""
        path: list[int] = []
        native = native.deep_copy()
        closing = [self._table.bytewise(f"{before}{word}".encode()) for word in words for before in ("\n", "")]
        if not closing:
            return None
        while effort > 0 and not native.is_accepting():
            step = self._forced(native)
            if not step:
                allowed = list(itertools.islice(self._allowed(native), LETTERS))
                for word in closing if len(allowed) == LETTERS else ():
                    after = native.deep_copy()
                    effort -= QUICK
                    if after.consume_tokens(word) and (rest := self._everywhere(after, QUICK)) is not None:
                        return path + word + rest
                step = allowed[:1]
            if not step or not native.consume_tokens(step):
                return None
            path, effort = path + step, effort - 1
        return path if native.is_accepting() else None

    def _by_long_pieces(self, native: Any, steps: int) -> list[int] | None:
        """By what takes the answer furthest at every step: `[a-z ]{300}` has an end of 60 ids."""
        path: list[int] = []
        native = native.deep_copy()
        while len(path) <= steps:
            if native.is_accepting():
                return path
            bits = np.unpackbits(np.frombuffer(native.compute_bitmask(), np.uint8), bitorder="little",
                                 count=self._table.size)
            longest = int((self._lengths * bits).argmax())
            if not bits[longest] or not native.consume_token(longest):
                return None
            path.append(longest)
        return None

    def _everywhere(self, native: Any, effort: int) -> list[int] | None:
        """All ways by their length. Of states in which the same may follow at once only the first counts."""
        waiting: list[tuple[int, int, list[int], Any]] = [(0, 0, [], native)]
        seen: set[int] = set()
        numbers = itertools.count(1)
        while waiting and effort > 0:
            _, _, path, state = heapq.heappop(waiting)
            if state.is_accepting():
                return path
            forced = self._forced(state)
            for step in [forced] if forced else ([one] for one in self._allowed(state)):
                effort -= 1
                after = state.deep_copy()
                if after.consume_tokens(step) and (sign := _sign(after)) not in seen and not after.is_error():
                    seen.add(sign)
                    heapq.heappush(waiting, (len(path) + len(step), next(numbers), path + step, after))
        return None

    def _of_each_kind(self, ids: Iterator[int]) -> Iterator[int]:
        """One digit above 0, one small and one large letter, one byte above ASCII, all others."""
        met: set[str] = set()
        for index in ids:
            piece = self._table.pieces[index]
            kind = next((name for name, of in _KINDS.items() if len(piece) == 1 and of(piece)), "")
            if kind not in met:
                yield index
            met.update([kind] if kind else ())

    def _forced(self, native: Any) -> list[int]:
        """The bytes that have to come, if only one text can; special ids are not among them."""
        return self._table.bytewise(native.compute_ff_bytes().split(SPECIAL)[0])

    def _allowed(self, native: Any) -> Iterator[int]:
        """Ids that may come next, one for every byte, what leads to an end soonest first."""
        bits = np.frombuffer(native.compute_bitmask(), np.uint8)

        def held(ids: np.ndarray) -> np.ndarray:
            return (bits[ids >> 3] >> (ids & 7)).astype(np.uint8) & 1

        marks = self._marks[held(self._marks) == 1]
        yield from marks.tolist()
        known = held(self._bytes) & (self._bytes != self._table.end)
        order = _IN_TEXT if known[_SMALL].sum() >= LETTERS else _CLOSING
        places = [*order, *(byte for byte in np.flatnonzero(known) if byte not in order)]
        yield from (int(self._bytes[byte]) for byte in places if known[byte])
        if not len(marks) and not known.any():
            ids = np.flatnonzero(np.unpackbits(bits, bitorder="little", count=self._table.size))
            yield from sorted(ids.tolist(), key=lambda index: len(self._table.pieces[index]))


def _sign(native: Any) -> int:
    """Equal where the same may follow at once."""
    return hash((native.compute_bitmask(), native.is_accepting()))
