"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from headwater.model import Decoder
from headwater.train.batches import IGNORE, Batch

Objective = Callable[[Decoder, Batch], Tensor]
"""A scalar loss of a batch, float32."""


def next_token(model: Decoder, batch: Batch) -> Tensor:
    """Mean cross-entropy, in nats, of the batch's targets; attention stays inside each document.

    Logits are taken in float32 whatever the forward pass's precision.
    """
    logits = model(batch.tokens, batch.intervals.dense(), batch.positions)
    return F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORE)
