"""Decoding one token a row on a GPU by replaying a step that was captured once, for the models that it covers.

A step is a few kernels a layer over tensors that stay where they are: tokens, slots and all between them are written
in place, and how long the rows are lies in the slots. So one capture for each number of rows serves every length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from headwater.model import gpu
from headwater.model.cache import KVCache
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder
from headwater.model.native.weights import FEW, Weights
from headwater.model.positions import frequencies
from headwater.model.scalings import DynamicNtk

Run = Callable[[], None]
_KEPT = "captured steps"


class Parts(NamedTuple):
    """What of a model a step reads, where it lies."""

    embedding: Tensor
    table: Tensor
    """Frequencies or slopes."""
    products: list[Weights]
    """qkv, out, up and down of each layer."""
    norms: list[Tensor | None]
    """Gains before attention and before the feed-forward, and behind each."""
    last: Tensor
    """Gain of the final norm."""
    head: Weights

    def tensors(self) -> list[Tensor]:
        found = [self.embedding, self.table, self.last, *self.norms]
        for one in (*self.products, self.head):
            found += one
        return [tensor for tensor in found if tensor is not None]


def captured_stepper(model: Decoder, cache: KVCache, parts: Parts, capture: Callable[[Run], Run] | None = None
                     ) -> CapturedStepper:
    """The stepper of the rows of a cache: the one that an earlier call made for as many rows, where the cache's memory
    and all weights are where they were. capture: gives what replays a function; None: CUDA graphs.

    They are kept beside the cache and last as long as it, or until weights lie elsewhere: what changes them in place
    is seen by every replay.
    """
    described = _described(model.config, cache, parts)
    held = cache.kept.get(_KEPT)
    if held is None or held.described != described:
        held = cache.kept[_KEPT] = _Held(described, Workspace.empty(model.config, model.device), {})
    if cache.batch not in held.steppers:
        step = Step(model.config, cache, parts, held.workspace)
        held.steppers[cache.batch] = CapturedStepper(step, capture or _graph)
    found: CapturedStepper = held.steppers[cache.batch]
    return found


class Workspace(NamedTuple):
    """What steps of any number of rows write on their way, float32 and of FEW rows: only one runs at a time."""

    stream: Tensor
    qkv: Tensor
    mixed: Tensor
    inner: Tensor
    out: Tensor
    """Of a layer whose result is normed before it joins the stream."""
    cosines: Tensor
    sines: Tensor
    logits: Tensor

    @classmethod
    def empty(cls, config: ModelConfig, device: torch.device) -> Self:
        heads, width = config.num_attention_heads, config.head_dim
        turned = config.rope_dims // 2
        return cls(*(torch.empty(FEW, columns, device=device) for columns in (
            config.hidden_size, (heads + 2 * config.num_key_value_heads) * width, heads * width,
            config.intermediate_size, config.hidden_size, turned, turned, config.vocab_size)))


class _Held(NamedTuple):
    """What is kept beside a cache."""

    described: tuple[Any, ...]
    workspace: Workspace
    steppers: dict[int, CapturedStepper]


class Step:
    """The pure step: from `inputs`, int64 [2,B], tokens above their slots, to `logits`, float32 [B,V]; keys and values
    go into the cache at the slots. Called, it launches kernels and nothing else."""

    def __init__(self, config: ModelConfig, cache: KVCache, parts: Parts, workspace: Workspace) -> None:
        from headwater.model.gpu import attention, products

        rows, device = cache.batch, cache.keys[0].device
        self.config, self.cache, self._parts = config, cache, parts
        self.inputs = torch.zeros(2, rows, dtype=torch.int64, device=device)
        self._at = Workspace(*(one[:rows] for one in workspace))
        self.logits = self._at.logits
        # Dynamic NTK's change with the length, in place.
        self._table = parts.table.float().clone() if isinstance(config.rope_scaling, DynamicNtk) else parts.table
        turns, leans = config.position == "rope", config.position == "alibi"
        self._angles = attention.Angles(self._at.cosines if turns else None, self._at.sines if turns else None,
                                        self._table if leans else None)
        self._processors = products.processors_of(device)
        self._scores = attention.Parts.empty(config, rows, self._processors, device)

    def stretch(self, longest: int) -> None:
        """Frequencies for as many tokens, of a model where they depend on it."""
        if isinstance(self.config.rope_scaling, DynamicNtk):
            self._table.copy_(frequencies(self.config, longest))

    def __call__(self) -> None:
        from headwater.model.gpu import attention, stream

        at, parts, scaling = self._at, self._parts, self.config.rope_scaling
        tokens, slots = self.inputs
        stream.begin(tokens, parts.embedding, at.stream)
        if self._angles.cosines is not None:
            stream.turn(slots, self._table, 1.0 if scaling is None else scaling.magnitude, at.cosines, at.sines)
        for layer, (keys, values) in enumerate(zip(self.cache.keys, self.cache.values, strict=True)):
            qkv, out, up, down = parts.products[4 * layer : 4 * layer + 4]
            before, between, behind, last = parts.norms[4 * layer : 4 * layer + 4]
            self._multiply(at.stream, qkv, at.qkv, gain=before)
            attention.attend(self.config, at.qkv, slots, self._angles, keys, values, self._scores, at.mixed,
                             self.cache.dtype)
            self._join(at.mixed, out, behind)
            self._multiply(at.stream, up, at.inner, gain=between, gated=True)
            self._join(at.inner, down, last)
        self._multiply(at.stream, parts.head, at.logits, gain=parts.last)

    def _join(self, x: Tensor, weights: Weights, gain: Tensor | None) -> None:
        """stream += x W^T, by way of its norm where it has one."""
        from headwater.model.gpu import stream

        if gain is None:
            self._multiply(x, weights, self._at.stream, added=True)
        else:
            self._multiply(x, weights, self._at.out)
            stream.add_normed(self._at.out, gain, self.config.norm_eps, self._at.stream)

    def _multiply(self, x: Tensor, weights: Weights, y: Tensor, **how: Any) -> None:
        from headwater.model.gpu.products import product

        product(x, weights, y, dtype=self.cache.dtype, processors=self._processors, eps=self.config.norm_eps, **how)


class CapturedStepper:
    """A step whose first call is made as it is, which compiles what is not compiled yet; the second captures it."""

    def __init__(self, step: Step, capture: Callable[[Run], Run]) -> None:
        self._step, self._capture = step, capture
        self._warm = False
        self._replay: Run | None = None

    @torch.inference_mode()
    def __call__(self, tokens: list[int], slots: list[int]) -> Tensor:
        """Logits float32 [B,V] behind a new token in each row; its key and value go into the cache at its slot."""
        step = self._step
        assert max(slots) < step.cache.length
        assert 0 <= min(tokens) <= max(tokens) < step.config.vocab_size
        with gpu.on(step.inputs.device):
            step.inputs.copy_(torch.tensor([tokens, slots]))
            step.stretch(max(slots) + 1)
            self._run()
            return step.logits.clone()

    def _run(self) -> None:
        if self._replay is None and self._warm:
            self._replay = self._capture(self._step)
        (self._replay or self._step)()
        self._warm = True


def _graph(run: Run) -> Run:
    """A CUDA graph of what `run` launches; all of it was compiled before, and it asks for no memory."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph.replay


def _described(config: ModelConfig, cache: KVCache, parts: Parts) -> tuple[Any, ...]:
    """Equal where a captured step would read and write the same again."""
    where = tuple((one.data_ptr(), one.dtype, one.shape, one.stride())
                  for one in (*parts.tensors(), *cache.keys, *cache.values))
    # Of the cache, whose views have their rows' number in the shape, the memory alone.
    own = 2 * len(cache.keys)
    return config, cache.dtype, where[:-own], tuple((at, stride) for at, _, _, stride in where[-own:])
