"""The one decoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model.attention import Attention
from headwater.model.batch import Batch
from headwater.model.cache import CacheForm, KVCache
from headwater.model.config import ModelConfig
from headwater.model.context import Context, make_context, remember
from headwater.model.feedforward import FeedForward
from headwater.model.heads import make_head
from headwater.model.intervals import Intervals
from headwater.model.norms import make_norm
from headwater.model.positions import Positions, make_embedding
from headwater.model.prefix import Prefix, ReadContext


class Block(nn.Module):
    """Attention and feed-forward, each with its norm and residual as `ModelConfig.norm_placement` says."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.placement, self.scale = config.norm_placement, config.residual_scale
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.feedforward_norm = make_norm(config)
        self.feedforward = FeedForward(config)
        if self.placement == "sandwich":
            self.attention_output_norm = make_norm(config)
            self.feedforward_output_norm = make_norm(config)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if self.placement == "scaled_residual":
            y = self.attention_norm(x)
            x = self.scale * y + self.attention(y, context)
            y = self.feedforward_norm(x)
            return self.scale * y + self.feedforward(y)
        if self.placement == "sandwich":
            x = x + self.attention_output_norm(self.attention(self.attention_norm(x), context))
            return x + self.feedforward_output_norm(self.feedforward(self.feedforward_norm(x)))
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.feedforward(self.feedforward_norm(x))


class Decoder(nn.Module):
    """Embedding, blocks, final norm, head. Every family is a `ModelConfig`; there are no subclasses.

    A new decoder's weights hold nothing yet: `initialise` draws them, `load_model` reads them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = make_embedding(config.vocab_size, config.hidden_size)
        self.positions = Positions(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(config)
        self.head = make_head(config)
        if config.tie_word_embeddings:
            self.head.weight = self.embedding.weight
        self.prefix: Prefix | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def front(self) -> int:
        """Keys before those of all tokens."""
        return 0 if self.prefix is None else self.prefix.length

    def cache(self, batch: int, length: int, *, piece: int = 0, front: int = 0, form: CacheForm | None = None
              ) -> KVCache:
        """An empty cache of this model's type, on its device, with its prefix as it is now. front: keys of the longest
        prefix that a row of a model without one may begin with. form: in which keys and values are held, floats when
        None."""
        cache = KVCache(self.config, batch, length, dtype=self.dtype, device=self.device, piece=piece,
                        front=self.front or front, form=form)
        if self.prefix is not None:
            cache.begin(range(batch), self.prefix)
        return cache

    def forward(self, input_ids: Tensor, attention_mask: Tensor | Intervals | None = None,
                position_ids: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Logits [B,T,V] for ids [B,T]; the arguments are those of `hidden`."""
        return self.head(self.hidden(input_ids, attention_mask, position_ids, cache))

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | Intervals | None = None,
               position_ids: Tensor | None = None, cache: KVCache | None = None, *,
               slots: Tensor | None = None, behind: ReadContext | None = None) -> Tensor:
        """The normed last hidden states [B,T,D] of ids int64 [B,T].

        attention_mask: [B,S] numbers, 0 for padding; tokens see those before them with the same number, so different
        numbers are packed documents. Or bool [B,1,T,S], True = may attend. Or, for GLM, [B]: each row's context length,
        inside of which attention goes both ways. S counts what the cache holds. Or, without a cache, `Intervals` [B,T]:
        the quickest where rows are long or packed, and the one to train with. position_ids: int64 [B,T], or
        [B,2,T] (position, block position) for the 2D families. Both are found as the official code finds them where
        they are left out; with a cache they go on from it.
        cache: what was read so far, appended to. slots: int64 [B,T], where each token stands in its row of the cache,
        for rows of different lengths; a token then sees the slots up to its own.
        behind: what `KVCache.read` gave, which every token sees too; beside `Intervals` and `position_ids` that go on
        from it, without a cache.
        Raises `InputError` for arguments that do not fit.
        """
        intervals = attention_mask if isinstance(attention_mask, Intervals) else None
        mask = None if isinstance(attention_mask, Intervals) else attention_mask
        assert behind is None or (intervals is not None and position_ids is not None and cache is None)
        batch = Batch(input_ids, mask, position_ids, cache, slots, intervals, behind or self.prefix)
        context, positions = make_context(self.config, self.positions, batch)
        x = self._embedded(input_ids, positions)
        remember(batch, context, positions)
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self._looked_up(ids, positions)
        try:
            return self._looked_up(ids, positions)
        except IndexError:
            raise InputError(f"input_ids runs from {int(ids.min())} to {int(ids.max())}, the vocabulary from 0 to "
                             f"{self.config.vocab_size - 1}; positions from {int(positions.min())} to "
                             f"{int(positions.max())}", fix="use this model's own tokenizer, and no longer text than "
                             "its learned positions reach") from None


    def _looked_up(self, ids: Tensor, positions: Tensor) -> Tensor:
        x = self.positions.embed(self.embedding(ids), positions)
        kind = x.device.type
        # Matrix products alone are cast by autocast: the stream between them would stay twice as wide.
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


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
