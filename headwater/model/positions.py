"""How a decoder knows where a token stands: rotary angles, ALiBi biases, learned tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.scalings import DynamicNtk, rope_frequencies


def frequencies(config: ModelConfig, longest: int) -> Tensor:
    """Radians a token by which the heads of a model with rotary positions turn, float32 [rope_dims/2].

    longest: one more than the largest position in use, on which dynamic NTK depends.
    """
    scaling = config.rope_scaling
    if scaling is None:
        return rope_frequencies(config.rope_dims, config.rope_theta)
    return scaling.frequencies(config.rope_dims, config.rope_theta, longest=longest,
                               trained=config.max_position_embeddings)


def rope_tables(positions: Tensor, frequencies: Tensor, *, layout: str, scale: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position x frequency, float32, [..., T, d] for positions [..., T], laid out like the head.

    Angles are taken in float32 whatever the model's dtype: in bfloat16 positions collide beyond 256.
    """
    angles = positions[..., None].float() * frequencies.float()
    angles = torch.cat((angles, angles), dim=-1) if layout == "half" else angles.repeat_interleave(2, dim=-1)
    return angles.cos() * scale, angles.sin() * scale


def _turned(x: Tensor, layout: str) -> Tensor:
    """The second summand of a rotation: every pair (a, b) of the last dimension becomes (-b, a)."""
    if layout == "half":
        first, second = x.chunk(2, dim=-1)
        return torch.cat((-second, first), dim=-1)
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    """Rotate the pairs of x [B,H,T,d] by their angles; the dtype of x is kept.

    Tables narrower than d [B,1,T,r] rotate the first r dimensions; tables [B,1,T,2,d/2] each half of the head by
    angles of its own.
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    if cos.dim() == 5:
        halves = x.unflatten(-1, (2, -1))
        return (halves * cos + _turned(halves, layout) * sin).flatten(-2)
    part = x[..., : cos.shape[-1]]
    turned = part * cos + _turned(part, layout) * sin
    return turned if part.shape == x.shape else torch.cat((turned, x[..., cos.shape[-1] :]), dim=-1)


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
    """-m_h (i - j), added to the scaled scores: places [B,T] and [B,S] give float32 [B,H,T,S]."""
    distance = (queries[:, None, :, None] - keys[:, None, None, :]).float()
    return -slopes[None, :, None, None] * distance


def make_embedding(rows: int, width: int) -> nn.Embedding:
    """A table whose values are not drawn: on the meta device that alone would take a second of imports."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


class Positions(nn.Module):
    """The position scheme of a whole decoder. Computed tables are buffers that are never saved; learned ones are
    parameters."""

    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if config.position == "learned_2d":  # one row more than the length, as in the official tables
            self.position = make_embedding(config.max_position_embeddings + 1, config.hidden_size)
            self.block = make_embedding(config.max_position_embeddings + 1, config.hidden_size)
        self.register_buffer("table", self.fresh_table(), persistent=False)

    def fresh_table(self) -> Tensor:
        """Frequencies of rotary positions, slopes of ALiBi, empty otherwise. Never on the meta device."""
        config = self.config
        with torch.device("cpu"):
            if config.position == "alibi":
                return alibi_slopes(config.num_attention_heads)
            if config.position == "rope":
                return frequencies(config, config.max_position_embeddings)
            if config.position == "rope_2d":
                found = rope_frequencies(config.head_dim // 2, config.rope_theta)
                return found.half().float() if config.rope_rounding == "float16" else found
            return torch.empty(0)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """The embeddings [B,T,D] with what positions [B,A,T] add to them. Raises `InputError` past a table's end."""
        if self.config.position != "learned_2d":
            return x
        if int(positions.max()) > self.config.max_position_embeddings:
            raise InputError(f"position {int(positions.max())} is past the model's table of "
                             f"{self.config.max_position_embeddings}", fix="shorten the text")
        return x + self.position(positions[:, 0]) + self.block(positions[:, 1])

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """cos and sin for positions [B,A,T], as `rotate` takes them, or None where nothing is rotated."""
        config, table = self.config, self.table
        if config.position == "rope_2d":
            cos, sin = rope_tables(positions, table, layout=config.rope_layout, scale=1.0)  # [B,2,T,d/2]
            return cos.transpose(1, 2)[:, None], sin.transpose(1, 2)[:, None]
        if config.position != "rope":
            return None
        scaling = config.rope_scaling
        if isinstance(scaling, DynamicNtk):
            table = frequencies(config, int(positions.max()) + 1).to(positions.device)
        return rope_tables(positions, table, layout=config.rope_layout,
                           scale=1.0 if scaling is None else scaling.magnitude)

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """What is added to the scores between places [B,T] and [B,S] of a row, or None."""
        return alibi_bias(self.table, queries, keys) if self.config.position == "alibi" else None
