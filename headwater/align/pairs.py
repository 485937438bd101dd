"""Pairs as sequences: a question with each of its answers, read beside each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from headwater.align.preferences import Preference
from headwater.align.reward_model import judged_ids
from headwater.dialogues.reading import OnBadRow
from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig
from headwater.progress import say, track
from headwater.tokenizer import Message, Tokenizer
from headwater.train.batches import IGNORE
from headwater.train.packing import PackedBatches, PrefixSample, as_read


class ReadPair(NamedTuple):
    """A preference and its two dialogues as ids, each up to the mark that ends its answer."""

    preference: Preference
    chosen: list[int]
    rejected: list[int]


def read_pairs(preferences: Sequence[Preference], tokenizer: Tokenizer, *, longest: int, together: int,
               on_bad_row: OnBadRow = "stop") -> list[ReadPair]:
    """Those of which a dialogue has `longest` tokens at most and both have `together`; others are counted aloud. Raises
    `InputError` with file and line for one that the chat format cannot say, unless `on_bad_row` is skip."""
    found, left_out = [], Counter[str]()
    for one in track(preferences, "reading pairs"):
        try:
            chosen, rejected = (judged_ids(side, tokenizer) for side in (one.chosen, one.rejected))
        except InputError as error:
            if on_bad_row == "stop":
                raise InputError(error.what, where=one.place or None, fix=error.fix) from None
            left_out[re.sub(r"message \d+", "a message", error.what)] += 1
            continue
        if max(len(chosen), len(rejected)) > longest or len(chosen) + len(rejected) > together:
            left_out[f"an answer with its question has more than {longest:,} tokens, or both have more than "
                     f"{together:,}"] += 1
        elif chosen == rejected:
            left_out["the model reads the same twice"] += 1
        else:
            found.append(ReadPair(one, chosen, rejected))
    for reason, count in left_out.most_common():
        say(f"of {len(preferences):,} pairs, {count:,} are left out: {reason}")
    if preferences and not found:
        raise InputError("no pair fits", fix="raise trainer.sequence_length, or give shorter pairs")
    return found


def packed(pairs: Sequence[ReadPair], tokenizer: Tokenizer, config: ModelConfig, *, rows: int, length: int, seed: int
           ) -> PackedBatches:
    """Rows of whole pairs; the targets number the answers, chosen and rejected in turn."""
    dialogues = [ids for pair in pairs for ids in (pair.chosen, pair.rejected)]
    return PackedBatches([_numbered(ids, number, config) for number, ids in enumerate(dialogues)], rows=rows,
                         length=length, seed=seed, pad=tokenizer.pad, axes=config.position_axes, together=2)


def _numbered(ids: list[int], number: int, config: ModelConfig) -> PrefixSample:
    """Asked for its number at its last token alone."""
    sample = PrefixSample(*as_read((ids, [False] * len(ids)), config))
    return sample._replace(targets=[IGNORE] * (len(ids) - 1) + [number])


@torch.no_grad()
def measured(model: Decoder, objective: nn.Module, batches: PackedBatches) -> dict[str, float]:
    """What an objective on pairs says of one epoch of the batches, by their means over targets."""
    sums, targets = Counter[str](), 0
    objective.to(model.device)
    for step in range(batches.batches_per_epoch):
        batch = batches.batch(step).to(model.device)
        targets += int((batch.targets != IGNORE).sum())
        sums.update({name: float(value) for name, value in objective(model, batch, 1).sums.items()})
    return {name: value / targets for name, value in sums.items()}


def spoken(messages: list[Message], answer: str) -> list[Message]:
    """The dialogue with other words at its end."""
    return [*messages[:-1], {**messages[-1], "content": answer}]
