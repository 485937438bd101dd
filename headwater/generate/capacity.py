"""What fits: tokens in a slot, and of a prompt in one pass."""

from __future__ import annotations

from headwater import plan
from headwater.errors import InputError
from headwater.model.cache import CacheForm, slots_for
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder
from headwater.model.native import kernel
from headwater.model.scalings import DynamicNtk
from headwater.progress import say

WINDOW_TOKENS = 512
"""Read in one pass by a model with a window, whose cache has room for so many beside it."""


def at_once(config: ModelConfig) -> bool:
    """Whether a prompt has to be read in one pass: one that is read both ways, or whose angles depend on its length."""
    return bool(config.prefix_ids) or config.position_axes > 1 or isinstance(config.rope_scaling, DynamicNtk)


def pass_tokens(model: Decoder, length: int, most: int, masked: int) -> int:
    """Tokens of a row that are read together when `length` are read and to be read: at most so many; where they need a
    mask (with ALiBi a bias for each head), so few that it has no more than `masked` elements."""
    config = model.config
    if config.sliding_window:
        return WINDOW_TOKENS
    if length <= most or at_once(config):
        return length
    if model.device.type == "cpu" and kernel.takes(model.dtype, config.head_dim):
        return most
    heads = config.num_attention_heads if config.position == "alibi" else 1
    return max(16, min(most, masked // (heads * length)))


def bytes_per_token(model: Decoder, form: CacheForm | None) -> int:
    """Of a slot's keys and values."""
    return plan.cache_bytes_per_token(model.config, model.dtype.itemsize if form is None else 1)


def slot_bytes(model: Decoder, length: int, front: int, form: CacheForm | None) -> int:
    """Of a slot for so many tokens. front: keys before those of all tokens."""
    return (front + slots_for(model.config, length, WINDOW_TOKENS)) * bytes_per_token(model, form)


def slot_tokens(model: Decoder, rows: int, wanted: int | None, front: int, form: CacheForm | None, *, kept: int,
                memory: int) -> int:
    """Tokens per slot, checked against the memory and the trained length. kept: bytes of the memory that prompts keep.
    Raises `InputError`."""
    config = model.config
    trained = config.longest
    needed = rows * slot_bytes(model, wanted or trained, front, form) + kept
    if wanted is not None and needed > memory:
        beside = f" with {kept / 2**30:,.1f} GiB of kept prompts" if kept else ""
        raise InputError(f"{rows} contexts of {wanted:,} tokens{beside} need {needed / 2**30:,.0f} GiB; this machine "
                         f"has {memory / 2**30:,.0f}", where="max_length", fix="lower max_length or max_batch")
    if wanted is not None:
        if wanted > trained and config.position != "alibi" and not config.sliding_window:
            say(f"note: a context of {wanted:,} tokens is beyond the {trained:,} that the model was trained on")
        return wanted
    half = memory // 2 - kept
    each = rows * bytes_per_token(model, form)
    held = trained if needed - kept <= half else max(1, half // each - front)
    if held < trained:
        say(f"note: contexts of {held:,} tokens, all that half of the memory holds, and not of {trained:,}")
    return min(trained, held)
