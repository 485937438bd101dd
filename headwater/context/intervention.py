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
from headwater.model.batch import Batch
from headwater.model.context import make_context
from headwater.model.intervals import Intervals
from headwater.model.positions import rotate

Part = Literal["value", "vector", "basis"]
"""What is taken away: the values that attention reads, the positional vector p, or its basis m."""


@contextmanager
def without(model: Decoder, part: Part, positions: slice, layers: Sequence[int],
            vectors: PositionalVectors | None = None) -> Iterator[None]:
    """The model without a part of these positions, in each of these layers: blocks counted from 0.

    value: nothing of them is added to any token, themselves among them. vector, basis: subtracted from the block's
    input; `vectors` are then needed. What an earlier of these blocks has taken is missing from the stream already, so a
    later one takes what has come since.
    """
    before: Tensor | float = 0.0
    with ExitStack() as hooks:
        for layer in sorted(set(layers)):
            block: Any = model.blocks[layer]
            if part == "value":
                hooks.callback(block.attention.qkv.register_forward_hook(_no_values(block.attention, positions)).remove)
                continue
            assert vectors is not None
            whole = (vectors.vectors if part == "vector" else vectors.basis)[layer, positions]
            hooks.callback(block.register_forward_pre_hook(_subtracted(whole - before, positions)).remove)
            before = whole
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
def score_parts(model: Decoder, layer: int, states: Tensor, vectors: PositionalVectors,
                queries: Tensor | None = None) -> Tensor:
    """The attention scores of a block by what they come from, float32 [2,2,H,Q,T]: the query's and the key's part,
    0 the positional vector and 1 the meaning; averaged over the texts, scaled as the model scales them, before mask and
    softmax.

    states: what goes into the block, [N,T,D]. queries: int64 [Q], the positions of those that are wanted; all when not
    given. The four parts add up to the whole score: the norm's scale is that of the whole state, and biases, like a
    mean that LayerNorm takes, go with the positional part. ALiBi's bias is no part of a score and is left out.
    """
    block: Any = model.blocks[layer]
    attention, norm = block.attention, block.attention_norm
    length = states.shape[1]
    queries = torch.arange(length, device=states.device) if queries is None else queries
    positional = vectors.vectors[layer].to(states).expand_as(states)
    ids = torch.zeros(1, length, dtype=torch.int64, device=states.device)
    context, _ = make_context(model.config, model.positions, Batch(ids, None, None, None, None, Intervals.causal(ids)))
    asked, seen = [], []
    for number, part in enumerate((positional, states - positional)):
        found = attention.qkv(_normed(norm, part, states, biased=number == 0))
        if number and attention.qkv.bias is not None:
            found = found - attention.qkv.bias
        heads = found.view(*part.shape[:2], -1, attention.head_dim).transpose(1, 2)  # [N,H+2K,T,d]
        if context.rotation is not None:
            heads = rotate(heads, *context.rotation, attention.rope_layout)
        query = heads[:, : attention.heads] / attention.head_dim**0.5
        asked.append((query if context.scale is None else query * context.scale)[:, :, queries])
        keys = heads[:, attention.heads : attention.heads + attention.kv_heads]
        seen.append(keys.repeat_interleave(attention.heads // attention.kv_heads, 1))
    return torch.stack([torch.stack([(query @ key.transpose(-1, -2)).float().mean(0) for key in seen])
                        for query in asked])


def _normed(norm: Any, part: Tensor, whole: Tensor, *, biased: bool) -> Tensor:
    """A part of a state as it leaves the norm of the whole."""
    if isinstance(norm, nn.LayerNorm):
        scale = (whole.var(-1, keepdim=True, correction=0) + norm.eps).rsqrt()
        return (part - part.mean(-1, keepdim=True)) * scale * norm.weight + (norm.bias if biased else 0)
    scale = (whole.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    return part * scale * norm.weight
