"""What is added to the logits of a request's tokens: its bias, less the penalties of what its answer holds."""

from __future__ import annotations

import torch
from torch import Tensor

from headwater.generate.sampling import SamplingParams


class Shift:
    """bias[t] - frequency_penalty * n[t] - presence_penalty * (n[t] > 0), n[t] being how often the answer holds t
    (OpenAI's definition). Only of tokens with a bias or in the answer: the others' is 0."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._counts: dict[int, int] = {}
        self._places = {token: place for place, token in enumerate(params.logit_bias)}
        self._ids = torch.tensor(list(params.logit_bias), dtype=torch.long)
        self._amounts = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32)

    @classmethod
    def of(cls, params: SamplingParams) -> Shift | None:
        """None where nothing is ever added."""
        return cls(params) if params.logit_bias or params.presence_penalty or params.frequency_penalty else None

    def count(self, token: int) -> None:
        """The answer holds it once more."""
        params, place = self._params, self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._grow()
        count = self._counts[token] = self._counts.get(token, 0) + 1
        self._ids[place] = token
        self._amounts[place] = (params.logit_bias.get(token, 0.0) - params.presence_penalty
                                - params.frequency_penalty * count)

    def add_to(self, logits: Tensor) -> None:
        """In place, to logits [V]."""
        held = len(self._places)
        logits.index_add_(0, self._ids[:held].to(logits.device), self._amounts[:held].to(logits.device))

    def _grow(self) -> None:
        """Room for as many again."""
        spare = max(64, len(self._ids))
        self._ids = torch.cat((self._ids, self._ids.new_zeros(spare)))
        self._amounts = torch.cat((self._amounts, self._amounts.new_zeros(spare)))
