"""How a decoder knows where a token stands: rotary angles, ALiBi biases, or nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headwater.model.config import ModelConfig


def rope_frequencies(head_dim: int, theta: float) -> Tensor:
    """theta_i = theta^(-2i/d), i < d/2, in float64 (RoFormer, 2104.09864, eq. 15). Shape [d/2]."""
    return theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def rope_tables(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of position x frequency, float32, [B,1,T,d] in the half-split layout of LLaMA.

    Angles are taken in float32 whatever the model's dtype: in bfloat16 positions collide beyond 256.
    """
    angles = positions[:, None, :, None].float() * frequencies.float()
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + d/2) of x [B,H,T,d] by their angles; the dtype of x is kept."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)


def alibi_slopes(heads: int) -> Tensor:
    """One slope per head, float32 [H] (ALiBi, 2108.12409).

    For a power of two n: 2^(-8h/n), h = 1..n; otherwise those of the next lower power of two, then every second
    slope of twice that many heads, starting with the first.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    slopes += [2.0 ** (-4 * (2 * h + 1) / power) for h in range(heads - power)]
    return torch.tensor(slopes, dtype=torch.float32)


def alibi_bias(slopes: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """-m_h (i - j), added to the scaled scores: positions [B,T] and [B,S] give float32 [B,H,T,S]."""
    distance = (queries[:, None, :, None] - keys[:, None, None, :]).float()
    return -slopes[None, :, None, None] * distance


class Positions(torch.nn.Module):
    """The position scheme of a whole decoder; its tables are buffers that are never saved."""

    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scheme = config.position
        if self.scheme == "rope":
            table = rope_frequencies(config.head_dim, config.rope_theta).float()
        elif self.scheme == "alibi":
            table = alibi_slopes(config.num_attention_heads)
        else:
            table = torch.empty(0)
        self.register_buffer("table", table, persistent=False)

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """cos and sin for `positions` [B,T], or None where nothing is rotated."""
        return rope_tables(positions, self.table) if self.scheme == "rope" else None

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """What is added to the scores, or None."""
        return alibi_bias(self.table, queries, keys) if self.scheme == "alibi" else None
