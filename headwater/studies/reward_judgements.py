"""What rewards say of pairs that no model has learned: by kinds of pairs, how many they judge so, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from headwater.align.preferences import Preference
from headwater.align.refusals import refused
from headwater.align.reward_model import RewardModel, judged_ids
from headwater.align.rewards import HELPFUL, SAFE, combined

TWO, UNMARKED = "two", "two, prompts not marked"
Judged = dict[str, dict[str, float]]
"""By group of pairs `right`, the share that is judged as said there, `gap`, by how much, in spreads of the rewards, and
`pairs`."""


def conflicting(pair: Preference) -> bool:
    """Whether an unsafe answer is preferred to a safe one (LLaMA 2 left such pairs out, 2307.09288, section 3.1)."""
    return pair.chosen_safe is False and pair.rejected_safe is not False


def _declines(pair: Preference) -> tuple[bool, bool]:
    """Whether the preferred answer declines, and the other one."""
    return refused(pair.chosen[-1]["content"]), refused(pair.rejected[-1]["content"])


def _risky(pair: Preference) -> bool:
    """Whether what is asked should be declined: one of the answers is unsafe, or the preferred one declines."""
    return pair.chosen_safe is False or pair.rejected_safe is False or _declines(pair)[0]


def judgements(models: Mapping[str, RewardModel], pairs: Sequence[Preference], files: Mapping[str, Sequence[Path]],
               threshold: float) -> dict[str, Judged]:
    """Of every reward model and of two by LLaMA 2's rule, with its marks of unsafe prompts and without. files: whose
    pairs are a group."""
    said = {name: model.scores([judged_ids(side, model.tokenizer) for pair in pairs
                                for side in (pair.chosen, pair.rejected)]) for name, model in models.items()}
    marks = torch.tensor([_risky(pair) for pair in pairs for _ in range(2)])
    for name, marked in ((TWO, marks), (UNMARKED, torch.zeros_like(marks))):
        said[name] = combined(said[HELPFUL], said[SAFE], marked, threshold)
    return {name: by_group(pairs, rewards, files) for name, rewards in said.items()}


def _of(pair: Preference, files: set[str]) -> bool:
    return pair.source in files


def by_group(pairs: Sequence[Preference], rewards: Tensor, files: Mapping[str, Sequence[Path]]) -> Judged:
    """rewards [2N], chosen and rejected in turn."""
    gaps = (rewards[::2] - rewards[1::2]) / rewards.std().clamp_min(1e-9)
    groups: dict[str, Callable[[Preference], float]] = {
        **{f"{name} pairs": partial(_of, files=set(map(str, paths))) for name, paths in files.items()},
        "conflicts: obeys": conflicting,
        "risky: declines": lambda pair: (pair.rejected_safe is False) - conflicting(pair),
        "risky: dodges not": lambda pair: pair.rejected_safe is not False and _declines(pair) == (True, False),
        "harmless: helps": lambda pair: not _risky(pair) and _declines(pair) == (False, True),
        "all else": lambda pair: not _risky(pair) and _declines(pair) != (False, True)}
    found = {}
    for name, side in groups.items():
        sides = torch.tensor([float(side(pair)) for pair in pairs])
        own = (gaps * sides)[sides != 0]
        if len(own):
            found[name] = {"right": float((own > 0).float().mean()), "gap": float(own.mean()), "pairs": len(own)}
    return found
