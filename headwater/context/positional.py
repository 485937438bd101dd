"""Positional vectors: what of a hidden state depends on where its token stands (Dong et al., 2405.18009).

h_(l,t) = p_(l,t) + c_(l,t): the positional vector p is the mean over texts of the state of layer l at position t, what
is left is the token's meaning, c. p_(l,t) = u_l + m_(l,t): the mean over positions, and the positional basis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.model import Decoder


class PositionalVectors(NamedTuple):
    """Of every layer and position."""

    vectors: Tensor
    """p, float32 [1 + layers, T, D]: what goes into the first block, then what each block gives."""
    noise: Tensor
    """The squared length that chance alone gives a vector, on average over positions, float32 [1 + layers]: from two
    halves of the texts, whose means would be one."""
    texts: int

    @property
    def basis(self) -> Tensor:
        """m = p - u, [1 + layers, T, D]."""
        return self.vectors - self.vectors.mean(1, keepdim=True)

    def energy(self) -> Tensor:
        """The basis's squared length on average over positions, less what is chance, [1 + layers]."""
        return self.basis.square().sum(-1).mean(1) - self.noise

    def principal(self, layer: int, components: int = 2) -> tuple[Tensor, Tensor]:
        """Where positions lie along the basis's principal components, [T, components], and each one's share of its
        variance."""
        left, sizes, _ = torch.linalg.svd(self.basis[layer], full_matrices=False)
        shares = sizes.square() / sizes.square().sum().clamp(min=1e-30)
        return left[:, :components] * sizes[:components], shares[:components]


@contextmanager
def states_of(model: Decoder) -> Iterator[list[Tensor]]:
    """The states of a forward pass inside of the block, in a list that each pass fills anew: [B,T,D] before the first
    block and after each."""
    found: list[Tensor] = []

    def before(_: object, inputs: tuple[Tensor, ...]) -> None:
        found.clear()
        found.append(inputs[0])

    hooks = [model.blocks[0].register_forward_pre_hook(before)]
    hooks += [block.register_forward_hook(lambda _, __, output: found.append(output)) for block in model.blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def positional_vectors(model: Decoder, batches: Iterable[Tensor]) -> PositionalVectors:
    """The means of hidden states over texts that come in batches of ids int64 [B,T], all of one length.

    Memory does not grow with the texts. Raises `InputError` for texts of several lengths, or fewer than two.
    """
    sums: Tensor | None = None  # of even and of odd texts, float64 [2, 1 + layers, T, D]
    texts = 0
    with states_of(model) as states:
        for ids in batches:
            if sums is not None and ids.shape[1] != sums.shape[2]:
                raise InputError(f"a text of {ids.shape[1]} tokens after one of {sums.shape[2]}",
                                 fix="give texts of one length: a position's mean is taken over all of them")
            model.hidden(ids)
            if sums is None:
                sums = torch.zeros(2, len(states), *states[0].shape[1:], dtype=torch.float64, device=ids.device)
            for layer, state in enumerate(states):
                for half in (0, 1):
                    sums[half, layer] += state[(half + texts) % 2 :: 2].double().sum(0)
            texts += len(ids)
    if sums is None or texts < 2:
        raise InputError(f"{texts} texts", fix="give at least two, and some hundred for a usable mean")
    if not bool(sums.isfinite().all()):
        raise InputError("the model's hidden states are not finite", fix="look whether its weights are")
    even = (texts + 1) // 2
    halves = (sums[0] / even - sums[1] / (texts - even)).square().sum(-1).mean(1)
    # Of the difference of two halves' means the variance is 1/even + 1/odd of a state's, of the mean of all 1/texts.
    noise = halves / (texts / even + texts / (texts - even))
    return PositionalVectors((sums.sum(0) / texts).float().cpu(), noise.float().cpu(), texts)
