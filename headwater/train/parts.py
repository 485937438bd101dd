"""A decoder's joined matrices in their parts while it is trained."""

from __future__ import annotations

import copy
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from headwater.model import Decoder
from headwater.model.attention import Attention
from headwater.model.feedforward import FeedForward


class PartedLinear(nn.Module):
    """A linear layer whose rows are several matrices, each a parameter of its own.

    What a decoder keeps as one matrix for speed (queries, keys and values; gate and up) is trained in its parts: each
    is split over processes and orthogonalised by itself. They are multiplied as one (`joins`), or one by one where they
    are gathered from several processes: the joined matrix would be kept until the backward pass.
    """

    def __init__(self, whole: nn.Linear, rows: dict[str, int]) -> None:
        super().__init__()
        self.joins = True
        start = 0
        for name, count in rows.items():
            part = nn.Linear(whole.in_features, count, bias=whole.bias is not None, device="meta")
            for kind, parameter in whole.named_parameters():
                own = parameter.detach()[start : start + count].clone()
                part.register_parameter(kind, nn.Parameter(own, parameter.requires_grad))
            self.add_module(name, part)
            start += count

    def parts(self) -> list[nn.Linear]:
        return [part for part in self.children() if isinstance(part, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        weights = [_here(part.weight) for part in self.parts()]
        biases = [None if part.bias is None else _here(part.bias) for part in self.parts()]
        if not self.joins:
            return torch.cat([F.linear(x, weight, bias) for weight, bias in zip(weights, biases)], -1)
        there = [bias for bias in biases if bias is not None]
        return F.linear(x, torch.cat(weights), torch.cat(there) if there else None)


def _here(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that several share."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part(model: Decoder) -> Decoder:
    """Replace the decoder's joined matrices by their parts, in place; its results stay the same. What is not trained
    stays joined."""
    for block in model.blocks:
        attention, feedforward = block.attention, block.feedforward
        assert isinstance(attention, Attention)
        assert isinstance(feedforward, FeedForward)
        query, shared = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
        if _learns(attention.qkv):
            attention.qkv = PartedLinear(attention.qkv, {"q": query, "k": shared, "v": shared})
        if feedforward.gated and _learns(feedforward.up):
            wide = model.config.intermediate_size
            feedforward.up = PartedLinear(feedforward.up, {"gate": wide, "up": wide})
    return model


def _learns(layer: nn.Module) -> TypeGuard[nn.Linear]:
    return isinstance(layer, nn.Linear) and layer.weight.requires_grad


def joined(state: dict[str, Tensor], model: Decoder) -> dict[str, Tensor]:
    """The tensors of a parted decoder by the names of a whole one."""
    found = dict(state)
    for name, module in model.named_modules():
        if isinstance(module, PartedLinear):
            for kind in ("weight", "bias"):
                own = [f"{name}.{one}.{kind}" for one, _ in module.named_children()]
                if own[0] in found:
                    found[f"{name}.{kind}"] = torch.cat([found.pop(one) for one in own])
    return found


def parted(state: dict[str, Tensor], model: Decoder) -> dict[str, Tensor]:
    """The tensors of a whole decoder by the names of a parted one: views of them."""
    found = dict(state)
    for name, module in model.named_modules():
        if isinstance(module, PartedLinear):
            children = dict(module.named_children())
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in found:
                    parts = found.pop(f"{name}.{kind}").split([one.out_features for one in module.parts()])
                    found.update({f"{name}.{child}.{kind}": part for child, part in zip(children, parts)})
    return found


def fill(model: Decoder, tensors: dict[str, Tensor]) -> None:
    """Put tensors in the place of the decoder's parameters, by name, and leave what they need of gradients as it is."""
    for name, parameter in list(model.named_parameters()):
        parent, _, leaf = name.rpartition(".")
        model.get_submodule(parent).register_parameter(leaf, nn.Parameter(tensors[name], parameter.requires_grad))
    if model.config.tie_word_embeddings:
        model.head.weight = model.embedding.weight


def working_copy(model: Decoder, dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder in parts, to be trained; the given one gives away the weights that learn and holds none of them. The
    others, which it keeps as they are, are of the products' type here."""
    found = shape_of(model)
    frozen = {name: one.detach().to(dtype) for name, one in model.named_parameters() if not one.requires_grad}
    fill(found, {**give_away(model, learning=True), **frozen})
    return part(found)


def skeleton(model: Decoder) -> Decoder:
    """The decoder in parts and without weights, of a model that may have none itself."""
    return part(shape_of(model))


def shape_of(model: Decoder) -> Decoder:
    """The decoder, whatever stands in it, without weights; what is no weight (packed matrices, tables) is shared."""
    empty = {id(one): nn.Parameter(one.detach().to("meta"), one.requires_grad) for one in model.parameters()}
    return copy.deepcopy(model, {**empty, **{id(one): one for one in model.buffers()}})


def weights_of(model: Decoder) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def give_away(model: Decoder, *, learning: bool = False) -> dict[str, Tensor]:
    """The decoder's weights by name, those alone that learn or all; it holds none of them afterwards."""
    weights = weights_of(model)
    given = {name for name, one in model.named_parameters() if one.requires_grad or not learning}
    fill(model, {name: tensor.to("meta") if name in given else tensor for name, tensor in weights.items()})
    return {name: weights[name] for name in given}


def take_back(model: Decoder, trained: dict[str, Tensor]) -> None:
    """Give the decoder the weights that it gave away, where this process has them."""
    fill(model, {**weights_of(model), **trained, **kept(model)})


def kept(model: Decoder) -> dict[str, Tensor]:
    """The weights that a decoder did not give away."""
    return {name: tensor for name, tensor in weights_of(model).items() if not tensor.is_meta}
