"""Log-probabilities of given tokens, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from headwater.model.decoder import Decoder
from headwater.model.native import softmax
from headwater.plan.training import FEWEST_ROWS, LOGITS_AT_ONCE

ALIKE = 64
"""Rows are multiplied in multiples of these on a processor: oneDNN makes, and keeps, code of its own for every shape
that it meets, some 1.6 MB for every number of targets that a batch may have."""


@torch.no_grad()
def token_log_probabilities(model: Decoder, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of targets [N] under the hidden states [N,D] before them: log p in float32 [N], and "was the most likely" [N].

    The softmax is taken in float32 over the model's whole vocabulary, a few rows at a time.
    """
    row = model.config.vocab_size * hidden.element_size()
    size = max(FEWEST_ROWS, LOGITS_AT_ONCE[hidden.device.type] // row)
    log_probabilities, greedy = [], []
    for states, wanted in zip(hidden.split(size), targets.split(size), strict=True):
        more = -len(states) % ALIKE if states.device.type == "cpu" else 0
        logits = model.head(F.pad(states, (0, 0, 0, more)))[: len(states)]
        found = softmax.statistics(logits, wanted)
        log_probabilities.append(found.wanted - found.normalizer)
        greedy.append(found.at == wanted)
    return torch.cat(log_probabilities), torch.cat(greedy)
