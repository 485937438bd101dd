"""Multi-head, grouped-query and multi-query attention through fused kernels: ours over intervals, else PyTorch's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from headwater.model import windows
from headwater.model.config import ModelConfig
from headwater.model.context import Context
from headwater.model.native import kernel
from headwater.model.positions import rotate
from headwater.model.prefix import before


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v, with H query heads sharing K key/value heads (2305.13245)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, self.rope_layout = layer, config.head_dim, config.rope_layout
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.first_head = 0  # of the whole model's heads, where this module holds only some
        rows = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv: nn.Module = nn.Linear(config.hidden_size, rows, bias=config.attention_bias)  # rows [q | k | v]
        self.out = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=config.output_bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        batch, length, _ = x.shape
        qkv = self.qkv(x).view(batch, length, -1, self.head_dim).transpose(1, 2)  # [B,H+2K,T,d]
        if context.intervals is not None and context.cache is None:
            return self.out(self._over_intervals(qkv, context).transpose(1, 2).reshape(batch, length, -1))
        turned, value = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        if context.rotation is not None:
            turned = rotate(turned, *context.rotation, self.rope_layout)
        query, key = turned.split([self.heads, self.kv_heads], dim=1)
        query = _scaled(query, context)
        if context.cache is not None:
            assert context.place is not None
            key, value = context.cache.update(self.layer, key, value, context.place)
        elif context.prefix is not None:
            key, value = before(context.prefix[self.layer], key, value)
        key, value = key.to(query.dtype), value.to(query.dtype)
        mix = self._windowed if context.window else self._continued if context.intervals else self._masked
        mixed = mix(qkv, query, key, value, context)  # [B,H,T,d]
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))

    def _masked(self, _: Tensor, query: Tensor, key: Tensor, value: Tensor, context: Context) -> Tensor:
        mask = context.mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(query.dtype)
            mask = mask[:, self.first_head : self.first_head + self.heads] if mask.shape[1] > 1 else mask
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None and context.causal,
            enable_gqa=self.heads != self.kv_heads)

    def _continued(self, _: Tensor, query: Tensor, key: Tensor, value: Tensor, context: Context) -> Tensor:
        assert context.intervals is not None
        return kernel.forward(kernel.Call(query, key, value, *context.intervals, self._own(context.slopes)))[0]

    def _windowed(self, qkv: Tensor, query: Tensor, key: Tensor, value: Tensor, context: Context) -> Tensor:
        assert context.window is not None
        to_sinks, rotation = query, context.window.rotation
        if rotation is not None:
            to_sinks = _scaled(rotate(qkv[:, : self.heads], *rotation, self.rope_layout), context)
        return windows.attend(query, to_sinks, key, value, context.window.blocks, self._own(context.slopes))

    def _over_intervals(self, qkv: Tensor, context: Context) -> Tensor:
        # Operators of our own bring PyTorch's compiler with them: a second of imports that reading alone does not need.
        from headwater.model.interval_attention import Rotation, interval_attention

        assert context.intervals is not None
        query, key, value = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        query = _scaled(query, context)
        rotation = None if context.rotation is None else Rotation(*context.rotation, self.rope_layout)
        return interval_attention(query, key, value, context.intervals, self._own(context.slopes), rotation=rotation,
                                  blocks=context.blocks, prefix=None if context.prefix is None else
                                  context.prefix[self.layer])

    def _own(self, slopes: Tensor | None) -> Tensor | None:
        return None if slopes is None else slopes[self.first_head : self.first_head + self.heads]


def _scaled(query: Tensor, context: Context) -> Tensor:
    return query if context.scale is None else query * context.scale.to(query.dtype)
