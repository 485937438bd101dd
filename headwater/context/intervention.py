"""What happens to later tokens when something of some positions is taken away: causal ablations of positional vectors
(Dong et al., 2405.18009, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headwater.context.positional import PositionalVectors
from headwater.model import Decoder

Part = Literal["value", "vector", "basis"]
"""What is taken away: the values that attention reads, the positional vector p, or its basis m."""


@contextmanager
def without(model: Decoder, part: Part, positions: slice, layers: Sequence[int],
            vectors: PositionalVectors | None = None) -> Iterator[None]:
    """The model without a part of these positions, in each of these layers: blocks counted from 0.

    value: nothing of them is added to any token, themselves among them. vector, basis: subtracted from the block's
    input; `vectors` are then needed.
    """
    with ExitStack() as hooks:
        for layer in layers:
            block: Any = model.blocks[layer]
            if part == "value":
                hooks.callback(block.attention.qkv.register_forward_hook(_no_values(block.attention, positions)).remove)
                continue
            assert vectors is not None
            taken = (vectors.vectors if part == "vector" else vectors.basis)[layer, positions]
            hooks.callback(block.register_forward_pre_hook(_subtracted(taken, positions)).remove)
        yield


def _no_values(attention: Any, positions: slice) -> Any:
    width = attention.kv_heads * attention.head_dim

    def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        output = output.clone()
        output[:, positions, -width:] = 0
        return output

    return hook


def _subtracted(taken: Tensor, positions: slice) -> Any:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0].clone()
        x[:, positions] -= taken.to(x)
        return x, *inputs[1:]

    return hook


@torch.inference_mode()
def score_parts(model: Decoder, layer: int, states: Tensor, vectors: PositionalVectors) -> Tensor:
    """The attention scores of a block by what they come from, float32 [2,2,H,T,T]: the query's and the key's part,
    0 the positional vector and 1 the meaning; averaged over the texts, scaled by 1/sqrt(d), before mask and softmax.

    states: what goes into the block, [N,T,D]. The four parts add up to the whole score: the norm's scale is that of the
    whole state, and biases, like a mean that LayerNorm takes, go with the positional part. ALiBi's bias is no part of
    a score and is left out.
    """
    block: Any = model.blocks[layer]
    attention, norm = block.attention, block.attention_norm
    positional = vectors.vectors[layer].to(states).expand_as(states)
    parts = [_normed(norm, one, states, biased=number == 0) for number, one in enumerate((positional,
                                                                                          states - positional))]
    turned = []
    for number, one in enumerate(parts):
        found = attention.qkv(one) - (attention.qkv.bias if number and attention.qkv.bias is not None else 0)
        found = found.view(*one.shape[:2], -1, attention.head_dim).transpose(1, 2)[:, : attention.heads
                                                                                   + attention.kv_heads]
        turned.append(_rotated(model, found))
    scores = torch.zeros(2, 2, attention.heads, states.shape[1], states.shape[1], device=states.device)
    for q, query in enumerate(turned):
        for k, key in enumerate(turned):
            keys = key[:, attention.heads :].repeat_interleave(attention.heads // attention.kv_heads, 1)
            product = query[:, : attention.heads] @ keys.transpose(-1, -2)
            scores[q, k] = product.float().mean(0) / attention.head_dim**0.5
    return scores


def _normed(norm: Any, part: Tensor, whole: Tensor, *, biased: bool) -> Tensor:
    """A part of a state as it leaves the norm of the whole."""
    if isinstance(norm, nn.LayerNorm):
        scale = (whole.var(-1, keepdim=True, correction=0) + norm.eps).rsqrt()
        return (part - part.mean(-1, keepdim=True)) * scale * norm.weight + (norm.bias if biased else 0)
    scale = (whole.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    return part * scale * norm.weight


def _rotated(model: Decoder, heads: Tensor) -> Tensor:
    from headwater.model.positions import rotate

    places = torch.arange(heads.shape[2], device=heads.device)[None, None]
    tables = model.positions.rotation(places.expand(len(heads), -1, -1))
    return heads if tables is None else rotate(heads, *tables, model.config.rope_layout)
