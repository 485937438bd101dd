"""A model that says how good an answer is: one number at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from headwater.artifacts import read_json
from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.tokenizer import Message, Tokenizer
from headwater.train.batches import lay
from headwater.train.packing import PrefixSample, as_read, as_sample

REWARD, REPORT = "reward", "reward.json"
AT_ONCE = 4096
"""Tokens of one pass."""


def learned_safety(folder: Path) -> bool | None:
    """Whether a reward model's number says how safe an answer is, as its stage wrote it down; None where it did not."""
    path = Path(folder) / REPORT
    weight = read_json(path).get("safety_weight") if path.is_file() else None
    return None if weight is None else weight > 0


def judged_ids(messages: list[Message], tokenizer: Tokenizer) -> list[int]:
    """A dialogue up to the mark that ends its last answer, where its reward is read. Raises `InputError`."""
    rendered = tokenizer.chat.render(messages)
    end = max((place for place, learned in enumerate(rendered.loss_mask, 1) if learned), default=0)
    if not end:
        raise InputError("a dialogue without an answer has no reward", fix="end it with the assistant's message")
    return rendered.ids[:end]


class RewardModel:
    """A decoder with a head whose one number at a dialogue's last token is its reward: the log-odds of being preferred,
    up to a constant, or of being safe where it has learned that."""

    def __init__(self, model: Decoder, head: TaskHead, tokenizer: Tokenizer) -> None:
        self.model, self.head, self.tokenizer = model.eval(), head.to(model.device).eval(), tokenizer

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu") -> Self:
        """From what the reward stage wrote. Raises `CheckpointError`."""
        head, source, _ = TaskHead.load(folder, stage="reward")
        if head.kind != "regression" or head.labels != [REWARD]:
            raise CheckpointError(f"a head for {head.kind}, and no reward model", where=folder,
                                  fix="give a folder that 'headwater reward' wrote")
        return cls(load_model(source, device=device), head, Tokenizer.load(source))

    @torch.inference_mode()
    def scores(self, dialogues: Sequence[Sequence[int]]) -> Tensor:
        """Rewards, float32 [N], of dialogues that end with an answer's end mark; several are read in one row, none of
        which sees another. Raises `InputError` for one longer than the model reads."""
        longest = max(map(len, dialogues), default=0)
        if longest > self.model.config.longest:
            raise InputError(f"a dialogue has {longest:,} tokens; the reward model reads "
                             f"{self.model.config.longest:,}", fix="leave out the longest, or allow shorter answers")
        found = torch.empty(len(dialogues))
        for numbers in _packed([len(one) for one in dialogues]):
            found[numbers] = self._read([dialogues[number] for number in numbers])
        return found

    def _read(self, dialogues: list[Sequence[int]]) -> Tensor:
        config = self.model.config
        samples = [as_sample(PrefixSample(*as_read((one, [False] * len(one)), config)), 0, config.position_axes)
                   for one in dialogues]
        ends = torch.tensor([len(one.tokens) for one in samples]).cumsum(0)
        batch = lay([samples], int(ends[-1]), pad=self.tokenizer.pad, axes=config.position_axes).to(self.model.device)
        hidden = self.model.hidden(batch.tokens, batch.intervals, batch.positions)[0]
        numbers = self.head(hidden[(ends - 1).to(hidden.device)]) * self.head.spread + self.head.mean
        return numbers[:, 0].float().cpu()


def _packed(sizes: list[int]) -> Iterator[list[int]]:
    """Numbers of dialogues that are read together, neighbours in length, `AT_ONCE` tokens or one."""
    together: list[int] = []
    held = 0
    for number in sorted(range(len(sizes)), key=sizes.__getitem__):
        if together and held + sizes[number] > AT_ONCE:
            yield together
            together, held = [], 0
        together.append(number)
        held += sizes[number]
    if together:
        yield together
