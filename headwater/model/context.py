"""From what a caller says about a batch (mask, positions, cache) to what every layer needs to know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from headwater.errors import InputError
from headwater.model import attention_blocks
from headwater.model.batch import Batch, check
from headwater.model.cache import KVCache, Place
from headwater.model.config import ModelConfig
from headwater.model.intervals import Intervals
from headwater.model.native import kernel
from headwater.model.positions import Positions
from headwater.model.windows import Window, behind, blocks_of, narrowed, nearest

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


MANY = 64
"""Queries for which a kernel that first copies all keys is quicker than one with a mask."""


class Context(NamedTuple):
    """What every layer's attention shares in one forward pass."""

    positions: Tensor
    """int64 [B,T]; of two axes the first."""
    rotation: tuple[Tensor, Tensor] | None
    """cos and sin as `positions.rotate` takes them, or None."""
    mask: Tensor | None = None
    """[B or 1, 1 or H, T, S]: bool (True = may attend) or an additive bias; None = `causal` decides."""
    causal: bool = False
    """Without a mask: every token sees those before it (True) or all of them (False)."""
    cache: KVCache | None = None
    place: Place | None = None
    intervals: Intervals | None = None
    """Instead of a mask: `interval_attention` over these."""
    slopes: Tensor | None = None
    """Of ALiBi, float32 [heads of the whole model]; a mask holds them already."""
    scale: Tensor | None = None
    """[B,1,T,1]: what queries are multiplied with, or None."""
    blocks: BlockMask | None = None
    """On a GPU, the intervals as FlexAttention takes them."""
    window: Window | None = None
    """Instead of a mask: `windows.attend`."""
    prefix: tuple[Tensor, ...] | None = None
    """Keys and values of each layer before all others, [2,K,P,d]; a cache holds them already."""


def make_context(config: ModelConfig, scheme: Positions, batch: Batch) -> tuple[Context, Tensor]:
    """The layers' context, and the positions [B,A,T] (A = 1 or 2) it was made with.

    Raises `InputError` for arguments that do not fit each other, the model or the cache.
    """
    check(config, batch)
    place = _place(batch)
    derived = _blank(config, batch) if _needs_blank(config, batch) else None
    positions = _positions(config, batch, derived)
    shared = Context(positions[:, 0], scheme.rotation(positions), cache=batch.cache, place=place,
                     slopes=scheme.table if config.position == "alibi" else None, scale=_scale(config, positions),
                     prefix=batch.prefix() if batch.prefix is not None and batch.cache is None else None)
    if config.sliding_window and (batch.cache is not None or config.attention_sinks):
        return shared._replace(window=_window(config, scheme, batch, positions)), positions
    if _runs(config, batch, derived):
        whole = batch.intervals or Intervals.causal(torch.zeros_like(batch.input_ids, dtype=torch.int64))
        batch = batch._replace(intervals=narrowed(whole, config.sliding_window) if config.sliding_window else whole)
    if batch.intervals is not None:
        blocks = attention_blocks.blocks_of(batch.intervals) if batch.input_ids.is_cuda else None
        return shared._replace(intervals=batch.intervals, blocks=blocks), positions
    if derived is None and _continues(config, batch):
        last = batch.front + batch.places.expand(batch.input_ids.shape)
        first = torch.zeros_like(last)
        if batch.fronts is not None:
            first += (batch.front - batch.fronts)[:, None]
        return shared._replace(intervals=Intervals(first, last)), positions
    mask = seen = _mask(batch, place.reach, None if derived is None else derived.lengths)
    if seen is not None and config.sliding_window:
        keys = torch.arange(place.reach, device=seen.device)
        mask = seen = seen & (keys > batch.places[..., None] - config.sliding_window)[:, None]
    bias = scheme.bias(*_distances(batch, place, positions))
    if bias is not None:
        mask = bias.masked_fill(~(_causal(batch, place.reach) if seen is None else seen), -math.inf)
    if mask is not None and batch.front:
        mask = _behind(mask, batch)
    return shared._replace(mask=mask, causal=batch.fresh and not batch.front), positions


def _behind(mask: Tensor, batch: Batch) -> Tensor:
    """A mask [B or 1, 1 or H, T, S] with the keys of prefixes before all others, each row's own alone."""
    wide, fronts = mask.is_floating_point(), batch.fronts
    mask = F.pad(mask, (batch.front, 0), value=0.0 if wide else True)
    if fronts is None:
        return mask
    hidden = torch.arange(mask.shape[-1], device=mask.device) < (batch.front - fronts)[:, None, None, None]
    return mask.masked_fill(hidden, -math.inf) if wide else mask & ~hidden


def _runs(config: ModelConfig, batch: Batch, derived: Blank | None) -> bool:
    """Whether the tokens see runs of keys that nobody has said: in a window, or behind a prefix, beside which no kernel
    is causal by itself."""
    if batch.cache is not None or batch.attention_mask is not None or derived is not None:
        return False
    return bool(config.sliding_window) or (batch.front > 0 and batch.intervals is None)


def _scale(config: ModelConfig, positions: Tensor) -> Tensor | None:
    """Of queries at positions [B,A,T], the first axis of which counts: by log-n as many keys are seen as a position has
    before it."""
    if not config.log_n_length:
        return None if config.score_scale == 1 else torch.tensor(config.score_scale, device=positions.device)
    log_n = ((positions[:, 0] + 1).float().log() / math.log(config.log_n_length)).clamp(min=1)
    return config.score_scale * log_n[:, None, :, None]


def _continues(config: ModelConfig, batch: Batch) -> bool:
    """Whether these tokens see all that a cache holds of their rows, by a kernel that needs no mask for that and has no
    gradients."""
    cache = batch.cache
    if cache is None or batch.slots is not None or batch.attention_mask is not None or torch.is_grad_enabled():
        return False
    if batch.front and config.position == "alibi":  # none of it to the prefix
        return False
    counted = batch.position_ids is None and cache.positions is None
    if batch.input_ids.shape[1] < MANY or cache.visible is not None or not counted:
        return False
    return batch.input_ids.device.type == "cpu" and kernel.takes(cache.dtype, config.head_dim)


def _window(config: ModelConfig, scheme: Positions, batch: Batch, positions: Tensor) -> Window:
    """Where a window's tokens lie in a cache, or sinks stand beside them."""
    if batch.attention_mask is not None:
        raise InputError("attention_mask beside attention_sinks or the cache of a sliding_window",
                         fix="leave it out; give rows of several documents as intervals, of other lengths by slots")
    if batch.intervals is not None and bool((batch.intervals.last > batch.places).any()):
        raise InputError("attention_sinks beside tokens that are read both ways", fix="give causal intervals")
    queries = batch.places
    keys = queries if batch.cache is None else batch.cache.numbers(queries[:, -1])
    turned = scheme.rotation(nearest(config, positions)) if config.attention_sinks else None
    begins = torch.zeros_like(queries) if batch.intervals is None else batch.intervals.first
    blocks = blocks_of(config, queries, keys, begins)
    return Window([behind(block, batch.front, batch.fronts) for block in blocks] if batch.front else blocks, turned)


def _distances(batch: Batch, place: Place, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Where queries [B or 1, T] and keys [B or 1, S] stand, for biases by distance: their slots, or the positions a
    caller gave."""
    known = None if batch.cache is None else batch.cache.positions
    keys = torch.arange(place.reach, device=batch.input_ids.device)[None]
    if batch.position_ids is None and known is None:
        return batch.places, keys
    keys = (keys.expand(len(positions), -1) if known is None else known[:, 0, : place.reach]).clone()
    if place.at is None:
        keys[:, place.start :] = positions[:, 0]
    else:
        keys[place.at] = positions[:, 0]
    return positions[:, 0], keys


def _place(batch: Batch) -> Place:
    reach = batch.start + batch.input_ids.shape[1] if batch.slots is None else int(batch.slots.max()) + 1
    if batch.cache is not None and reach > batch.cache.length:
        raise InputError(f"{reach} tokens do not fit a cache of {batch.cache.length}",
                         fix="shorten the prompt or ask for fewer tokens")
    if batch.cache is not None and batch.cache.rolling:
        assert batch.input_ids.shape[1] <= batch.cache.piece
        rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)[:, None]
        return Place(batch.start, batch.cache.slots, (rows, batch.cache.slot_of(batch.places)))
    if batch.slots is None:
        return Place(batch.start, reach, None)
    rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)[:, None]
    return Place(0, reach, (rows, batch.slots))


class Blank(NamedTuple):
    """How ChatGLM-6B reads a row: context, then an answer that stands at the place of a mask token."""

    lengths: Tensor
    """Tokens before <sop>, [B]."""
    places: Tensor
    """Index of the mask token, [B]."""


def _needs_blank(config: ModelConfig, batch: Batch) -> bool:
    if not config.prefix_ids or not batch.fresh:
        return False
    mask = batch.attention_mask
    return batch.position_ids is None or (batch.intervals is None and (mask is None or mask.dim() == 2))


def _blank(config: ModelConfig, batch: Batch) -> Blank:
    """The official rule: <sop> ends the context; of the mask tokens the first kind that a row holds counts."""
    ids, (*masks, start) = batch.input_ids, config.prefix_ids
    begins = ids == start
    held = torch.stack([(ids == mask).any(-1) for mask in masks])  # [kinds, B]
    if not bool(begins.any(-1).all()) or not bool(held.any(0).all()):
        what = f"<sop> ({start})" if not bool(begins.any(-1).all()) else f"mask token ({', '.join(map(str, masks))})"
        raise InputError(f"a row holds no {what}, so where its answer begins is unknown",
                         fix="render prompts with the chat template, or give attention_mask [B,1,T,S] and position_ids")
    kind = torch.tensor(masks, device=ids.device)[held.to(torch.uint8).argmax(0)]
    return Blank(begins.to(torch.uint8).argmax(-1), (ids == kind[:, None]).to(torch.uint8).argmax(-1))


def _positions(config: ModelConfig, batch: Batch, blank: Blank | None) -> Tensor:
    rows, length = batch.input_ids.shape
    axes = config.position_axes
    given = batch.position_ids
    if given is not None:
        given = given[:, None] if given.dim() == 2 and axes == 1 else given
        if given.shape != (rows, axes, length):
            raise InputError(f"position_ids has shape {list(batch.position_ids.shape)}",  # type: ignore[union-attr]
                             fix=f"give [{rows}, {length}]" if axes == 1 else f"give [{rows}, 2, {length}]")
        return given
    places = batch.places.expand(rows, length)
    if not batch.fresh:
        return _continued(batch, places, axes)
    if blank is not None:
        inside = places - blank.lengths[:, None] + 1  # 1 at <sop>
        return torch.stack((torch.where(inside > 0, blank.places[:, None], places), inside.clamp_min(0)), dim=1)
    return torch.stack((places, torch.zeros_like(places)), dim=1) if axes == 2 else places[:, None]


def _continued(batch: Batch, places: Tensor, axes: int) -> Tensor:
    """Positions that go on from the slot before the first: in a generated block only the second number counts."""
    known = None if batch.cache is None else batch.cache.positions
    if known is None:
        return places[:, None]
    before = (places[:, 0] - 1).clamp_min(0)
    last = known[torch.arange(len(known), device=known.device), :, before]  # [B,A]
    steps = places - places[:, :1] + 1
    if axes == 1:
        return last[:, :, None] + steps[:, None]
    inside = last[:, 1:] > 0
    return torch.stack((last[:, :1] + torch.where(inside, 0, steps), torch.where(inside, last[:, 1:] + steps, 0)),
                       dim=1)


def _causal(batch: Batch, reach: int) -> Tensor:
    """bool [B or 1, 1, T, S]: every token sees the slots up to its own."""
    keys = torch.arange(reach, device=batch.input_ids.device)
    return (keys <= batch.places[..., None])[:, None]


def _mask(batch: Batch, reach: int, lengths: Tensor | None) -> Tensor | None:
    """bool [B or 1, 1, T, S], None where `Context.causal` says it all. Every token sees at least itself."""
    given, length = batch.attention_mask, batch.input_ids.shape[1]
    if given is not None and given.dim() == 1:  # GLM: the length of each row's context
        given, lengths = None, given
    seen = None if batch.cache is None else batch.cache.visible
    if given is None and lengths is None and seen is None and batch.fronts is None and (
            (batch.fresh and not batch.front) or (batch.slots is None and length == 1)):
        return None
    places = batch.places
    own = (torch.arange(reach, device=places.device) == places[..., None])[:, None]
    if given is not None and given.dim() == 4:
        if given.shape[-2:] != (length, reach):
            raise InputError(f"attention_mask has shape {list(given.shape)}", fix=f"give [B, 1, {length}, {reach}]")
        given = given.bool()
        return given | (own & ~given.any(-1, keepdim=True))
    mask = _causal(batch, reach)
    if lengths is not None:
        mask = mask | (torch.arange(reach, device=mask.device) < lengths[:, None])[:, None, None]
    if given is not None:
        if given.dim() != 2 or given.shape[-1] != reach:
            raise InputError(f"attention_mask has shape {list(given.shape)}", fix=f"give [B, {reach}]: one number for "
                             "every token read so far, 0 for padding")
        queries = given[:, batch.start :] if batch.slots is None else given.gather(1, batch.slots)
        same = (given[:, None, :] == queries[:, :, None]) & (given != 0)[:, None, :]  # other numbers: other documents
        return (mask & same[:, None]) | own
    if seen is not None:
        early = torch.arange(reach, device=mask.device) < batch.start
        mask = mask & (seen[:, None, None, :reach] | ~early)
    return mask


def remember(batch: Batch, context: Context, positions: Tensor) -> None:
    """Count the batch as read, and keep what a later pass over the same cache must know: positions that are not the
    slots, and slots that are padding."""
    cache, place = batch.cache, context.place
    if cache is None or place is None:
        return
    if batch.position_ids is not None and cache.positions is None:
        slots = torch.arange(cache.length, device=positions.device)
        cache.positions = slots.expand(len(positions), positions.shape[1], cache.length).clone()
    if cache.positions is not None:
        if place.at is None:
            cache.positions[:, :, place.start : place.reach] = positions
        else:
            cache.positions[place.at[0], :, place.at[1]] = positions.transpose(1, 2)
    if batch.slots is None:
        cache.filled = batch.start + batch.input_ids.shape[1]
        _remember_visible(batch, cache, place.reach)


def _remember_visible(batch: Batch, cache: KVCache, reach: int) -> None:
    """What a token after these may see where its caller says nothing: what the last real token of its row saw."""
    mask = batch.attention_mask
    if mask is None or mask.dim() == 1:
        return
    seen = torch.ones(len(batch.input_ids), cache.length, dtype=torch.bool, device=mask.device)
    if mask.dim() == 4:
        seen[:, :reach] = mask[:, 0, -1].bool()
    else:
        last = mask.shape[1] - 1 - (mask != 0).flip(1).to(torch.uint8).argmax(1, keepdim=True)
        seen[:, :reach] = (mask != 0) & (mask == mask.gather(1, last))
    cache.visible = seen
