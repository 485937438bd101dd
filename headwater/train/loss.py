"""Cross-entropy of a vocabulary projection, chunk by chunk, so that the logits of a batch never exist together."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from headwater.model.native import softmax
from headwater.model.native.softmax import Statistics
from headwater.model.scoring import ALIKE
from headwater.plan.training import FEWEST_ROWS, LOGITS_AT_ONCE
from headwater.train.batches import IGNORE

COLUMNS = 1024
"""Of the vocabulary whose gradient is added up at once on a processor, so that it is still in a cache when it is
added: of 125,696 all at once took seven times as long, most of it for the addition."""


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
    3.2); of a frozen weight there is none. group: of processes that hold a part of the vocabulary's rows each, in
    order; all get the same sums.
    """
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
    loss, cross_entropy, max_z = _Projected.apply(hidden, weight, targets, divisor, penalties, group)
    return Sums(loss, cross_entropy, max_z)


def divergence(hidden: Tensor, weight: Tensor, near: Tensor, near_weight: Tensor, divisor: float) -> Tensor:
    """The sum over positions of KL(q || p) over the divisor, in nats, with q the predictions from states `near` [N,D]
    by the rows `near_weight` [V,D], p those from `hidden` [N,D] by `weight` [V,D]. No gradient reaches q; logits are
    held for some positions at once, forward and backward."""
    rows = max(FEWEST_ROWS, LOGITS_AT_ONCE[hidden.device.type] // (4 * len(weight)))
    parts = [checkpoint(_divergence, *pair, weight, near_weight, use_reentrant=False, preserve_rng_state=False)
             for pair in zip(hidden.split(rows), near.detach().split(rows))]
    return torch.stack(parts).sum() / divisor if parts else hidden.sum() * 0.0


def _divergence(hidden: Tensor, near: Tensor, weight: Tensor, near_weight: Tensor) -> Tensor:
    own = F.linear(hidden, weight.to(hidden.dtype)).float().log_softmax(-1)
    given = F.linear(near, near_weight.detach().to(near.dtype)).float().log_softmax(-1)
    return F.kl_div(own, given, reduction="sum", log_target=True)


def log_probabilities(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0
                      ) -> tuple[Tensor, Tensor]:
    """Of targets [N] under softmax(hidden [N,D] @ weight [V,D]^T / temperature): log p, and the entropies of these
    predictions, in nats, float32 [N] each. Gradients reach hidden and weight; logits are held for some positions at
    once, forward and backward."""
    count, more = len(targets), -len(targets) % ALIKE if hidden.device.type == "cpu" else 0
    hidden, targets = F.pad(hidden, (0, 0, 0, more)), F.pad(targets, (0, more))
    rows = max(FEWEST_ROWS, LOGITS_AT_ONCE[hidden.device.type] // (4 * len(weight)))
    parts = [checkpoint(_log_probabilities, *pair, weight, temperature, use_reentrant=False, preserve_rng_state=False)
             for pair in zip(hidden.split(rows), targets.split(rows))]
    chosen, entropy = (torch.cat([part[which] for part in parts])[:count] for which in (0, 1))
    return chosen, entropy


def _log_probabilities(hidden: Tensor, targets: Tensor, weight: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    every = (F.linear(hidden, weight.to(hidden.dtype)).float() / temperature).log_softmax(-1)
    return every.gather(1, targets[:, None])[:, 0], -(every.exp() * every).sum(-1)


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, divisor: float, penalties: Penalties,
                group: Any) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            work = _Work(hidden, weight, targets, divisor, penalties, group)
            sums = work.run()
        ctx.save_for_backward(*(work.gradients() if work.learns else ()))
        ctx.mark_non_differentiable(*sums[1:])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        return (hidden * gradient.to(hidden.dtype), None if weight is None else weight.mul_(gradient), None, None, None,
                None)


class _Work:
    """One pass over the chunks of a batch."""

    def __init__(self, hidden: Tensor, weight: Tensor, targets: Tensor, divisor: float, penalties: Penalties,
                 group: Any) -> None:
        self.weight_dtype, self.shape = weight.dtype, hidden.shape
        self.penalties, self.divisor, self.group = penalties, divisor, group
        self.learns = hidden.requires_grad or weight.requires_grad
        self.used = (targets != IGNORE).nonzero()[:, 0]
        whole = len(self.used) == len(targets)
        self.hidden = hidden.detach() if whole else hidden.detach()[self._filled_up(hidden.device.type)]
        self.targets = targets if whole else targets[self.used]
        self.weight = weight.detach().to(hidden.dtype)
        self.begin = 0 if group is None else dist.get_rank(group) * len(weight)
        self.sums = torch.zeros(3, device=hidden.device)
        self.block = COLUMNS if hidden.device.type == "cpu" else len(weight)
        if self.learns:
            self.grad_hidden = torch.empty_like(self.hidden)
        self.grad_weight: Tensor | None = None
        if weight.requires_grad:
            self.grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)

    def _filled_up(self, device: str) -> Tensor:
        """The rows that are used, and some again: their logits are not looked at."""
        more = -len(self.used) % ALIKE if device == "cpu" else 0
        return torch.cat([self.used, self.used[:1].expand(more)])

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        of_one = self.hidden.element_size() * len(self.weight)
        rows = max(FEWEST_ROWS, LOGITS_AT_ONCE[self.hidden.device.type] // of_one)
        for start in range(0, len(self.targets), rows):
            self._chunk(slice(start, start + rows))
        loss, cross_entropy, max_z = self.sums.unbind()
        return loss / self.divisor, cross_entropy.clone(), max_z.clone()

    def gradients(self) -> tuple[Tensor, Tensor | None]:
        if self.group is not None:
            dist.all_reduce(self.grad_hidden, group=self.group)
        hidden = self.grad_hidden
        if len(self.used) != self.shape[0]:
            hidden = hidden.new_zeros(self.shape).index_copy_(0, self.used, hidden[:len(self.used)])
        return hidden, None if self.grad_weight is None else self.grad_weight.to(self.weight_dtype)

    def _chunk(self, rows: slice) -> None:
        hidden, targets = self.hidden[rows], self.targets[rows] - self.begin
        targets = torch.where((targets >= 0) & (targets < len(self.weight)), targets, -1)
        product = hidden @ self.weight.t()  # [c,V]
        logits = product[:len(targets)]
        found = softmax.statistics(logits, targets)
        if self.group is not None:
            found = self._joined(found)
        entropy, penalties = found.normalizer - found.wanted, self.penalties
        loss = entropy + penalties.z * found.normalizer**2 + penalties.max_z * found.highest**2
        self.sums += torch.stack([loss.sum(), entropy.sum(), found.highest.sum()])
        if self.learns:
            slope = softmax.gradient(logits, targets, found, divisor=self.divisor, max_z=penalties.max_z,
                                     z=penalties.z)
            if len(targets) < len(product):
                logits.copy_(slope)
                product[len(targets):] = 0
                slope = product
            torch.mm(slope, self.weight, out=self.grad_hidden[rows])
        if self.grad_weight is not None:
            for part, columns in zip(self.grad_weight.split(self.block), slope.split(self.block, 1)):
                part += columns.t() @ hidden

    def _joined(self, found: Statistics) -> Statistics:
        """Of the whole vocabulary, from those of its parts."""
        highest = found.highest.clone()
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=self.group)
        both = torch.stack([(found.normalizer - highest).exp(), found.wanted])
        dist.all_reduce(both, group=self.group)
        at = torch.where(found.highest == highest, found.at, -1)
        return Statistics(highest, at, highest + both[0].log(), both[1])
