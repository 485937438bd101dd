"""How a decoder knows where a token stands: rotary angles with their scalings, ALiBi biases, learned tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model.config import ModelConfig, RopeScaling


def rope_frequencies(dims: int, theta: float) -> Tensor:
    """theta^(-2i/d), i < d/2 (RoFormer, 2104.09864, eq. 15), [d/2].

    In float32 throughout, as every official implementation computes it: at a position of 100,000 one unit in the
    last place of a frequency is an angle of 0.006.
    """
    return 1.0 / (theta ** (torch.arange(0, dims, 2).float() / dims))


def scaled_frequencies(dims: int, theta: float, scaling: RopeScaling, *, longest: int, trained: int) -> Tensor:
    """Frequencies stretched by `scaling`, [d/2].

    longest: one more than the largest position in use; trained: the model's own length (both for dynamic NTK).
    """
    if scaling.kind == "linear":  # position interpolation, 2306.15595
        return rope_frequencies(dims, theta) / scaling.factor
    if scaling.kind == "dynamic":
        if longest <= trained:
            return rope_frequencies(dims, theta)
        stretch = scaling.factor * longest / trained - (scaling.factor - 1)
        return rope_frequencies(dims, theta * stretch ** (dims / (dims - 2)))
    return (_yarn if scaling.kind == "yarn" else _llama3)(rope_frequencies(dims, theta), theta, scaling)


def _yarn(frequencies: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    """YaRN (2309.00071) as released: the ramp is linear in the index of the dimension, not in its rotations."""
    assert scaling.original_length is not None
    length, dims = scaling.original_length, 2 * len(frequencies)

    def index(rotations: float) -> float:
        return dims * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = index(scaling.beta_fast), index(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    ramp = ((torch.arange(len(frequencies)).float() - low) / (high - low or 0.001)).clamp(0, 1)
    return frequencies / scaling.factor * ramp + frequencies * (1 - ramp)


def _llama3(frequencies: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    """LLaMA 3.1: long wavelengths are divided by the factor, short ones stay, a blend between."""
    assert scaling.original_length is not None
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    blend = ((scaling.original_length / wavelengths - low) / (high - low)).clamp(0, 1)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies


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
                return self._frequencies(config.max_position_embeddings)
            if config.position == "rope_2d":
                found = rope_frequencies(config.head_dim // 2, config.rope_theta)
                return found.half().float() if config.rope_rounding == "float16" else found
            return torch.empty(0)

    def _frequencies(self, longest: int) -> Tensor:
        config, scaling = self.config, self.config.rope_scaling
        if scaling is None:
            return rope_frequencies(config.rope_dims, config.rope_theta)
        return scaled_frequencies(config.rope_dims, config.rope_theta, scaling, longest=longest,
                                  trained=config.max_position_embeddings)

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
        config, frequencies = self.config, self.table
        if config.position == "rope_2d":
            cos, sin = rope_tables(positions, frequencies, layout=config.rope_layout, scale=1.0)  # [B,2,T,d/2]
            return cos.transpose(1, 2)[:, None], sin.transpose(1, 2)[:, None]
        if config.position != "rope":
            return None
        scale = 1.0
        if config.rope_scaling is not None:
            if config.rope_scaling.kind == "dynamic":
                frequencies = self._frequencies(int(positions.max()) + 1).to(positions.device)
            if config.rope_scaling.kind == "yarn":
                given = config.rope_scaling.attention_factor
                scale = 0.1 * math.log(config.rope_scaling.factor) + 1.0 if given is None else given
        return rope_tables(positions, frequencies, layout=config.rope_layout, scale=scale)

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """What is added to the scores between places [B,T] and [B,S] of a row, or None."""
        return alibi_bias(self.table, queries, keys) if self.config.position == "alibi" else None
