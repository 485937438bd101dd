"""Prompts on their way into the cache: who is read next, and how much of it between two decoding steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.generate.adapters import Adapters
from headwater.generate.capacity import at_once
from headwater.generate.kept_prompts import KeptPrompts
from headwater.generate.request import Sequence
from headwater.model.cache import KVCache
from headwater.model.decoder import Decoder

PIECES = {"cpu": 128}
"""Tokens of prompts that are read in one pass, and at most between two decoding steps, by device ..."""
PIECE = 512
"""... and on others."""
Read = Callable[[list[list[int]], KVCache], Tensor]
"""Appends prompts to what a cache holds; gives the states [B,D] of their last tokens."""


@dataclass(eq=False)
class Reading:
    """A prompt in the middle of being read, in a row of the cache."""

    sequence: Sequence
    came: int
    done: int = 0
    above: int | None = 0
    """Number of the kept piece that `done` ends with; None where it is not kept."""

    @property
    def left(self) -> int:
        return len(self.sequence.prompt) - self.done


class Ready(NamedTuple):
    """Prompts that are read, in the rows behind the active ones."""

    batch: list[Sequence]
    logits: Tensor
    """[B,V], behind their last tokens."""


@dataclass
class Prefill:
    """The requests without an answer yet: those that wait for a slot, and those that are being read.

    First come, first served, as slots become free. A prompt is read alone in pieces that begin at multiples of `piece`,
    so that its keys and values depend on nothing else; of copies one is read. Between two decoding steps one piece is
    read, or several short prompts. Of several readings that which came first and that which has least left take turns:
    a short prompt does not wait for a long one to end, nor a long one for ever for short ones.

    The prompts of one call of `Engine.generate` are read together and at once, which is quicker.
    """

    model: Decoder
    adapters: Adapters
    read: Read
    kept: KeptPrompts
    waiting: deque[Sequence] = field(default_factory=deque)
    readings: list[Reading] = field(default_factory=list)
    """Number i is in the cache's row -1 - i."""

    def __post_init__(self) -> None:
        self.piece = PIECES.get(self.model.device.type, PIECE)
        self._came = 0
        self._first_come = False

    def drop(self, cache: KVCache) -> None:
        """Let go of those that are finished before they are read."""
        self.waiting = deque(one for one in self.waiting if one.finish_reason is None)
        for reading in [one for one in self.readings if one.sequence.finish_reason is not None]:
            self._leave(reading, cache)

    def together(self, free: int, most: int, rolling: bool) -> list[Sequence]:
        """The longest run from the head of the queue of those of one call that has slots, begins alike and fits a pass
        of `most` padded tokens; one of them at least, none where somebody else is first.

        Where the cache rolls, one: the padding of a shorter row would push out what it still sees.
        """
        batch: list[Sequence] = []
        longest = 0
        while self.waiting and self.waiting[0].together and len(batch) < (min(free, 1) if rolling else free):
            longest = max(longest, self.waiting[0].own)
            if batch and (longest * (len(batch) + 1) > most or self.waiting[0].beginning is not batch[0].beginning):
                break
            batch.append(self.waiting.popleft())
        return batch

    def begin(self, cache: KVCache, free: int) -> None:
        """Give rows to as many as wait, up to one that is read with others."""
        while self.waiting and free and not self.waiting[0].together:
            reading = Reading(self.waiting.popleft(), self._came)
            self._came, free = self._came + 1, free - 1
            self.readings.append(reading)
            self.adapters.begin(cache, self._row(reading, cache), [reading.sequence.adapter])
        if self.readings and self.kept.most:
            self.kept.follow_weights()

    def pieces(self, cache: KVCache, active: list[Sequence]) -> Iterator[Ready]:
        """What is read between two decoding steps. `active` grows by what was given before more is asked for."""
        spent = 0
        self._first_come = not self._first_come
        while self.readings and spent < self.piece:
            group = self._next(cache)
            length = self._length(group[0])
            if spent and spent + length > self.piece:
                return
            spent += length * len(group)
            last = self._read(group, length, cache)
            if not group[0].left:
                yield self._finish(group, last, len(active), cache)

    def _finish(self, group: list[Reading], last: Tensor, active: int, cache: KVCache) -> Ready:
        """Readings that are done, and copies of them, into the rows behind the active ones."""
        whole = [(reading, at) for at, done in enumerate(group) for reading in self.readings
                 if reading is done or (reading.sequence.prompt == done.sequence.prompt
                                        and reading.sequence.adapter == done.sequence.adapter)]
        for reading, at in whole:
            if reading is not group[at]:
                cache.move(self._row(group[at], cache), self._row(reading, cache), group[at].done)
                reading.done, reading.sequence.cached_tokens = group[at].done, group[at].sequence.cached_tokens
        for place, (reading, _) in enumerate(whole, active):
            self._join(reading, place, cache)
        logits = torch.cat([self.model.head(one) for one in last.split(1)])  # each as if alone
        return Ready([reading.sequence for reading, _ in whole], logits[[at for _, at in whole]])

    def _next(self, cache: KVCache) -> list[Reading]:
        """The one whose turn it is, with the same prompt of other adapters in the rows beside it, as far as it is."""
        for reading in self.readings:
            self._take_kept(reading, cache)
        first = min(self.readings, key=lambda one: one.came if self._first_come else (one.left, one.came))
        at = self.readings.index(first)
        group = [first]
        for other in self.readings[at + 1 : at + max(1, self.piece // self._length(first))]:
            taken = [one.sequence.adapter for one in group]
            if (other.done, other.sequence.prompt) != (first.done, first.sequence.prompt) or (
                    other.sequence.adapter in taken):
                break
            group.append(other)
        return group

    def _length(self, reading: Reading) -> int:
        """Tokens of its next piece."""
        return reading.left if at_once(self.model.config) else min(self.piece - reading.done % self.piece, reading.left)

    def _read(self, group: list[Reading], length: int, cache: KVCache) -> Tensor:
        """The next piece of each; the states [B,D] of their last tokens, in the order of the group."""
        start = group[0].done
        rows = cache.rows(self._row(group[-1], cache), self._row(group[0], cache) + 1)
        rows.filled = start
        names = [reading.sequence.adapter for reading in reversed(group)]
        with self.adapters.using(self.adapters.chosen(names, self.model.device)):
            last = self.read([one.sequence.prompt[start : start + length] for one in reversed(group)], rows)
        for reading in group:
            reading.done += length
            self._keep(reading, length, cache)
        return last.flip(0)

    def _take_kept(self, reading: Reading, cache: KVCache) -> None:
        """What was read for others of the pieces that are next. The last token is always read."""
        while reading.above is not None and reading.left > self.piece and self.kept.most:
            tokens = reading.sequence.prompt[reading.done : reading.done + self.piece]
            block = self.kept.find(reading.above, reading.sequence.adapter, tokens)
            if block is None:
                return
            cache.put(self._row(reading, cache), reading.done, block.states)
            reading.done, reading.above = reading.done + self.piece, block.number
            reading.sequence.cached_tokens = reading.done

    def _keep(self, reading: Reading, length: int, cache: KVCache) -> None:
        """The piece that was just read, if it is a whole one."""
        if length != self.piece or reading.above is None or not self.kept.most:
            return
        start = reading.done - length
        block = self.kept.keep(reading.above, reading.sequence.adapter, reading.sequence.prompt[start : reading.done],
                               cache.copied(self._row(reading, cache), start, reading.done))
        reading.above = None if block is None else block.number

    def _row(self, reading: Reading, cache: KVCache) -> int:
        return cache.batch - 1 - self.readings.index(reading)

    def _join(self, reading: Reading, target: int, cache: KVCache) -> None:
        """Move what was read to the row behind the active ones, which the last reading may be in."""
        row, last = self._row(reading, cache), self.readings[-1]
        if row != target and self._row(last, cache) == target:
            cache.swap(row, target, max(reading.done, last.done))
            self.readings[self.readings.index(reading)] = self.readings.pop()
        else:
            if row != target:
                cache.move(row, target, reading.done)
            self._leave(reading, cache)

    def _leave(self, reading: Reading, cache: KVCache) -> None:
        """Free its row; the last reading moves there."""
        row, last = self._row(reading, cache), self.readings[-1]
        if last is not reading:
            cache.move(self._row(last, cache), row, last.done)
            self.readings[self.readings.index(reading)] = last
        self.readings.pop()
