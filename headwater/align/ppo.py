"""Proximal policy optimisation of a language model: what is minimised on answers that it gave a moment ago."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from headwater.align.critic import CRITIC, POLICY, Critic
from headwater.align.ppo_settings import PpoMethod
from headwater.model import Decoder
from headwater.train.batches import IGNORE, Batch
from headwater.train.loss import log_probabilities
from headwater.train.objective import Networks, Outcome, Reference, head_matrix

VALUE_WEIGHT = 0.5
"""Of the squared error, as in 1707.06347, eq. 9: its gradient is then the error itself."""


class Numbers(NamedTuple):
    """What is known of every token of an iteration's answers, float32, by the place of the token before it."""

    log_probabilities: Tensor
    """Under the policy that gave the answers."""
    advantages: Tensor
    returns: Tensor
    values: Tensor
    """Of the critic as it was then."""

    def at(self, places: Tensor) -> Numbers:
        return Numbers(*(each[places] for each in self))


class Measured(NamedTuple):
    """What the four models say of a batch's targets, float32 [targets] each."""

    log_probabilities: Tensor
    entropies: Tensor
    reference: Tensor
    """Log-probabilities under it."""
    values: Tensor


class Ppo(nn.Module, Networks):
    """The objective: clipped surrogate and clipped value loss, on the answers that `numbers` is of.

    While `policy_learns` is false the critic alone does, and nothing reaches the policy's weights.
    """

    def __init__(self, critic: Critic, reference: Reference, method: PpoMethod) -> None:
        super().__init__()
        self.critic, self.reference, self.method = critic, reference, method
        self.numbers: Numbers | None = None
        self.policy_learns = True

    def network(self, name: str) -> str:
        """The critic's errors may be large; they do not shorten the policy's steps."""
        return CRITIC if f".{CRITIC}." in name else POLICY

    def forward(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        assert self.numbers is not None, "answers come before what is learned from them"
        used = batch.targets != IGNORE
        known = self.numbers.at(batch.places[used])
        values = self.critic(model, batch)[used]
        errors = clipped_errors(values, known, self.method.value_clip)
        loss = VALUE_WEIGHT * errors.sum() / divisor
        sums = {"value_loss": errors.detach().sum()}
        if self.policy_learns:
            policy, found = self._surrogate(model, batch, used, known)
            loss, sums = loss + policy / divisor, sums | found
        return Outcome(loss, sums)

    def _surrogate(self, model: Decoder, batch: Batch, used: Tensor, known: Numbers
                   ) -> tuple[Tensor, dict[str, Tensor]]:
        own, entropies = self._policy(model, batch, used)
        log_ratios = own - known.log_probabilities
        ratios, clip = log_ratios.exp(), self.method.clip
        loss = clipped_surrogate(ratios, known.advantages, clip).sum()
        if self.method.entropy_bonus:
            loss = loss - self.method.entropy_bonus * entropies.sum()
        ratio, log_ratio = ratios.detach(), log_ratios.detach()
        return loss, {"policy_loss": loss.detach(), "ratio": ratio.sum(), "entropy": entropies.detach().sum(),
                      "clip_share": ((ratio - 1).abs() > clip).float().sum(),
                      "approx_kl": (ratio - 1 - log_ratio).sum()}

    def _policy(self, model: Decoder, batch: Batch, used: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the targets and entropies, [targets]."""
        hidden = model.hidden(batch.tokens, batch.intervals, batch.positions)
        return log_probabilities(hidden[used], head_matrix(model)[0], batch.targets[used], self.method.temperature)

    def measured(self, model: Decoder, batch: Batch) -> Measured:
        """By the arithmetic of the loss: the ratio of a policy to itself is 1, exactly, and to the reference too while
        nothing has been learned. (Without gradients some kernels round otherwise.)"""
        used = batch.targets != IGNORE
        with torch.enable_grad():
            own, entropies = (one.detach() for one in self._policy(model, batch, used))
            values = self.critic(model, batch)[used].detach()
        hidden, rows = self.reference.as_learning(model, batch)
        near, _ = log_probabilities(hidden[used], rows, batch.targets[used], self.method.temperature)
        return Measured(own, entropies, near.detach(), values)


def clipped_surrogate(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - e, 1 + e) A) of each token (PPO, 1707.06347, section 3, eq. 7)."""
    return -torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)


def clipped_errors(values: Tensor, known: Numbers, clip: float) -> Tensor:
    """max((V - R)^2, (V_old + clip(V - V_old, -e, e) - R)^2) of each token: the critic too stays near what it was (as
    in OpenAI's baselines; 2005.12729, section 3)."""
    near = known.values + (values - known.values).clamp(-clip, clip)
    return torch.maximum((values - known.returns).square(), (near - known.returns).square())
