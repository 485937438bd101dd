"""Log-probabilities of given tokens, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from headwater.model.decoder import Decoder

LOGITS = 1 << 24
"""Most logits held at once."""


@torch.no_grad()
def token_log_probabilities(model: Decoder, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of targets [N] under the hidden states [N,D] before them: log p in float32 [N], and "was the most likely" [N].

    The softmax is taken in float32 over the model's whole vocabulary; at least one row of logits is held.
    """
    size = max(1, LOGITS // model.config.vocab_size)
    log_probabilities, greedy = [], []
    for states, wanted in zip(hidden.split(size), targets.split(size), strict=True):
        logits = model.head(states).float()
        log_probabilities.append(-F.cross_entropy(logits, wanted, reduction="none"))
        greedy.append(logits.argmax(-1) == wanted)
    return torch.cat(log_probabilities), torch.cat(greedy)
