"""What training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from headwater.model import Decoder
from headwater.model.adapters import silenced, without_adapters
from headwater.model.task_head import TaskHead
from headwater.train.batches import IGNORE, Batch
from headwater.train.loss import Penalties, projected_cross_entropy


class Outcome(NamedTuple):
    """What an objective says of a batch, or of some rows of it."""

    loss: Tensor
    """The scalar to go down on, float32: a sum over these rows' targets over the whole batch's number of them."""
    sums: dict[str, Tensor]
    """Figures to log, summed over these rows' targets; without gradients."""


class Objective(Protocol):
    """A loss of a model on rows of a batch."""

    def __call__(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        """divisor: the number of targets in the whole batch, of which these rows may be a part."""
        ...


class Networks(ABC):
    """An objective of which several networks learn: the gradients of each are clipped by their own norm."""

    @abstractmethod
    def network(self, name: str) -> str:
        """Which one a parameter belongs to, by its name in the `Task`."""


class NextToken:
    """Mean cross-entropy, in nats, of the batch's targets, with Baichuan 2's and PaLM's penalties on large logits.

    What may see what is the batch's to say: causal, prefix and blank-infilling training are one loss.
    """

    def __init__(self, penalties: Penalties = Penalties()) -> None:  # noqa: B008 (a tuple of numbers)
        self.penalties = penalties

    def __call__(self, model: Decoder, batch: Batch, divisor: float) -> Outcome:
        return self.of(model, model.hidden(batch.tokens, batch.intervals, batch.positions), batch, divisor)

    def of(self, model: Decoder, hidden: Tensor, batch: Batch, divisor: float) -> Outcome:
        """The same from the model's last hidden states [B,T,D]."""
        weight, group = head_matrix(model)
        sums = projected_cross_entropy(hidden.flatten(0, 1), weight, batch.targets.flatten(), divisor, self.penalties,
                                       group)
        return Outcome(sums.loss, {"cross_entropy": sums.cross_entropy, "max_z": sums.max_z})


next_token = NextToken()
"""The plain loss."""


def head_matrix(model: Decoder) -> tuple[Tensor, Any]:
    """The vocabulary's rows that this process holds, [V,D] or a part, and the group that holds the others."""
    weight = model.head.weight
    if isinstance(weight, DTensor):
        return model.head.matrix(weight.to_local()), weight.device_mesh.get_group()
    return model.head.matrix(weight), None


def scores(model: Decoder, head: TaskHead, batch: Batch) -> Tensor:
    """[targets, labels], as the head gives them."""
    hidden = model.hidden(batch.tokens, batch.intervals, batch.positions)
    found: Tensor = head(hidden[batch.targets != IGNORE])
    return found


class Reference(nn.Module):
    """What a model was before it learned: a frozen decoder, or the model without its adapters where that is None."""

    def __init__(self, decoder: Decoder | None) -> None:
        super().__init__()
        self.decoder = None if decoder is None else decoder.requires_grad_(False)

    @torch.no_grad()
    def forward(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """Its last hidden states [B,T,D] and its head's rows [V,D]."""
        if self.decoder is not None:
            return self.decoder.hidden(batch.tokens, batch.intervals, batch.positions), head_matrix(self.decoder)[0]
        with without_adapters(model):
            return model.hidden(batch.tokens, batch.intervals, batch.positions), head_matrix(model)[0]

    @torch.enable_grad()
    def as_learning(self, model: Decoder, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same by the arithmetic of a pass that is learned from: of a model that has learned nothing yet exactly
        its own. (Without gradients some kernels round otherwise.)"""
        if self.decoder is None:
            with silenced(model):
                hidden = model.hidden(batch.tokens, batch.intervals, batch.positions)
            return hidden.detach(), head_matrix(model)[0].detach()
        self.decoder.requires_grad_(True)
        hidden = self.decoder.hidden(batch.tokens, batch.intervals, batch.positions)
        self.decoder.requires_grad_(False)
        return hidden.detach(), head_matrix(self.decoder)[0].detach()


class Task(nn.Module):
    """A model with what is asked of it, as one module: sharded parameters are whole while it is called."""

    def __init__(self, model: Decoder, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, ask: Any, *arguments: Any) -> Any:
        """ask(model, *arguments)."""
        return ask(self.model, *arguments)
