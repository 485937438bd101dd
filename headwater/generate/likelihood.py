"""Log-probabilities of continuations given contexts, for multiple choice; each context is read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.generate import shared_context
from headwater.generate.log_likelihood import LogLikelihood, sums
from headwater.generate.request import TokenLogprob
from headwater.generate.shared_context import Pair
from headwater.model.cache import KVCache
from headwater.model.decoder import Decoder
from headwater.model.scoring import token_log_probabilities
from headwater.progress import bar

TOKENS = 4096
"""Most padded tokens of one forward pass."""
_ROWS = 64
"""Tokens whose whole distributions are held at once."""


@dataclass(frozen=True)
class _Group:
    """Continuations of one context; `indices` says where their results go."""

    context: tuple[int, ...]
    continuations: list[list[int]]
    indices: list[int]

    @property
    def longest(self) -> int:
        return max(map(len, self.continuations))


@torch.inference_mode()
def log_likelihoods(model: Decoder, pairs: list[Pair], *, max_length: int) -> list[LogLikelihood]:
    """For each (context, continuation): sum over the continuation of log p(token | all before it).

    Logits are turned into log-probabilities in float32 over the model's whole vocabulary. Contexts that begin alike are
    read behind what they share. The others are sorted by length and batched; pairs with the same context share one pass
    over it. Raises `InputError` for an empty side, a
    token outside the vocabulary or a pair longer than `max_length` and one more, which is foretold but never read.
    """
    for number, (context, continuation) in enumerate(pairs):
        _check(number, context, continuation, model.config.vocab_size, max_length)
    results: list[LogLikelihood | None] = [None] * len(pairs)
    by_context: dict[tuple[int, ...], list[int]] = {}
    for index, pair in enumerate(pairs):
        by_context.setdefault(tuple(pair[0]), []).append(index)
    with bar("likelihoods", len(pairs)) as shown:
        for shared, contexts in shared_context.families(by_context) if shared_context.covers(model.config) else ():
            indices = [index for context in contexts for index in by_context.pop(context)]
            some = shared_context.score(model, contexts[0][:shared], [pairs[index] for index in indices])
            for index, result in zip(indices, some, strict=True):
                results[index] = result
                shown.advance()
        for batch in _batches(_groups(pairs, by_context, model.front), model.front):
            indices = [index for group in batch for index in group.indices]
            for index, result in zip(indices, _score(model, batch)):
                results[index] = result
            shown.advance(len(indices))
    return [result for result in results if result is not None]


@torch.inference_mode()
def token_logprobs(model: Decoder, tokens: list[int], top: int) -> list[TokenLogprob | None]:
    """Of every token of a text given all before it, with the likeliest ones in its place; None for the first."""
    hidden = model.hidden(torch.tensor([tokens], device=model.device))[0, :-1]
    found: list[TokenLogprob | None] = [None]
    for states, wanted in zip(hidden.split(_ROWS), torch.tensor(tokens[1:]).split(_ROWS), strict=True):
        logprobs = model.head(states).float().log_softmax(-1)
        best = logprobs.topk(top)
        own = logprobs.gather(1, wanted[:, None].to(logprobs.device))[:, 0]
        for token, value, ids, values in zip(wanted.tolist(), own.tolist(), best.indices.tolist(),
                                             best.values.tolist(), strict=True):
            found.append(TokenLogprob(token, value, tuple(zip(ids, values, strict=True))))
    return found


def _check(number: int, context: list[int], continuation: list[int], vocabulary: int, max_length: int) -> None:
    if not context or not continuation:
        raise InputError(f"pair {number} has an empty {'continuation' if context else 'context'}",
                         fix="give at least one token on each side")
    length = len(context) + len(continuation)
    if length > max_length + 1:
        raise InputError(f"pair {number} has {length} tokens; the context holds {max_length} and one more to foretell",
                         fix="shorten its context")
    if min(*context, *continuation) < 0 or max(*context, *continuation) >= vocabulary:
        raise InputError(f"pair {number} has a token outside the vocabulary of {vocabulary}",
                         fix="use the tokenizer that belongs to this model")


def _groups(pairs: list[Pair], by_context: dict[tuple[int, ...], list[int]], front: int) -> list[_Group]:
    """Pairs by context, longest first: the first batch is the one that needs the most memory. front: keys of a prefix
    before each."""
    groups = []
    for context, indices in by_context.items():
        longest = max(len(pairs[index][1]) for index in indices)
        size = max(1, TOKENS // (front + len(context) + longest))
        # A context with more continuations than one pass holds is read once per pass.
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            groups.append(_Group(context, [pairs[index][1] for index in part], part))
    return sorted(groups, key=lambda group: (-len(group.context), -group.longest, group.indices[0]))


def _batches(groups: list[_Group], front: int) -> Iterator[list[_Group]]:
    batch: list[_Group] = []
    rows = longest = 0
    for group in groups:
        grown = max(longest, len(group.context) + group.longest)
        # Each continuation holds a copy of its context's keys and values.
        if batch and (front + grown) * (rows + len(group.indices)) > TOKENS:
            yield batch
            batch, rows, grown = [], 0, len(group.context) + group.longest
        batch.append(group)
        rows, longest = rows + len(group.indices), grown
    if batch:
        yield batch


def _score(model: Decoder, batch: list[_Group]) -> list[LogLikelihood]:
    """Contexts fill a cache and predict the first token; the continuations are read on top of it for the others."""
    device = model.device
    contexts = padded([list(group.context) for group in batch], device)
    cache = model.cache(len(batch), contexts.shape[1])
    ends = torch.tensor([len(group.context) for group in batch], device=device)
    last = model.hidden(contexts, cache=cache)[torch.arange(len(batch), device=device), ends - 1]
    owner = torch.tensor([row for row, group in enumerate(batch) for _ in group.indices], device=device)
    targets = [continuation for group in batch for continuation in group.continuations]
    hidden = torch.cat((last[owner, None], _read_on(model, cache, owner, ends[owner], targets)), dim=1)
    lengths = torch.tensor([[len(target)] for target in targets], device=device)
    real = torch.arange(hidden.shape[1], device=device) < lengths
    wanted = torch.tensor([token for target in targets for token in target], device=device)
    logprobs, greedy = token_log_probabilities(model, hidden[real], wanted)
    return sums(logprobs, greedy, [len(target) for target in targets])


def _read_on(model: Decoder, cache: KVCache, owner: Tensor, starts: Tensor, targets: list[list[int]]) -> Tensor:
    """Hidden states [N, longest - 1, D] of all but the last token of every continuation."""
    inputs = padded([target[:-1] for target in targets], model.device)
    if inputs.shape[1] == 0:
        return torch.empty(len(targets), 0, model.config.hidden_size, dtype=model.dtype, device=model.device)
    slots = starts[:, None] + torch.arange(inputs.shape[1], device=model.device)
    grown = model.cache(len(owner), int(slots.max()) + 1)
    grown.take(cache, owner)
    return model.hidden(inputs, cache=grown, slots=slots)


def padded(rows: list[list[int]], device: torch.device) -> Tensor:
    """int64 [B, longest]; the padding stands behind a row's end, where causal attention never reads it."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long, device=device)
