"""RMSNorm and LayerNorm."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from headwater.model.config import ModelConfig


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * g (1910.07467), by PyTorch's fused kernel, which accumulates in float32.

    The gain is brought to x's dtype: the kernel is for one dtype, and master weights are float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * g + b, in x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def make_norm(config: ModelConfig) -> nn.Module:
    """A norm over the hidden dimension."""
    kind = RMSNorm if config.norm == "rmsnorm" else LayerNorm
    return kind(config.hidden_size, eps=config.norm_eps)
