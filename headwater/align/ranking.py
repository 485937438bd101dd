"""What a reward model learns from: pairs, how much better the better one is, and which answers are safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headwater.align.preference_forms import RATINGS, Rating
from headwater.align.preferences import Preference
from headwater.model import Decoder
from headwater.model.task_head import TaskHead
from headwater.train.batches import IGNORE, Batch
from headwater.train.objective import Outcome, scores

Margins = Literal["none", "small", "large"]
MARGINS: dict[Margins, dict[Rating, float]] = {
    "none": dict.fromkeys(RATINGS, 0.0),
    "small": dict(zip(RATINGS, (1.0, 2 / 3, 1 / 3, 0.0))),
    "large": dict(zip(RATINGS, (3.0, 2.0, 1.0, 0.0)))}
"""By which the better answer's reward is to be higher: LLaMA 2 (2307.09288), appendix A.3.3."""


def margins(pairs: Sequence[Preference], name: Margins) -> Tensor:
    """Of each pair, float32 [N]; 0 for one without a rating."""
    return torch.tensor([MARGINS[name][pair.rating] if pair.rating else 0.0 for pair in pairs])


def safety(pairs: Sequence[Preference]) -> Tensor:
    """Of each answer, chosen and rejected in turn, 1 safe, 0 unsafe, NaN not known: float32 [2N]."""
    return torch.tensor([float("nan") if safe is None else float(safe)
                         for pair in pairs for safe in (pair.chosen_safe, pair.rejected_safe)])


def ranking_loss(chosen: Tensor, rejected: Tensor, margin: Tensor) -> Tensor:
    """-log sigmoid(r_c - r_r - m) of rewards [N]: LLaMA 2's equation 2."""
    return -F.logsigmoid(chosen - rejected - margin)


def safety_loss(rewards: Tensor, safe: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(r) with what is known of the answers' safety [N]; 0 where nothing is: the auxiliary loss
    of the same appendix."""
    known = ~safe.isnan()
    each = F.binary_cross_entropy_with_logits(rewards, safe.nan_to_num(), reduction="none")
    return torch.where(known, each, torch.zeros_like(each))


class Ranking(nn.Module):
    """The objective: the mean over pairs of the ranking loss, and over answers of the safety loss by its weight. The
    targets number the answers, chosen and rejected in turn, and those of a pair are neighbours."""

    margins: Tensor
    safe: Tensor

    def __init__(self, head: TaskHead, pairs: Sequence[Preference], name: Margins = "none", safety_weight: float = 0.0
                 ) -> None:
        super().__init__()
        self.head, self.safety_weight = head, safety_weight
        self.register_buffer("margins", margins(pairs, name), persistent=False)
        self.register_buffer("safe", safety(pairs), persistent=False)

    def forward(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        rewards = scores(model, self.head, batch)[:, 0]
        answers = batch.targets[batch.targets != IGNORE]
        chosen, rejected = rewards.view(-1, 2).unbind(1)
        ranking = ranking_loss(chosen, rejected, self.margins[answers[::2] // 2]).sum() * 2  # two targets a pair
        right = (chosen > rejected).sum() * 2
        sums = {"ranking": ranking.detach(), "accuracy": right.float()}
        if not self.safety_weight:
            return Outcome(ranking / divisor, sums)
        safe = safety_loss(rewards, self.safe[answers]).sum()
        return Outcome((ranking + self.safety_weight * safe) / divisor, {**sums, "safety": safe.detach()})
