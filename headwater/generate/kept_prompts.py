"""Keys and values of prompts that were read, for those that begin alike later: a chat's next turn, a system prompt."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from headwater.generate.shared_prompts import covers
from headwater.model.decoder import Decoder


@dataclass(frozen=True)
class Block:
    """A piece of a prompt, behind other pieces."""

    number: int
    states: Tensor
    """Its keys and values as the cache holds them, [2L,K,P,d]."""


class KeptPrompts:
    """Pieces of prompts, each found by its tokens and the piece before it, so that prompts share what they begin with;
    the longest unused go first. They were read alone and from a multiple of their length on, as the next prompt would
    read them: its answer is the same with them as without.

    What generation itself added to the cache is not kept: those keys and values were computed token by token, which
    rounds in another way.
    """

    def __init__(self, model: Decoder, most: int) -> None:
        """most: bytes."""
        self._model, self.most, self.bytes = model, most if covers(model.config) else 0, 0
        self._blocks: OrderedDict[tuple[int, str | None, tuple[int, ...]], Block] = OrderedDict()
        self._numbers = itertools.count(1)
        self._weights: list[tuple[int, int]] = []

    def clear(self) -> None:
        self._blocks.clear()
        self.bytes = 0

    def follow_weights(self) -> None:
        """Forget all if the model has changed since the last call (in place or not; but not through `.data`, which
        leaves no trace)."""
        weights = [_state(one) for one in itertools.chain(self._model.parameters(), self._model.buffers())]
        if weights != self._weights:
            self.clear()
            self._weights = weights

    def find(self, above: int, adapter: str | None, tokens: list[int]) -> Block | None:
        """The piece with these tokens behind the piece of that number, 0: at the beginning."""
        key = above, adapter, tuple(tokens)
        if key not in self._blocks:
            return None
        self._blocks.move_to_end(key)
        return self._blocks[key]

    def keep(self, above: int, adapter: str | None, tokens: list[int], states: Tensor) -> Block | None:
        """The piece as it is kept, None where it is larger than all that may be."""
        if states.nbytes > self.most:
            return None
        key = above, adapter, tuple(tokens)
        if key in self._blocks:
            return self.find(above, adapter, tokens)
        self._blocks[key] = Block(next(self._numbers), states)
        self.bytes += states.nbytes
        while self.bytes > self.most:
            _, oldest = self._blocks.popitem(last=False)
            self.bytes -= oldest.states.nbytes
        return self._blocks[key]


def _state(tensor: Tensor | nn.Parameter) -> tuple[int, int]:
    """Changes when the tensor is another or is written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
