"""What every token of an answer was worth: its reward, with what it costs to leave the reference, and its advantage."""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(scores: Tensor, log_ratios: Tensor, real: Tensor, beta: float) -> Tensor:
    """r_t = -beta (log pi(a_t|s_t) - log pi_0(a_t|s_t)), and the answer's score more at its last token (InstructGPT,
    2203.02155, section 3.5, eq. 2; LLaMA 2, 2307.09288, section 3.2.3), float32 [N,T].

    scores: [N]; log_ratios: [N,T]; real: bool [N,T], true on an answer's tokens, which stand first.
    """
    rewards = (-beta * log_ratios).masked_fill(~real, 0.0)
    last = real.sum(1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None])


def generalised_advantages(rewards: Tensor, values: Tensor, real: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = sum over l of (gamma lam)^l delta_(t+l) with delta_t = r_t + gamma V(s_(t+1)) - V(s_t), V = 0 behind the
    last token (GAE, 1506.02438, section 3, eq. 16), float32 [N,T], 0 where nothing is real.

    rewards, values: [N,T], V before each token; real: bool [N,T], true on an answer's tokens, which stand first.
    """
    rewards, values = rewards.masked_fill(~real, 0.0), values.masked_fill(~real, 0.0)
    found, behind, after = torch.zeros_like(values), torch.zeros(len(values)), torch.zeros(len(values))
    for step in reversed(range(values.shape[1])):
        delta = rewards[:, step] + gamma * after - values[:, step]
        behind, after = delta + gamma * lam * behind, values[:, step]
        found[:, step] = behind
    return found.masked_fill(~real, 0.0)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 for a critic that knows every return, 0 for one that says the same everywhere, and
    where there is nothing to explain."""
    spread = returns.var(correction=0)
    return float(1 - (returns - values).var(correction=0) / spread) if spread > 0 else 0.0
