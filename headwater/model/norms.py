"""RMSNorm and LayerNorm."""

from __future__ import annotations

from torch import nn

from headwater.model.config import ModelConfig


def make_norm(config: ModelConfig) -> nn.Module:
    """A norm over the hidden dimension: x / sqrt(mean(x^2) + eps) * g (1910.07467), or LayerNorm with bias.

    Both are PyTorch's fused kernels, which accumulate in float32.
    """
    kind = nn.RMSNorm if config.norm == "rmsnorm" else nn.LayerNorm
    return kind(config.hidden_size, eps=config.norm_eps)
