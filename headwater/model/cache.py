"""The keys and values of what was already read."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.prefix import Prefix, ReadContext
from headwater.model.windows import NEVER
from headwater.plan.serving import SCALE_BYTES


class Place(NamedTuple):
    """Where a forward pass stores its keys and values."""

    start: int
    reach: int
    """Entries that the pass may see: one more than its last slot."""
    at: tuple[Tensor, Tensor] | None
    """Row [B,1] and slot [B,T] of every token; None when the pass fills the slots `start` to `reach` of every row."""


CacheForm = Literal["int8"]


class KVCache:
    """Keys and values of every layer, [B,K,S,d] each; slot j of a row holds its token number j, padding included.

    Of a model with a window a cache may roll: behind the sinks its slots are used round and round.

    A forward pass without `slots` appends to all rows alike: `filled` says how far. With `slots` rows are independent
    and may be filled to different lengths; a token sees slots up to its own, so what stands behind a row's own
    length is never read before it is overwritten.

    A row may begin with a prefix, its own keys and values, which `begin` writes; nothing counts them as slots. All rows
    have room for the longest, in front, and a shorter one stands at its end.

    In the form int8 the keys and values of a token and head are bytes with a scale, which stands behind them:
    max|x| / 127, so that none is off by more than a 254th of the largest. What is read of a layer is floats meanwhile.
    """

    def __init__(self, config: ModelConfig, batch: int, length: int, *, dtype: torch.dtype = torch.float32,
                 device: torch.device | str = "cpu", piece: int = 0, front: int = 0, form: CacheForm | None = None
                 ) -> None:
        """length: tokens a row can hold. piece: if given, a pass reads at most so many, and the cache rolls where it
        would be longer than a window, its sinks and those. front: keys of the longest prefix. form: floats when None.

        Raises `InputError` for heads that int8 cannot hold.
        """
        if form is not None and config.head_dim % SCALE_BYTES:
            raise InputError(f"heads of {config.head_dim} numbers cannot be cached as {form}: 4 does not divide them",
                             fix="leave the cache as floats")
        self.dtype, stored = dtype, dtype if form is None else torch.int8
        wide = config.head_dim + (0 if form is None else SCALE_BYTES)
        shape = (batch, config.num_key_value_heads, front + slots_for(config, length, piece), wide)
        self.length, self.sinks, self.piece = length, config.attention_sinks, piece
        keys = [torch.zeros(shape, dtype=stored, device=device) for _ in range(config.num_hidden_layers)]
        self._hold(keys, [torch.zeros_like(key) for key in keys], front)
        self.fronts = [0] * batch
        """Keys of each row's own prefix, of the `front` that there is room for."""
        self.filled = 0
        self.kept: dict[str, Any] = {}
        """What was made for this memory and lasts as long; views share it."""
        self.visible: Tensor | None = None
        """bool [B,S]: the slots that the next token may see; None means all of them."""
        self.positions: Tensor | None = None
        """int64 [B,A,S]: every slot's position; None means the slot's own number."""
        if config.position_axes > 1:
            self.positions = torch.zeros(batch, config.position_axes, length, dtype=torch.long, device=device)

    def _hold(self, keys: list[Tensor], values: list[Tensor], front: int) -> None:
        self._all_keys, self._all_values, self.front = keys, values, front
        self.keys, self.values = ([one[:, :, front:] for one in whole] for whole in (keys, values))

    @torch.no_grad()
    def begin(self, rows: range, prefix: Prefix | None) -> None:
        """Put a prefix before these rows in the place of what stood there; None: nothing."""
        length = 0 if prefix is None else prefix.length
        self.fronts[rows.start : rows.stop] = [length] * len(rows)
        own = (slice(rows.start, rows.stop), slice(None), slice(self.front - length, self.front))
        for layer, (keys, values) in enumerate(() if prefix is None else prefix()):
            self._all_keys[layer][own], self._all_values[layer][own] = self._stored(keys), self._stored(values)

    @property
    def batch(self) -> int:
        return self.keys[0].shape[0]

    @property
    def unequal(self) -> bool:
        """Whether the prefixes of some rows are shorter than others."""
        return any(one != self.front for one in self.fronts)

    @property
    def slots(self) -> int:
        return self.keys[0].shape[2]

    @property
    def rolling(self) -> bool:
        return self.slots < self.length

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self._all_keys, *self._all_values))

    def slot_of(self, numbers: Tensor) -> Tensor:
        """Where the tokens of these numbers lie."""
        if not self.rolling:
            return numbers
        behind = self.sinks + (numbers - self.sinks) % (self.slots - self.sinks)
        return torch.where(numbers < self.sinks, numbers, behind)

    def numbers(self, last: Tensor) -> Tensor:
        """int64 [B or 1, S]: which token each slot holds when the last of its row is number `last` [B or 1]."""
        slots = torch.arange(self.slots, device=last.device)
        if not self.rolling:
            return slots[None]
        found = last[:, None] - (last[:, None] - slots) % (self.slots - self.sinks)
        return torch.where(slots < self.sinks, slots, torch.where(found < self.sinks, NEVER, found))

    def rows(self, start: int, stop: int) -> KVCache:
        """A view of consecutive rows that shares this cache's memory, with no more in front than the longest prefix
        among them; it counts as empty."""
        view = object.__new__(KVCache)
        view.length, view.sinks, view.piece, view.dtype = self.length, self.sinks, self.piece, self.dtype
        view.kept = self.kept
        view.fronts = self.fronts[start:stop]
        front = max(view.fronts, default=0)
        own = (slice(start, stop), slice(None), slice(self.front - front, None))
        view._hold([key[own] for key in self._all_keys], [value[own] for value in self._all_values], front)
        view.positions = None if self.positions is None else self.positions[start:stop]
        view.filled, view.visible = 0, None
        return view

    def move(self, source: int, target: int, length: int) -> None:
        """Copy row `source`, of `length` tokens, over row `target`, its prefix too."""
        length = min(length, self.slots)
        self.fronts[target] = self.fronts[source]
        held = slice(self.front - self.fronts[source], self.front + length)
        for tensor in (*self._all_keys, *self._all_values):
            tensor[target, :, held] = tensor[source, :, held]
        if self.positions is not None:
            self.positions[target, :, :length] = self.positions[source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        """Exchange two rows of at most `length` tokens, their prefixes too."""
        length = min(length, self.slots)
        self.fronts[one], self.fronts[other] = self.fronts[other], self.fronts[one]
        for tensor in (*self._all_keys, *self._all_values):
            held = tensor[:, :, : self.front + length]
            held[[one, other]] = held[[other, one]]
        if self.positions is not None:
            self.positions[[one, other], :, :length] = self.positions[[other, one], :, :length]

    def copied(self, row: int, start: int, stop: int) -> Tensor:
        """A row's tokens `start` to `stop` as they are held: [2L,K,n,d], the keys of all layers, then the values."""
        assert not self.rolling
        return torch.stack([tensor[row, :, start:stop] for tensor in (*self.keys, *self.values)])

    def put(self, row: int, start: int, states: Tensor) -> None:
        """What `copied` gave, from token `start` on."""
        for tensor, part in zip((*self.keys, *self.values), states, strict=True):
            tensor[row, :, start : start + part.shape[1]] = part

    def take(self, other: KVCache, rows: Tensor) -> None:
        """Row i becomes row rows[i] of `other`, as far as both reach; prefixes stay."""
        assert not self.rolling
        assert not other.rolling
        kept = min(self.length, other.length)
        for target, source in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            target[:, :, :kept] = source[rows, :, :kept]
        if self.positions is not None and other.positions is not None:
            self.positions[:, :, :kept] = other.positions[rows, :, :kept]

    def read(self, row: int, tokens: int) -> ReadContext:
        """What a row's first tokens left here, behind its prefix."""
        assert not self.rolling
        held = slice(self.front - self.fronts[row], self.front + tokens)
        return ReadContext(tuple(self._read(torch.stack((keys[row, :, held], values[row, :, held])))
                                 for keys, values in zip(self._all_keys, self._all_values, strict=True)))

    def update(self, layer: int, keys: Tensor, values: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Store keys and values [B,K,T,d] at their place; return the layer's entries that the place reaches,
        behind the prefix."""
        for stored, new in ((self.keys[layer], self._stored(keys)), (self.values[layer], self._stored(values))):
            if place.at is None:
                stored[:, :, place.start : place.reach] = new
            else:
                # Indexing with two tensors around a slice puts the indexed dimensions first: [B,T,K,d].
                stored[place.at[0], :, place.at[1]] = new.transpose(1, 2).to(stored.dtype)
        reach = self.front + place.reach
        return self._read(self._all_keys[layer][:, :, :reach]), self._read(self._all_values[layer][:, :, :reach])

    def _stored(self, x: Tensor) -> Tensor:
        """As the cache holds it."""
        return x if self.keys[0].dtype == self.dtype else in_bytes(x)

    def _read(self, stored: Tensor) -> Tensor:
        return stored if stored.dtype == self.dtype else from_bytes(stored, self.dtype)


def in_bytes(x: Tensor) -> Tensor:
    """int8 [..,d+4] of [..,d]: x / s rounded, and the four bytes of the scale s in float32."""
    scale = x.abs().amax(-1, keepdim=True).float() / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return torch.cat([torch.round(x / scale).to(torch.int8), scale.view(torch.int8)], -1)


def from_bytes(stored: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers [..,d] again."""
    scale = stored[..., -SCALE_BYTES:].view(torch.float32)
    return (stored[..., :-SCALE_BYTES] * scale).to(dtype)


def slots_for(config: ModelConfig, length: int, piece: int) -> int:
    """Slots of a cache for `length` tokens, read by at most `piece` at once (0: any number)."""
    if not (piece and config.sliding_window):
        return length
    return min(length, config.attention_sinks + config.sliding_window + piece - 1)
