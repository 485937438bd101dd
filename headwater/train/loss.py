"""Cross-entropy of a vocabulary projection, chunk by chunk, so that the logits of a batch never exist together."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

IGNORE = -100
"""Target of a position that no loss is taken on."""
CHUNK_BYTES = {"cpu": 1 << 23, "cuda": 1 << 29}
"""Float32 logits held at once: few enough to stay in a processor's cache, many enough to keep all cores busy."""
FEWEST_ROWS = 64


class Penalties(NamedTuple):
    """What is added to the cross-entropy of every target, with z its logits."""

    max_z: float = 0.0
    """Weight of (max z)^2 (Baichuan 2, 2309.10305, section 2.7; there 2e-4)."""
    z: float = 0.0
    """Weight of (log sum exp z)^2 (PaLM, 2204.02311, section 5; there 1e-4)."""


class Sums(NamedTuple):
    """Over a batch's targets, float32 scalars on its device."""

    loss: Tensor
    """Cross-entropy and penalties over the divisor: what is minimised."""
    cross_entropy: Tensor
    """In nats, the sum."""
    max_z: Tensor
    """The sum of the largest logits."""


def projected_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, divisor: float, penalties: Penalties,
                            group: Any = None) -> Sums:
    """Cross-entropy of targets [N] under the logits hidden [N,D] @ weight [V,D]^T, without holding [N,V].

    Positions whose target is IGNORE cost nothing. Products are taken in hidden's dtype, softmax and sums in float32.
    The gradients are computed with the loss, chunk by chunk, and kept as [N,D] and [V,D] (as in 2410.10989, section
    3.2). group: of processes that hold a part of the vocabulary's rows each, in order; all get the same sums.
    """
    loss, cross_entropy, max_z = _Projected.apply(hidden, weight, targets, divisor, penalties, group)
    return Sums(loss, cross_entropy, max_z)


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, divisor: float, penalties: Penalties,
                group: Any) -> tuple[Tensor, Tensor, Tensor]:
        learns = hidden.requires_grad or weight.requires_grad
        with torch.autocast(hidden.device.type, enabled=False):
            work = _Work(hidden, weight, targets, divisor, penalties, group, learns)
            sums = work.run()
        ctx.save_for_backward(*(work.gradients() if learns else ()))
        ctx.mark_non_differentiable(*sums[1:])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        return hidden * gradient.to(hidden.dtype), weight.mul_(gradient), None, None, None, None


class _Work:
    """One pass over the chunks of a batch."""

    def __init__(self, hidden: Tensor, weight: Tensor, targets: Tensor, divisor: float, penalties: Penalties,
                 group: Any, learns: bool) -> None:
        self.weight_dtype, self.shape = weight.dtype, hidden.shape
        self.penalties, self.divisor, self.group, self.learns = penalties, divisor, group, learns
        self.used = (targets != IGNORE).nonzero()[:, 0]
        whole = len(self.used) == len(targets)
        self.hidden = hidden.detach() if whole else hidden.detach()[self.used]
        self.targets = targets if whole else targets[self.used]
        self.weight = weight.detach().to(hidden.dtype)
        self.begin = 0 if group is None else dist.get_rank(group) * len(weight)
        self.sums = torch.zeros(3, device=hidden.device)
        if learns:
            self.grad_hidden = torch.empty_like(self.hidden)
            self.grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        rows = max(FEWEST_ROWS, CHUNK_BYTES[self.hidden.device.type] // (4 * len(self.weight)))
        for start in range(0, len(self.targets), rows):
            self._chunk(slice(start, start + rows))
        loss, cross_entropy, max_z = self.sums.unbind()
        return loss / self.divisor, cross_entropy.clone(), max_z.clone()

    def gradients(self) -> tuple[Tensor, Tensor]:
        if self.group is not None:
            dist.all_reduce(self.grad_hidden, group=self.group)
        hidden = self.grad_hidden
        if len(self.used) != self.shape[0]:
            hidden = hidden.new_zeros(self.shape).index_copy_(0, self.used, self.grad_hidden)
        return hidden, self.grad_weight.to(self.weight_dtype)

    def _chunk(self, rows: slice) -> None:
        hidden, targets = self.hidden[rows], self.targets[rows, None]
        logits = hidden @ self.weight.t()  # [c,V]
        highest, at = logits.max(-1, keepdim=True)
        probabilities = torch.softmax(logits, -1, dtype=torch.float32)
        highest = highest.float()
        # exp(highest - lse) is at least 1/V: its logarithm is safe where that of a target's probability is not
        lse = highest - probabilities.gather(1, at).log()
        inside = (targets >= self.begin) & (targets < self.begin + len(self.weight))
        own = (targets - self.begin).clamp(0, len(self.weight) - 1)
        wanted = logits.gather(1, own).float().masked_fill(~inside, 0.0)
        local = highest
        if self.group is not None:
            highest, lse, wanted, share = self._joined(highest, lse, wanted)
            probabilities *= share
        entropy = lse - wanted
        self.sums += torch.stack([
            (entropy + self.penalties.z * lse**2 + self.penalties.max_z * highest**2).sum(), entropy.sum(),
            highest.sum()])
        if self.learns:
            self._learn(rows, hidden, probabilities, lse, highest, at, own, inside, local == highest)

    def _learn(self, rows: slice, hidden: Tensor, gradient: Tensor, lse: Tensor, highest: Tensor, at: Tensor,
               own: Tensor, inside: Tensor, is_highest: Tensor) -> None:
        """d loss / d z = p (1 + 2 c_z lse) - [target] + 2 c_max max z [arg max], over the divisor."""
        if self.penalties.z:
            gradient *= 1 + 2 * self.penalties.z * lse
        gradient.scatter_add_(1, own, -inside.float())
        if self.penalties.max_z:
            gradient.scatter_add_(1, at, 2 * self.penalties.max_z * highest * is_highest)
        gradient *= 1 / self.divisor
        small = gradient.to(hidden.dtype)
        torch.mm(small, self.weight, out=self.grad_hidden[rows])
        self.grad_weight += small.t() @ hidden

    def _joined(self, highest: Tensor, lse: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Over the vocabulary's parts: the highest logit, log sum exp, target's logit, and this part's probability."""
        top = highest.clone()
        dist.all_reduce(top, dist.ReduceOp.MAX, group=self.group)
        both = torch.cat([(lse - top).exp(), wanted], 1)
        dist.all_reduce(both, group=self.group)
        whole = top + both[:, :1].log()
        return top, whole, both[:, 1:], (lse - whole).exp()
