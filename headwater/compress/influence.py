"""Block Influence (ShortGPT, 2403.03853): how far a block turns what flows through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model import Decoder
from headwater.progress import track

TOKENS = 2048
"""Read in one pass."""
TINY = 1e-300


class Influence(NamedTuple):
    """Of one block, on average over tokens."""

    influence: float
    """1 - cos(x, y) of what the block is given and what it gives."""
    error: float
    """Standard error over rows of text; 0 of one row."""
    magnitude: float
    """|y - x| / |y|, the relative magnitude of what it adds."""


@torch.inference_mode()
def block_influences(model: Decoder, rows: Tensor) -> list[Influence]:
    """Of every block, in order, from one pass over rows of ids, int64 [N,T].

    x and y are the stream between blocks as it is, whatever norms stand inside, of any family. The cosine is each
    token's own, and averaged then. Memory does not grow with the text. Raises `InputError` for a model whose states
    are not finite.
    """
    found: list[list[Tensor]] = [[] for _ in model.blocks]  # float64 [2, rows], a mean over tokens each

    def watching(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            found[layer].append(torch.stack(compared(inputs[0], output)).mean(-1).cpu())
        return hook

    hooks = [block.register_forward_hook(watching(layer)) for layer, block in enumerate(model.blocks)]
    try:
        for some in track(rows.split(max(1, TOKENS // rows.shape[1])), "block influence"):
            model.hidden(some.to(model.device))
    finally:
        for one in hooks:
            one.remove()
    return [_of_rows(torch.cat(parts, -1), layer) for layer, parts in enumerate(found)]


def compared(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and relative magnitude of every token's states [...,D], in float64 [...]."""
    x, y = x.double(), y.double()
    squares = (x * x).sum(-1) * (y * y).sum(-1)
    cosine = (x * y).sum(-1) / squares.sqrt().clamp(min=TINY)
    return cosine, (y - x).norm(dim=-1) / y.norm(dim=-1).clamp(min=TINY)


def _of_rows(means: Tensor, layer: int) -> Influence:
    cosines, magnitudes = means
    if not bool(means.isfinite().all()):
        raise InputError(f"the states behind block {layer} are not finite", fix="look whether its weights are finite")
    error = float(cosines.std()) / math.sqrt(len(cosines)) if len(cosines) > 1 else 0.0
    return Influence(float(1 - cosines.mean()), error, float(magnitudes.mean()))
