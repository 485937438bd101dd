"""The one decoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model.attention import Attention, Context
from headwater.model.cache import KVCache, Place
from headwater.model.config import ModelConfig
from headwater.model.feedforward import FeedForward
from headwater.model.norms import make_norm
from headwater.model.positions import Positions


class Block(nn.Module):
    """Pre-norm residual block: x + attention(norm x), then x + feedforward(norm x)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.feedforward_norm = make_norm(config)
        self.feedforward = FeedForward(config)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.feedforward(self.feedforward_norm(x))


class Decoder(nn.Module):
    """Embedding, blocks, final norm, head. Every family is a `ModelConfig`; there are no subclasses."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = Positions(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.head.weight = self.embedding.weight

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def forward(self, tokens: Tensor, *, positions: Tensor | None = None, mask: Tensor | None = None,
                cache: KVCache | None = None) -> Tensor:
        """Logits [B,T,V] for tokens [B,T]; the arguments are those of `hidden`."""
        return self.head(self.hidden(tokens, positions=positions, mask=mask, cache=cache))

    def hidden(self, tokens: Tensor, *, positions: Tensor | None = None, mask: Tensor | None = None,
               cache: KVCache | None = None) -> Tensor:
        """The normed last hidden states [B,T,D].

        positions: int64 [B,T], 0..T-1 when left out. mask: bool [B,T,S], True = may attend; left out, attention is
        causal. cache: tokens are stored at their positions and see every cached entry up to their own position; a
        cache takes no mask.
        """
        context = self._context(tokens, positions, mask, cache)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)

    def _context(self, tokens: Tensor, given: Tensor | None, mask: Tensor | None, cache: KVCache | None) -> Context:
        batch, length = tokens.shape
        positions = torch.arange(length, device=tokens.device).expand_as(tokens) if given is None else given
        keys, place = positions, None
        if cache is not None:
            assert mask is None, "a cache takes no mask"
            reach = length if given is None else int(given.max()) + 1
            if reach > cache.length:
                raise InputError(f"{reach} tokens do not fit a cache of {cache.length}",
                                 fix="shorten the prompt or ask for fewer tokens")
            rows = torch.arange(batch, device=tokens.device)[:, None]
            place = Place(reach, None if given is None else (rows, positions))
            if given is not None:  # rows that begin at 0 are plainly causal and need no mask
                keys = torch.arange(reach, device=tokens.device).expand(batch, reach)
                mask = keys[:, None, :] <= positions[:, :, None]
        mask = None if mask is None else mask[:, None]  # [B,1,T,S]
        bias = self.positions.bias(positions, keys)
        if bias is not None:
            if mask is None:
                mask = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
            mask = bias.masked_fill(~mask, -math.inf)
        return Context(self.positions.rotation(positions), mask, cache, place)


def initialise(model: Decoder, seed: int) -> Decoder:
    """Normal(0, initializer_range) weights, zero biases; residual outputs are scaled by 1/sqrt(2L) (GPT-2)."""
    generator = torch.Generator().manual_seed(seed)
    std = model.config.initializer_range
    residual = std / math.sqrt(2 * model.config.num_hidden_layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                scaled = name.endswith(("attention.out.weight", "feedforward.down.weight"))
                draw = torch.empty(parameter.shape).normal_(0.0, residual if scaled else std, generator=generator)
                parameter.copy_(draw)
    return model
