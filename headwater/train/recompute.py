"""Activation checkpointing: what the backward pass needs is kept, or computed again (1604.06174)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from headwater.model import Decoder
from headwater.model.lora import Lora

Recompute = Literal["none", "selective", "full"]


def _policy(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Matrix products and attention are kept, what is cheap (norms, rotations, gates) is computed again."""
    kept = operation in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default) or (
        any(name in operation.name() for name in ("attention", "four_bit_product")))
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def recompute(model: Decoder, what: Recompute) -> None:
    """Let every block compute again in the backward pass, in place: `full` all of it, `selective` what is cheap."""
    if what == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}  # nothing draws random numbers
    if what == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
        for module in model.modules():
            if isinstance(module, Lora):
                module.in_place = False
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, **options)
