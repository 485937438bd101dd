"""Decoding one token a row by one call: of compiled code, or on a GPU of a captured step; for the models covered."""

from __future__ import annotations

import ctypes
import functools
import math

import torch
from torch import Tensor, nn

from headwater.model.cache import KVCache
from headwater.model.captured import CapturedStepper, Parts, captured_stepper
from headwater.model.config import ModelConfig
from headwater.model.decoder import Block, Decoder
from headwater.model.gpu import has_triton
from headwater.model.heads import LinearHead, NormHead
from headwater.model.int4 import Int4Linear
from headwater.model.linear import Int8Linear
from headwater.model.native.build import library
from headwater.model.native.step import Layer, Step
from headwater.model.native.weights import FEW, FORMS, MULTIPLIED, Matrix, Weights
from headwater.model.norms import RMSNorm
from headwater.model.positions import frequencies
from headwater.model.scalings import DynamicNtk
from headwater.progress import say

MOST = {"cpu": 32, "cuda": FEW}
"""Rows of one step, by device."""


def covers(config: ModelConfig) -> bool:
    """Whether steps of such models are compiled: those of LLaMA, Baichuan, ChatGLM2 and 3 and GLM-4."""
    return (config.norm == "rmsnorm" and config.norm_placement != "scaled_residual" and config.activation == "swiglu"
            and config.position in ("rope", "alibi", "none") and not config.sliding_window and not config.prefix_ids)


def stepper_of(model: Decoder, cache: KVCache) -> Stepper | CapturedStepper | None:
    """For the rows of a cache and the weights as they are now, or None where the decoder itself is to be called: for
    other models, more rows, adapters and prefixes, on another device, under autocast, without a compiler (on a GPU:
    without Triton)."""
    kind = model.device.type
    plain = (model.dtype in MULTIPLIED.get(kind, ()) and cache.keys[0].dtype in (model.dtype, torch.int8)
             and cache.front == 0 and model.prefix is None and not cache.rolling and cache.positions is None
             and cache.visible is None)
    if not plain or not covers(model.config) or not 0 < cache.batch <= MOST[kind] or torch.is_autocast_enabled(kind):
        return None
    parts = parts_of(model)
    if parts is None:
        return None
    if kind == "cuda":
        return captured_stepper(model, cache, parts) if has_triton() else None
    if library("decode") is None:
        if any(one.weight.dtype in (torch.int8, torch.uint8) for one in parts.products):
            _tell()
        return None
    return Stepper(model, cache, parts.products, parts.head)


def parts_of(model: Decoder) -> Parts | None:
    """What a step of a covered model reads, or None where a layer is one that no code of ours knows."""
    found = [weights_of(module, model.dtype) for block in model.blocks for module in _products(block)]
    head, usable = weights_of(model.head, model.dtype), [one for one in found if one is not None]
    if head is None or len(usable) < len(found):
        return None
    last, *gains = [_weight(norm) for norm in (model.norm, *(one for block in model.blocks for one in _norms(block)))]
    assert last is not None
    return Parts(model.embedding.weight, model.positions.table, usable, gains, last, head)


def weights_of(module: nn.Module, dtype: torch.dtype) -> Weights | None:
    """A linear layer as code of ours multiplies it by rows of this type; None for one that it does not know."""
    if type(module) is Int8Linear:
        found = Weights(module.weight, module.scale.float(), bias=_bias(module))
    elif type(module) is Int4Linear:
        found = Weights(module.codes, module.scale, module.zero, _bias(module))
    elif isinstance(module, nn.Linear) and type(module) in (nn.Linear, LinearHead):
        found = Weights(module.weight, bias=_bias(module))
    elif type(module) is NormHead:
        found = Weights(module.weight, divisor=module.lengths())
    else:
        return None
    return found if found.usable(dtype) else None


class Stepper:
    """Keeps what the compiled code points to; good until weights or the cache's rows change."""

    def __init__(self, model: Decoder, cache: KVCache, products: list[Weights], head: Weights) -> None:
        config, rows = model.config, cache.batch
        self.config, self.cache, self._products, self._head = config, cache, products, head
        self._norms = [_gain(norm) for block in model.blocks for norm in _norms(block)]
        self._table = model.positions.table.float()
        self._embedding, self._last = model.embedding.weight, _gain(model.norm)
        self._tokens, self._slots = (torch.zeros(rows, dtype=torch.int64) for _ in range(2))
        self._layers = (Layer * config.num_hidden_layers)(*self._each_layer())
        self._step = self._described(model)
        native = library("decode")
        assert native is not None
        self._run, native.step_workspace.restype = native.step, ctypes.c_int64
        self._workspace = torch.empty(native.step_workspace(ctypes.byref(self._step)))
        self._step.workspace = self._workspace.data_ptr()

    def __call__(self, tokens: list[int], slots: list[int]) -> Tensor:
        """Logits float32 [B,V] behind a new token in each row; its key and value go into the cache at its slot."""
        assert max(slots) < self.cache.length
        assert 0 <= min(tokens) <= max(tokens) < self.config.vocab_size
        self._tokens.copy_(torch.tensor(tokens))
        self._slots.copy_(torch.tensor(slots))
        logits = torch.empty(len(tokens), self.config.vocab_size)
        if isinstance(self.config.rope_scaling, DynamicNtk):
            table = frequencies(self.config, max(slots) + 1)
            self._step.frequencies = table.data_ptr()
        self._step.logits = logits.data_ptr()
        self._run(ctypes.byref(self._step))
        return logits

    def _each_layer(self) -> list[Layer]:
        found = []
        for layer, (keys, values) in enumerate(zip(self.cache.keys, self.cache.values, strict=True)):
            products: list[Matrix] = [one.matrix() for one in self._products[4 * layer : 4 * layer + 4]]
            norms = [_pointer(norm) for norm in self._norms[4 * layer : 4 * layer + 4]]
            found.append(Layer(*products, *norms, keys.data_ptr(), values.data_ptr()))
        return found

    def _described(self, model: Decoder) -> Step:
        config, scaling = self.config, self.config.rope_scaling
        by_row, by_head, by_token, _ = self.cache.keys[0].stride()
        turns = config.position == "rope"
        return Step(
            layers=self._layers, head=self._head.matrix(), embedding=self._embedding.data_ptr(),
            norm=_pointer(self._last), frequencies=_pointer(self._table) if turns else None,
            slopes=_pointer(self._table) if config.position == "alibi" else None, tokens=self._tokens.data_ptr(),
            slots=self._slots.data_ptr(), rows=self.cache.batch, depth=config.num_hidden_layers,
            hidden=config.hidden_size, inner=config.intermediate_size, heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads, width=config.head_dim, rotated=config.rope_dims if turns else 0,
            by_row=by_row, by_head=by_head, by_token=by_token, eps=config.norm_eps,
            magnitude=1.0 if scaling is None else scaling.magnitude, score_scale=config.score_scale,
            log_n=math.log(config.log_n_length) if config.log_n_length else 0.0, stored=FORMS[model.dtype],
            kept=FORMS[self.cache.keys[0].dtype], interleaved=config.rope_layout == "interleaved",
            threads=torch.get_num_threads())


def _products(block: nn.Module) -> tuple[nn.Module, ...]:
    assert isinstance(block, Block)
    return block.attention.qkv, block.attention.out, block.feedforward.up, block.feedforward.down


def _norms(block: nn.Module) -> tuple[nn.Module | None, ...]:
    assert isinstance(block, Block)
    beside = (block.attention_output_norm, block.feedforward_output_norm) if block.placement == "sandwich" else (
        None, None)
    return block.attention_norm, block.feedforward_norm, *beside


def _bias(module: Int8Linear | Int4Linear | nn.Linear) -> Tensor | None:
    """A copy where compiled code on a processor reads it; where it lies on a GPU, so that it is found there again."""
    return module.bias if module.bias is not None and module.bias.is_cuda else _float(module.bias)


def _gain(norm: nn.Module | None) -> Tensor | None:
    return _float(_weight(norm))


def _weight(norm: nn.Module | None) -> Tensor | None:
    assert norm is None or isinstance(norm, RMSNorm)
    return None if norm is None else norm.weight


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float().contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def _tell() -> None:
    say("note: no C++ compiler here, without which packed weights are decoded slowly")
