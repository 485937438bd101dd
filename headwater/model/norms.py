"""RMSNorm and LayerNorm."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from headwater.model.config import ModelConfig
from headwater.model.native import fused


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * g (1910.07467), in one pass that accumulates in float32.

    The gain is brought to x's dtype: the kernel is for one dtype, and master weights are float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        gain = self.weight.to(x.dtype)
        if fused.serves(x) and self.eps is not None:
            return fused.rms_norm(x, gain, self.eps)
        return F.rms_norm(x, self.normalized_shape, gain, self.eps)


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + eps) * g + b, in x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def make_norm(config: ModelConfig) -> nn.Module:
    """A norm over the hidden dimension."""
    kind = RMSNorm if config.norm == "rmsnorm" else LayerNorm
    return kind(config.hidden_size, eps=config.norm_eps)
