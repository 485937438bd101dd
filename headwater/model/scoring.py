"""Log-probabilities of given tokens, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.model.decoder import Decoder
from headwater.model.native import softmax
from headwater.plan.training import FEWEST_ROWS, LOGITS_AT_ONCE


@torch.no_grad()
def token_log_probabilities(model: Decoder, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of targets [N] under the hidden states [N,D] before them: log p in float32 [N], and "was the most likely" [N].

    The softmax is taken in float32 over the model's whole vocabulary, a few rows at a time.
    """
    row = model.config.vocab_size * hidden.element_size()
    size = max(FEWEST_ROWS, LOGITS_AT_ONCE[hidden.device.type] // row)
    log_probabilities, greedy = [], []
    for states, wanted in zip(hidden.split(size), targets.split(size), strict=True):
        found = softmax.statistics(model.head(states), wanted)
        log_probabilities.append(found.wanted - found.normalizer)
        greedy.append(found.at == wanted)
    return torch.cat(log_probabilities), torch.cat(greedy)
