"""The one engine: batched decoding over slots of a key/value cache, requests joining and leaving at every step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from headwater.errors import InputError
from headwater.generate.adapters import Adapters
from headwater.generate.capacity import WINDOW_TOKENS, pass_tokens, slot_bytes, slot_tokens
from headwater.generate.choosing import choose
from headwater.generate.constraint import Constraints
from headwater.generate.kept_prompts import KeptPrompts
from headwater.generate.likelihood import log_likelihoods, padded
from headwater.generate.log_likelihood import LogLikelihood
from headwater.generate.prefill import Prefill, Ready
from headwater.generate.request import Completion, Delta, Sequence
from headwater.generate.sampling import SamplingParams, SamplingRows
from headwater.generate.shared_prompts import in_families
from headwater.hardware import total_memory_bytes
from headwater.model.cache import CacheForm, KVCache
from headwater.model.checkpoint import load_model
from headwater.model.decoder import Decoder
from headwater.model.extension import ContextSettings
from headwater.model.packed import Base
from headwater.model.stepper import MOST, stepper_of
from headwater.model.task_head import require_no_head
from headwater.progress import bar
from headwater.tokenizer.vocabulary import Tokenizer

PREFILL_TOKENS = 4096
"""Most padded tokens of the prompts of one call that are read in one pass; it bounds its memory."""
MASKED = 1 << 25
"""Pairs of a query and a key that the mask of one such pass holds, at most."""


class Engine:
    """Continuous batching: `submit` queues a request, each `step` reads some of what waits, decodes one token per slot,
    and retires.

    The slots in use are always the first rows of the cache, so that a step runs on exactly the active rows; when a
    row ends the last one moves into its place. A step's arithmetic does not mix rows, and a submitted prompt is read
    alone: so a request's tokens do not depend on what else runs. Where the step is compiled that holds to the last bit;
    where it is not, and between the prompts of one call of `generate`, up to the last bit of the matrix products.
    One thread at a time may use an engine.
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer, *, max_batch: int = 8, max_length: int | None = None,
                 adapters: Adapters | None = None, cache: CacheForm | None = None, kept_bytes: int = 0) -> None:
        """max_length: tokens a slot holds; when None the model's own context, or as much as half of the memory holds.
        adapters: of this model, that requests may name. cache: the form of keys and values, floats when None.
        kept_bytes: of the memory for keys and values of prompts that were read, for `submit` and `stream` of those that
        begin alike.

        Raises `InputError` for what the memory cannot hold.
        """
        self.model, self.tokenizer, self.max_batch = model.eval(), tokenizer, max_batch
        self.adapters = adapters or Adapters(model, {})
        self.cache_form = cache
        self._front, self.kept = max(model.front, self.adapters.front), KeptPrompts(model, kept_bytes)
        self.max_length = slot_tokens(model, max_batch, max_length, self._front, cache, kept=self.kept.most,
                                      memory=total_memory_bytes(model.device.type))
        # A model's vocabulary may be padded beyond the tokenizer's; the padding is never produced.
        self.vocabulary = min(model.config.vocab_size, tokenizer.vocab_size)
        self.constraints = Constraints(tokenizer, self.vocabulary)
        # A model that opens the next turn by itself has ended its own.
        self.stop_ids = tokenizer.stop_ids
        self._prefill = Prefill(model, self.adapters, self._read, self.kept)
        self._active: list[Sequence] = []
        self._rows = SamplingRows.of([])

    @classmethod
    def load(cls, folder: Path, *, max_batch: int = 8, max_length: int | None = None,
             device: torch.device | str = "cpu", context: ContextSettings | None = None, base: Base | None = None,
             adapters: Mapping[str, Path] | None = None, cache: CacheForm | None = None, kept_bytes: int = 0) -> Self:
        """From a model folder with its tokenizer; context: a longer one than its own; base: the form into which its
        matrices are packed, cache: that of keys and values; adapters: folders by the names that requests give;
        kept_bytes: of prompts. Raises `InputError`."""
        require_no_head(folder)
        model, tokenizer = load_model(folder, device=device, context=context, base=base), Tokenizer.load(folder)
        beside = Adapters(model, adapters or {}, beside=folder, context=context)
        return cls(model, tokenizer, max_batch=max_batch, max_length=max_length, adapters=beside, cache=cache,
                   kept_bytes=kept_bytes)

    @cached_property
    def _cache(self) -> KVCache:
        return self.model.cache(self.max_batch, self.max_length, piece=WINDOW_TOKENS, front=self.adapters.front,
                                form=self.cache_form)

    @property
    def cache_bytes(self) -> int:
        """Of keys and values: those of all slots, and the most that is kept of prompts."""
        return self.max_batch * slot_bytes(self.model, self.max_length, self._front, self.cache_form) + self.kept.most

    @property
    def active(self) -> int:
        """Slots in use."""
        return len(self._active) + len(self._prefill.readings)

    @property
    def waiting(self) -> int:
        """Requests without a slot yet."""
        return len(self._prefill.waiting)

    @property
    def busy(self) -> bool:
        return bool(self.active or self.waiting)

    def _unfinished(self) -> list[Sequence]:
        return [*self._active, *(one.sequence for one in self._prefill.readings), *self._prefill.waiting]

    def check(self, prompt: list[int], adapter: str | None = None) -> None:
        """Raises `InputError` for a prompt that cannot be continued or an adapter that is not here. Safe to call from
        any thread."""
        if adapter is not None and adapter not in self.adapters.names:
            raise InputError(f"no adapter '{adapter}'", fix=f"known: {', '.join(self.adapters.names) or 'none'}")
        if not prompt:
            raise InputError("the prompt is empty", fix="give at least one token")
        if len(prompt) >= self.max_length:
            raise InputError(f"the prompt has {len(prompt)} tokens; the context holds {self.max_length}, "
                             "one of them for the answer", fix="shorten the prompt")
        if min(prompt) < 0 or max(prompt) >= self.model.config.vocab_size:
            raise InputError(f"token {min(prompt) if min(prompt) < 0 else max(prompt)} is outside the vocabulary of "
                             f"{self.model.config.vocab_size}", fix="use the tokenizer that belongs to this model")

    def submit(self, prompt: list[int], params: SamplingParams, adapter: str | None = None) -> Sequence:
        """Queue a request, of the model itself or of an adapter, and return its handle. Raises `InputError`."""
        sequence = self.prepare(prompt, params, adapter)
        self.enqueue(sequence)
        return sequence

    def enqueue(self, sequence: Sequence) -> None:
        self._prefill.waiting.append(sequence)

    def prepare(self, prompt: list[int], params: SamplingParams, adapter: str | None = None) -> Sequence:
        """A request that can be queued. Raises `InputError`. Safe to call from any thread."""
        self.check(prompt, adapter)
        strange = next((token for token in params.logit_bias if not 0 <= token < self.vocabulary), None)
        if strange is not None:
            raise InputError(f"a bias for token {strange}, which is outside the vocabulary of {self.vocabulary}",
                             where="logit_bias", fix="use the tokenizer that belongs to this model")
        limit = min(params.max_tokens, self.max_length - len(prompt))
        matcher = None if params.constraint is None else self.constraints.matcher(params.constraint, limit)
        return Sequence(list(prompt), params, limit, adapter, matcher=matcher)

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Drop the cancelled, read of those that wait, decode one token per active slot; returns who moved."""
        moved = self._drop_cancelled()
        admitted = self._admit()
        moved += self._retire() if admitted else []
        if self._active:
            moved += self._active
            self._decode()
            self._retire()
        return moved

    def reset(self) -> None:
        """Cancel everything that runs or waits."""
        for sequence in self._unfinished():
            sequence.cancel()
        self._drop_cancelled()

    def generate(self, prompts: list[list[int]], params: SamplingParams | list[SamplingParams]) -> list[Completion]:
        """Answers in the order of the prompts, as many at once as there are slots; what some begin with is read once.
        Raises `InputError`."""
        each = params if isinstance(params, list) else [params] * len(prompts)
        sequences = self._submit_families(list(zip(prompts, each, strict=True)))
        many = bar("answers", len(prompts)) if len(prompts) > self.max_batch else contextlib.nullcontext()
        try:
            with many as shown:
                while unfinished := sum(sequence.finish_reason is None for sequence in sequences):
                    self.step()
                    if shown is not None:
                        shown.advance(len(prompts) - unfinished - shown.done)
        except BaseException:
            self._abandon(sequences)
            raise
        return [_completion(sequence) for sequence in sequences]

    def _submit_families(self, requests: list[tuple[list[int], SamplingParams]]) -> list[Sequence]:
        """In the order of the requests; they wait in that of their families."""
        found = [self.prepare(*request) for request in requests]
        for number, beginning in in_families(self.model.config, [prompt for prompt, _ in requests]):
            found[number].beginning, found[number].together = beginning, True
            self.enqueue(found[number])
        return found

    def stream(self, prompt: list[int], params: SamplingParams, adapter: str | None = None) -> Iterator[Delta]:
        """One answer as it comes; closing the iterator frees the slot. Raises `InputError`."""
        sequence = self.submit(prompt, params, adapter)
        try:
            while sequence.finish_reason is None:
                self.step()
                delta = sequence.take()
                if delta is not None:
                    yield delta
        finally:
            self._abandon([sequence])

    def log_likelihoods(self, pairs: list[tuple[list[int], list[int]]]) -> list[LogLikelihood]:
        """See `likelihood.log_likelihoods`; an empty context counts as the beginning-of-text token alone."""
        pairs = [(context or [self.tokenizer.bos], continuation) for context, continuation in pairs]
        return log_likelihoods(self.model, pairs, max_length=self.max_length)

    def _abandon(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            sequence.cancel()
        self._drop_cancelled()

    def _drop_cancelled(self) -> list[Sequence]:
        dropped = [s for s in self._unfinished() if s.cancelled and s.finish_reason is None]
        for sequence in dropped:
            sequence.finish("cancelled")
        if dropped:
            self._prefill.drop(self._cache)
            self._retire()
        return dropped

    def _admit(self) -> bool:
        """Read prompts, as much as comes between two decoding steps; True if any are now read and have a token."""
        admitted = False
        for batch, logits in self._read_prompts():
            self._active += batch
            for sequence in batch:
                sequence.watch(self.vocabulary)
            self._emit(logits, batch, SamplingRows.of([s.params for s in batch], logits.device))
            admitted = True
        if admitted:
            self._regroup()
        return admitted

    def _read_prompts(self) -> Iterator[Ready]:
        while batch := self._prefill.together(self.max_batch - self.active, PREFILL_TOKENS, self._cache.rolling):
            first, names = len(self._active), [s.adapter for s in batch]
            self.adapters.begin(self._cache, first, names)
            with self.adapters.using(self.adapters.chosen(names, self.model.device)):
                last = self._read_together(batch, self._cache.rows(first, first + len(batch)))
            yield Ready(batch, self.model.head(last))
        self._prefill.begin(self._cache, self.max_batch - self.active)
        yield from self._prefill.pieces(self._cache, self._active)

    def _read_together(self, batch: list[Sequence], rows: KVCache) -> Tensor:
        """Fill rows of the cache with the prompts of relatives or strangers; the states [B,D] of their last tokens."""
        if batch[0].beginning is not None:
            batch[0].beginning.fill(rows, self._beginning)
        return self._read([s.prompt[rows.filled :] for s in batch], rows)

    def _beginning(self, tokens: list[int]) -> KVCache:
        """A cache of one row, with these."""
        cache = self.model.cache(1, len(tokens), form=self.cache_form)
        self._read([tokens], cache)
        return cache

    def _read(self, prompts: list[list[int]], cache: KVCache) -> Tensor:
        """Append prompts to what the cache holds, long ones piece by piece; the states [B,D] of their last tokens."""
        tokens = padded(prompts, self.model.device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=tokens.device)
        size = pass_tokens(self.model, cache.filled + tokens.shape[1], PREFILL_TOKENS, MASKED)
        rows = torch.arange(len(tokens), device=tokens.device)
        last: Tensor | None = None
        for start in range(0, tokens.shape[1], size):
            hidden = self.model.hidden(tokens[:, start : start + size], cache=cache)
            found = hidden[rows, (lengths - 1 - start).clamp(0, hidden.shape[1] - 1)]
            last = found if last is None else torch.where((lengths > start)[:, None], found, last)
        assert last is not None
        return last

    def _decode(self) -> None:
        tokens, slots = [s.last for s in self._active], [s.length - 1 for s in self._active]
        self._emit(self._next(tokens, slots), self._active, self._rows)

    def _next(self, tokens: list[int], slots: list[int]) -> Tensor:
        """Logits [B,V] behind a token in each active row."""
        if None not in self._steppers:
            parts = [stepper(tokens[rows], slots[rows]) for rows, stepper in zip(self._groups, self._steppers)
                     if stepper is not None]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        ids, places = (torch.tensor(one, device=self.model.device)[:, None] for one in (tokens, slots))
        with self.adapters.using(self._adapted):
            return self.model.head(self.model.hidden(ids, cache=self._view, slots=places)[:, -1])

    def _emit(self, logits: Tensor, sequences: list[Sequence], rows: SamplingRows) -> None:
        """Choose a token for each row of logits [B,V] and hand it to its sequence."""
        for sequence, chosen in zip(sequences, choose(logits[:, : self.vocabulary], sequences, rows), strict=True):
            token, matcher = chosen.token, sequence.matcher
            if token is None:
                sequence.finish("stop")
            elif token in self.stop_ids and (matcher is None or matcher.ended):
                sequence.end_mark, sequence.end = token, chosen.logprob
                sequence.finish("stop")
            else:
                if chosen.logprob is not None:
                    sequence.logprobs.append(chosen.logprob)
                sequence.accept(token, self.tokenizer.decode_bytes([token]))

    def _retire(self) -> list[Sequence]:
        """Free the slots of finished sequences; the last rows move into the holes."""
        done = [row for row, s in enumerate(self._active) if s.finish_reason is not None]
        retired = [self._active[row] for row in done]
        for row in reversed(done):
            last = self._active.pop()
            if row < len(self._active):
                self._cache.move(len(self._active), row, last.length)
                self._active[row] = last
        if done:
            self._regroup()
        return retired

    def _regroup(self) -> None:
        """What depends on which rows are active."""
        self._view = self._cache.rows(0, len(self._active))
        self._groups = _groups(len(self._active), self.model.device.type)
        self._steppers = [stepper_of(self.model, self._cache.rows(rows.start, rows.stop)) for rows in self._groups]
        self._adapted = self.adapters.chosen([s.adapter for s in self._active], self.model.device)
        self._rows = SamplingRows.of([s.params for s in self._active], self.model.device)


def _groups(rows: int, device: str) -> list[slice]:
    """Rows that are decoded by one call each: as many as compiled code takes, which twice is quicker than once without
    it. On a GPU all."""
    count = max(1, -(-rows // MOST["cpu"])) if device == "cpu" else 1
    return [slice(rows * number // count, rows * (number + 1) // count) for number in range(count)]


def _completion(sequence: Sequence) -> Completion:
    delta = sequence.take()
    assert delta is not None
    assert delta.finish_reason is not None
    return Completion(sequence.tokens, delta.text, delta.finish_reason, len(sequence.prompt),
                      sequence.logprobs if sequence.params.logprobs is not None else None, sequence.end_mark,
                      sequence.cached_tokens)
