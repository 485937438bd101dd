"""The output projection: a plain matrix, or Baichuan 2's with rows of length one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headwater.model.config import ModelConfig

EPS = 1e-12


class LinearHead(nn.Linear):
    """logits = h W^T."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def matrix(self) -> Tensor:
        """W, [V,D]."""
        return self.weight


class NormHead(LinearHead):
    """logits = h W^T with every row of W brought to length one (Baichuan 2, 2309.10305, section 2.6).

    The products are divided by the rows' lengths, so neither a normalised copy of W nor a changed parameter ever
    exists; the official code overwrites its weight at the first evaluation. Out of training the lengths are kept
    for as long as the weight is the same.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._known: tuple[tuple[int, int, torch.device], Tensor] | None = None

    def lengths(self) -> Tensor:
        """The rows' Euclidean lengths, at least 1e-12, [V] in float32 or wider."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        return torch.linalg.vector_norm(self.weight, dim=1, dtype=dtype).clamp_min(EPS)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled() or self.weight.is_inference():  # the last has no version
            lengths = self.lengths()
        else:
            state = (self.weight.data_ptr(), self.weight._version, self.weight.device)
            if self._known is None or self._known[0] != state:
                self._known = (state, self.lengths())
            lengths = self._known[1]
        return (F.linear(x, self.weight) / lengths).to(x.dtype)

    def matrix(self) -> Tensor:
        """The matrix of the plain head with the same logits, [V,D]."""
        return (self.weight / self.lengths()[:, None]).to(self.weight.dtype)


def make_head(config: ModelConfig) -> LinearHead:
    """From hidden states [.., D] to logits [.., V], without bias."""
    kind = NormHead if config.head == "normalized" else LinearHead
    return kind(config.hidden_size, config.vocab_size)
