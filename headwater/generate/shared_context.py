"""Likelihoods behind a text that many contexts begin with, as few-shot questions do: it is read once, and what differs
is packed side by side behind its keys and values, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from headwater.generate.log_likelihood import LogLikelihood, sums
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder
from headwater.model.intervals import Intervals
from headwater.model.prefix import ReadContext
from headwater.model.scalings import DynamicNtk
from headwater.model.scoring import ALIKE, token_log_probabilities

SHARED = 32
"""Fewest tokens that are worth a pass of their own."""
TOKENS = 4096
"""Most tokens that are packed into one row."""
PADDING = -1
Context = tuple[int, ...]
Pair = tuple[list[int], list[int]]
"""Context and continuation."""


def covers(config: ModelConfig) -> bool:
    """Whether keys read once serve tokens at any place behind them, in one row for all."""
    return (config.position in ("rope", "none") and not config.sliding_window and not config.attention_sinks
            and not config.prefix_ids and not isinstance(config.rope_scaling, DynamicNtk))


def families(contexts: Iterable[Context]) -> Iterator[tuple[int, list[Context]]]:
    """Contexts that begin alike, two or more, with the number of tokens that they share; each keeps one of its own.

    In lexicographic order, in which relatives stand together. A context joins those before it where no more tokens are
    to be read then: n contexts that share p share q tokens with it, and n q >= (n - 1) p.
    """
    return alike(sorted(set(contexts)))


def alike(contexts: Iterable[Context]) -> Iterator[tuple[int, list[Context]]]:
    """The `families` of contexts that come in lexicographic order; equal ones are relatives too."""
    family: list[Context] = []
    shared = 0
    for context in contexts:
        common = min(_common(family[-1], context), shared or len(family[0]) - 1) if family else 0
        if common >= SHARED and len(family) * common >= (len(family) - 1) * shared:
            family.append(context)
            shared = common
            continue
        if shared:
            yield shared, family
        family, shared = [context], 0
    if shared:
        yield shared, family


def _common(one: Context, other: Context) -> int:
    """Tokens with which both begin, of the other one all but its last."""
    pairs = enumerate(zip(one, other[:-1]))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other) - 1))


@torch.inference_mode()
def score(model: Decoder, shared: Context, pairs: list[Pair]) -> Iterator[LogLikelihood]:
    """The log-likelihood of every continuation, in the order of the pairs; each context begins with `shared`."""
    cache = model.cache(1, len(shared))
    model.hidden(torch.tensor([shared], device=model.device), cache=cache)
    behind = cache.read(0, len(shared))
    row = _Row(len(shared))
    for pair in pairs:
        if row.ids and len(row.ids) + len(pair[0]) + len(pair[1]) - len(shared) > TOKENS:
            yield from row.score(model, behind)
            row = _Row(len(shared))
        row.add(*pair)
    yield from row.score(model, behind)


class _Row:
    """What is read at once, and which of its states predict which tokens."""

    def __init__(self, shared: int) -> None:
        self.shared = shared
        self.ids: list[int] = []
        self.documents: list[int] = []
        self.positions: list[int] = []
        self.states: list[int] = []
        self.wanted: list[int] = []
        self.lengths: list[int] = []
        self._last: list[int] = []

    def add(self, context: list[int], continuation: list[int]) -> None:
        own = context[self.shared :] + continuation[:-1]
        if own != self._last:  # continuations of one token have their context in common
            self.documents += [len(self.lengths)] * len(own)
            self.positions += range(self.shared, self.shared + len(own))
            self.ids += own
            self._last = own
        self.states += range(len(self.ids) - len(continuation), len(self.ids))
        self.wanted += continuation
        self.lengths.append(len(continuation))

    def score(self, model: Decoder, behind: ReadContext) -> list[LogLikelihood]:
        spare = -len(self.ids) % ALIKE if model.device.type == "cpu" else 0
        ids, documents, positions = (torch.tensor([numbers + [filler] * spare], device=model.device) for numbers, filler
                                     in ((self.ids, 0), (self.documents, PADDING), (self.positions, 0)))
        hidden = model.hidden(ids, Intervals.causal(documents), positions, behind=behind)[0]
        wanted = torch.tensor(self.wanted, device=model.device)
        return sums(*token_log_probabilities(model, hidden[self.states], wanted), self.lengths)
