"""Direct preference optimisation (2305.18290): pairs are learned without a reward model and without sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headwater.model import Decoder
from headwater.train.batches import IGNORE, Batch
from headwater.train.loss import log_probabilities
from headwater.train.objective import Outcome, head_matrix


def dpo_loss(margin: Tensor, smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigmoid(m) - e log sigmoid(-m) of margins m [N], equation 7; with the chance e that a label is
    wrong it is conservative DPO."""
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


class Spoken(NamedTuple):
    """Answers of a batch, float32 [n], in the order of its rows."""

    log_probability: Tensor
    """Of the whole answer, the mark that ends it included."""
    tokens: Tensor
    numbers: Tensor
    """Which answers they are, int64 [n]."""


def spoken(model: Decoder, batch: Batch, answers: Tensor) -> Spoken:
    """How likely the answers are to the model. The targets number them, each at its last token; answers: bool, true
    for the tokens, by their places in the data, that belong to one."""
    own = (batch.places >= 0) & answers[batch.places.clamp(min=0)]  # [B,T]
    ends = batch.targets != IGNORE
    numbers = batch.targets[ends]
    which = (ends.flatten().cumsum(0).view_as(ends) - ends.long())[own]  # of the answer that ends next
    hidden = model.hidden(batch.tokens, batch.intervals, batch.positions)
    each, _ = log_probabilities(hidden[:, :-1][own[:, 1:]], head_matrix(model)[0], batch.tokens[own])
    zeros = each.new_zeros(len(numbers))
    return Spoken(zeros.index_add(0, which, each), zeros.index_add(0, which, torch.ones_like(each)), numbers)


class DirectPreference(nn.Module):
    """The objective: the mean over pairs of the loss of the implied rewards' margin, beta (log pi/ref of the chosen -
    log pi/ref of the rejected), and with a weight the chosen answer's next-token cross-entropy."""

    answers: Tensor
    reference: Tensor

    def __init__(self, answers: Tensor, reference: Tensor, beta: float, smoothing: float = 0.0, sft_weight: float = 0.0
                 ) -> None:
        """answers: see `spoken`; reference: log-probabilities of the answers by their numbers, chosen and rejected in
        turn, float32 [2N]."""
        super().__init__()
        self.beta, self.smoothing, self.sft_weight = beta, smoothing, sft_weight
        self.register_buffer("answers", answers, persistent=False)
        self.register_buffer("reference", reference, persistent=False)

    def forward(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        found = spoken(model, batch, self.answers)
        rewards = self.beta * (found.log_probability - self.reference[found.numbers])
        chosen, rejected = rewards.view(-1, 2).unbind(1)
        plain = dpo_loss(chosen - rejected, self.smoothing)
        entropy = -(found.log_probability / found.tokens)[::2]  # per token of the chosen
        said, unsaid = found.log_probability.detach().view(-1, 2).unbind(1)
        sums = {"preference": plain, "accuracy": (chosen > rejected).float(), "margin": chosen - rejected,
                "chosen_reward": chosen, "rejected_reward": rejected, "chosen_log_probability": said,
                "rejected_log_probability": unsaid, "chosen_cross_entropy": entropy}
        loss = (plain + self.sft_weight * entropy).sum()
        # A pair has two targets, over whose number means are taken.
        return Outcome(2 * loss / divisor, {name: 2 * each.detach().sum() for name, each in sums.items()})
