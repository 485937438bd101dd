"""The one engine: batched decoding over slots of a key/value cache, requests joining and leaving at every step."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from headwater import plan
from headwater.errors import InputError
from headwater.generate.adapters import Adapters
from headwater.generate.constraint import Constraints, masked
from headwater.generate.likelihood import log_likelihoods, padded
from headwater.generate.request import Completion, Delta, LogLikelihood, Sequence, TokenLogprob
from headwater.generate.sampling import SamplingParams, SamplingRows, adjusted, sample
from headwater.generate.shared_prompts import in_families
from headwater.hardware import total_memory_bytes
from headwater.model.cache import CacheForm, KVCache, slots_for
from headwater.model.checkpoint import load_model
from headwater.model.decoder import Decoder
from headwater.model.extension import ContextSettings
from headwater.model.native import kernel
from headwater.model.packed import Base
from headwater.model.scalings import DynamicNtk
from headwater.model.stepper import stepper_of
from headwater.model.task_head import require_no_head
from headwater.progress import bar, say
from headwater.tokenizer.vocabulary import Tokenizer

PREFILL_TOKENS = 4096
"""Most padded tokens read in one prefill pass; it bounds memory and how long running answers wait."""
MASKED = 1 << 25
"""Pairs of a query and a key that the mask of one such pass holds, at most."""
WINDOW_TOKENS = 512
"""Read in one pass by a model with a window, whose cache has room for so many beside it."""


class Engine:
    """Continuous batching: `submit` queues a request, each `step` admits, decodes one token per slot, and retires.

    The slots in use are always the first rows of the cache, so that a step runs on exactly the active rows; when a
    row ends the last one moves into its place. A step's arithmetic does not mix rows, so a request's tokens do not
    depend on what else runs (up to the last bit of the matrix products). One thread at a time may use an engine.
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer, *, max_batch: int = 8,
                 max_length: int | None = None, adapters: Adapters | None = None,
                 cache: CacheForm | None = None) -> None:
        """max_length: tokens a slot holds; when None the model's own context, or as much as half of the memory holds.
        adapters: of this model, that requests may name. cache: the form of keys and values, floats when None.

        Raises `InputError` for a length that the memory cannot hold.
        """
        self.model, self.tokenizer, self.max_batch = model.eval(), tokenizer, max_batch
        self.adapters = adapters or Adapters(model, {})
        self.cache_form = cache
        self.max_length = _context(model, max_batch, max_length, max(model.front, self.adapters.front),
                                   model.dtype.itemsize if cache is None else 1)
        # A model's vocabulary may be padded beyond the tokenizer's; the padding is never produced.
        self.vocabulary = min(model.config.vocab_size, tokenizer.vocab_size)
        # A model that opens the next turn by itself has ended its own.
        self.stop_ids = tokenizer.stop_ids
        self.constraints = Constraints(tokenizer, self.vocabulary)
        self._waiting: deque[Sequence] = deque()
        self._active: list[Sequence] = []
        self._rows = SamplingRows.of([])

    @classmethod
    def load(cls, folder: Path, *, max_batch: int = 8, max_length: int | None = None,
             device: torch.device | str = "cpu", context: ContextSettings | None = None, base: Base | None = None,
             adapters: Mapping[str, Path] | None = None, cache: CacheForm | None = None) -> Self:
        """From a model folder with its tokenizer; context: a longer one than its own; base: the form into which its
        matrices are packed, cache: that of keys and values; adapters: folders by the names that requests give. Raises
        `InputError`."""
        require_no_head(folder)
        model, tokenizer = load_model(folder, device=device, context=context, base=base), Tokenizer.load(folder)
        beside = Adapters(model, adapters or {}, beside=folder, context=context)
        return cls(model, tokenizer, max_batch=max_batch, max_length=max_length, adapters=beside, cache=cache)

    @cached_property
    def _cache(self) -> KVCache:
        return self.model.cache(self.max_batch, self.max_length, piece=WINDOW_TOKENS, front=self.adapters.front,
                                form=self.cache_form)

    @property
    def active(self) -> int:
        """Slots in use."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """Requests without a slot yet."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self._active or self._waiting)

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
        self._waiting.append(sequence)

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
        """Drop the cancelled, admit the waiting, decode one token per active slot; returns who moved."""
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
        for sequence in (*self._active, *self._waiting):
            sequence.cancel()
        self._drop_cancelled()

    def generate(self, prompts: list[list[int]], params: SamplingParams | list[SamplingParams]) -> list[Completion]:
        """Answers in the order of the prompts, as many at once as there are slots; what some begin with is read once.
        Raises `InputError`."""
        each = params if isinstance(params, list) else [params] * len(prompts)
        for prompt in prompts:
            self.check(prompt)
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
        found: dict[int, Sequence] = {}
        for number, beginning in in_families(self.model.config, [prompt for prompt, _ in requests]):
            found[number] = self.submit(*requests[number])
            found[number].beginning = beginning
        return [found[number] for number in range(len(requests))]

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
        dropped = [s for s in (*self._active, *self._waiting) if s.cancelled and s.finish_reason is None]
        for sequence in dropped:
            sequence.finish("cancelled")
        if dropped:
            self._waiting = deque(s for s in self._waiting if s.finish_reason is None)
            self._retire()
        return dropped

    def _admit(self) -> bool:
        """Prefill waiting requests into free slots, each with its first token; True if there were any."""
        admitted = False
        while self._waiting and len(self._active) < self.max_batch:
            first = len(self._active)
            batch = self._next_prefill()
            names = [s.adapter for s in batch]
            self.adapters.begin(self._cache, first, names)
            with self.adapters.using(self.adapters.chosen(names, self.model.device)):
                last = self._prefill(batch, self._cache.rows(first, first + len(batch)))
            self._active += batch
            for sequence in batch:
                sequence.watch(self.vocabulary)
            self._emit(self.model.head(last), batch, SamplingRows.of([s.params for s in batch], last.device))
            admitted = True
        if admitted:
            self._regroup()
        return admitted

    def _prefill(self, batch: list[Sequence], rows: KVCache) -> Tensor:
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
        size = _piece(self.model, cache.filled + tokens.shape[1])
        rows = torch.arange(len(tokens), device=tokens.device)
        last: Tensor | None = None
        for start in range(0, tokens.shape[1], size):
            hidden = self.model.hidden(tokens[:, start : start + size], cache=cache)
            found = hidden[rows, (lengths - 1 - start).clamp(0, hidden.shape[1] - 1)]
            last = found if last is None else torch.where((lengths > start)[:, None], found, last)
        assert last is not None
        return last

    def _next_prefill(self) -> list[Sequence]:
        """The longest run from the head of the queue that has slots, begins alike and fits one pass; at least one.

        Where the cache rolls, one: the padding of a shorter row would push out what it still sees.
        """
        if self._cache.rolling:
            return [self._waiting.popleft()]
        batch: list[Sequence] = []
        longest = 0
        while self._waiting and len(self._active) + len(batch) < self.max_batch:
            longest = max(longest, self._waiting[0].own)
            if batch and (longest * (len(batch) + 1) > PREFILL_TOKENS
                          or self._waiting[0].beginning is not batch[0].beginning):
                break
            batch.append(self._waiting.popleft())
        return batch

    def _decode(self) -> None:
        tokens, slots = [s.last for s in self._active], [s.length - 1 for s in self._active]
        self._emit(self._next(tokens, slots), self._active, self._rows)

    def _next(self, tokens: list[int], slots: list[int]) -> Tensor:
        """Logits [B,V] behind a token in each active row."""
        if self._stepper is not None:
            return self._stepper(tokens, slots)
        ids, places = (torch.tensor(one, device=self.model.device)[:, None] for one in (tokens, slots))
        with self.adapters.using(self._adapted):
            return self.model.head(self.model.hidden(ids, cache=self._view, slots=places)[:, -1])

    def _emit(self, logits: Tensor, sequences: list[Sequence], rows: SamplingRows) -> None:
        """Sample a token for each row of logits [B,V] and hand it to its sequence."""
        logits = logits[:, : self.vocabulary]
        uniforms = torch.tensor([s.uniform() for s in sequences], dtype=torch.float64, device=logits.device)
        seen, counts = (_stacked([getattr(s, name) for s in sequences], logits.device) for name in ("seen", "counts"))
        masks = {row: s.matcher.mask() for row, s in enumerate(sequences) if s.matcher is not None}
        tokens = sample(masked(adjusted(logits, rows, seen, counts), masks), rows, uniforms)
        for sequence, token, row in zip(sequences, tokens.tolist(), logits):
            self._hand(sequence, token, row)

    def _hand(self, sequence: Sequence, token: int, logits: Tensor) -> None:
        """Give it the token that was sampled from logits [V], or the one that has to come instead."""
        taken: int | None = token
        if sequence.matcher is not None and token not in self.stop_ids:
            taken = sequence.matcher.accept(token, sequence.limit - len(sequence.tokens))
        if taken is None or taken in self.stop_ids:
            sequence.end_mark = taken
            sequence.finish("stop")
            return
        if sequence.params.logprobs is not None:
            sequence.logprobs.append(_logprob(logits, taken, sequence.params.logprobs))
        sequence.accept(taken, self.tokenizer.decode_bytes([taken]))

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
        self._stepper = stepper_of(self.model, self._view)
        self._adapted = self.adapters.chosen([s.adapter for s in self._active], self.model.device)
        self._rows = SamplingRows.of([s.params for s in self._active], self.model.device)


def _stacked(columns: list[Tensor | None], device: torch.device) -> Tensor | None:
    """Those that are there."""
    found = [column for column in columns if column is not None]
    return torch.stack(found).to(device) if found else None


def _piece(model: Decoder, length: int) -> int:
    """Tokens of a long prompt that are read together; where they need a mask (with ALiBi a bias for each head), so few
    that it stays small. At once: a prompt that is read both ways, and one whose angles depend on its whole length.
    """
    config = model.config
    if config.sliding_window:
        return WINDOW_TOKENS
    whole = config.prefix_ids or config.position_axes > 1 or isinstance(config.rope_scaling, DynamicNtk)
    if length <= PREFILL_TOKENS or whole:
        return length
    if model.device.type == "cpu" and kernel.takes(model.dtype, config.head_dim):
        return PREFILL_TOKENS
    heads = config.num_attention_heads if config.position == "alibi" else 1
    return max(16, min(PREFILL_TOKENS, MASKED // (heads * length)))


def _context(model: Decoder, rows: int, wanted: int | None, front: int, width: int) -> int:
    """Tokens per slot, checked against the memory and the trained length. front: keys before those of all tokens;
    width: bytes of a number of them."""
    config = model.config
    trained, memory = config.longest, total_memory_bytes(model.device.type)
    each = rows * plan.cache_bytes_per_token(config, width)
    needed = (front + slots_for(config, wanted or trained, WINDOW_TOKENS)) * each
    if wanted is not None and needed > memory:
        raise InputError(f"{rows} contexts of {wanted:,} tokens need {needed / 2**30:,.0f} GiB; this machine "
                         f"has {memory / 2**30:,.0f}", where="max_length", fix="lower max_length or max_batch")
    if wanted is not None:
        if wanted > trained and config.position != "alibi" and not config.sliding_window:
            say(f"note: a context of {wanted:,} tokens is beyond the {trained:,} that the model was trained on")
        return wanted
    held = trained if needed <= memory // 2 else max(1, memory // 2 // each - front)
    if held < trained:
        say(f"note: contexts of {held:,} tokens, all that half of the memory holds, and not of {trained:,}")
    return min(trained, held)


def _logprob(logits: Tensor, token: int, top: int) -> TokenLogprob:
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(top, len(logprobs)))
    return TokenLogprob(token, logprobs[token].item(), tuple(zip(best.indices.tolist(), best.values.tolist())))


def _completion(sequence: Sequence) -> Completion:
    delta = sequence.take()
    assert delta is not None
    assert delta.finish_reason is not None
    return Completion(sequence.tokens, delta.text, delta.finish_reason, len(sequence.prompt),
                      sequence.logprobs if sequence.params.logprobs is not None else None, sequence.end_mark)
