"""What many prompts begin with, as few-shot questions do: it is read once into a row of its own, and its keys and
values are copied to where each of them is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from headwater.generate.shared_context import alike
from headwater.model.cache import KVCache
from headwater.model.config import ModelConfig
from headwater.model.scalings import DynamicNtk

SAVED = 64
"""Fewest tokens that sharing must save: a pass of its own costs as much as reading some more in the others."""
Prompt = Sequence[int]


class Beginning:
    """Of a family of prompts. Its keys and values are held from the first of them to the last."""

    def __init__(self, tokens: Prompt, members: int) -> None:
        self.tokens = list(tokens)
        self._left = members
        self._cache: KVCache | None = None

    def fill(self, rows: KVCache, read: Callable[[list[int]], KVCache]) -> None:
        """Put it into empty rows, one for each of so many members; what is read next goes behind it. read: gives a
        cache of one row with such tokens."""
        if self._cache is None:
            self._cache = read(self.tokens)
        rows.take(self._cache, torch.zeros(rows.batch, dtype=torch.long, device=rows.keys[0].device))
        rows.filled = len(self.tokens)
        self._left -= rows.batch
        if not self._left:
            self._cache = None


def covers(config: ModelConfig) -> bool:
    """Whether the keys of a token depend on nothing behind it, and a row keeps those of all."""
    return (config.position_axes == 1 and not config.prefix_ids and not config.sliding_window
            and not isinstance(config.rope_scaling, DynamicNtk))


def in_families(config: ModelConfig, prompts: Sequence[Prompt]) -> list[tuple[int, Beginning | None]]:
    """The number of every prompt with what it shares with others, relatives together: in the order of the prompts, but
    for a family that follows its first."""
    if not covers(config):
        return [(number, None) for number in range(len(prompts))]
    numbers: dict[tuple[int, ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        numbers.setdefault(tuple(prompt), []).append(number)
    placed: dict[int, tuple[int, Beginning]] = {}
    for shared, family in alike(sorted(map(tuple, prompts))):
        members = sorted(number for prompt in set(family) for number in numbers[prompt])
        if (len(members) - 1) * shared < SAVED:
            continue
        beginning = Beginning(family[0][:shared], len(members))
        placed.update(dict.fromkeys(members, (members[0], beginning)))
    order = sorted(range(len(prompts)), key=lambda number: (placed[number][0] if number in placed else number, number))
    return [(number, placed[number][1] if number in placed else None) for number in order]
