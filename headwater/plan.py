"""Arithmetic of memory and compute: what a model and its training need."""

from __future__ import annotations

from typing import Protocol


class Shape(Protocol):
    """The part of a model's configuration that the arithmetic needs (read-only, so a frozen one fits)."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def num_key_value_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def activation(self) -> str: ...
    @property
    def norm(self) -> str: ...
    @property
    def attention_bias(self) -> bool: ...
    @property
    def output_bias(self) -> bool: ...
    @property
    def mlp_bias(self) -> bool: ...
    @property
    def tie_word_embeddings(self) -> bool: ...
    @property
    def norm_placement(self) -> str: ...
    @property
    def position(self) -> str: ...
    @property
    def max_position_embeddings(self) -> int: ...


def block_parameters(shape: Shape) -> int:
    """Parameters of one block: attention, feed-forward, two norms (four in a sandwich), biases."""
    hidden, feed = shape.hidden_size, shape.intermediate_size
    query, shared = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    wide = feed * (2 if shape.activation == "swiglu" else 1)
    weights = hidden * (query + 2 * shared) + query * hidden + hidden * wide + feed * hidden
    biases = (shape.attention_bias * (query + 2 * shared) + shape.output_bias * hidden
              + shape.mlp_bias * (wide + hidden))
    return weights + biases + (4 if shape.norm_placement == "sandwich" else 2) * _norm_parameters(shape)


def _norm_parameters(shape: Shape) -> int:
    return shape.hidden_size * (1 if shape.norm == "rmsnorm" else 2)


def parameters(shape: Shape) -> int:
    """All parameters of a decoder; a tied head is counted once, learned positions are two tables."""
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    if shape.position == "learned_2d":
        embeddings += 2 * (shape.max_position_embeddings + 1) * shape.hidden_size
    return embeddings + shape.num_hidden_layers * block_parameters(shape) + _norm_parameters(shape)


def flops_per_token(shape: Shape, length: int) -> float:
    """Training FLOPs per token, 6 N + 12 L H Q T (PaLM, 2204.02311, appendix B), N without the embedding table."""
    table = 0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size
    attention = 12 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * length
    return 6.0 * (parameters(shape) - table) + attention


def training_bytes(shape: Shape, rows: int, length: int, *, half: bool) -> int:
    """Predicted memory of a training step: float32 weights, gradients and AdamW moments (16 bytes a parameter), a
    half-precision copy of the weights, the activations kept for the backward pass, and the logits with their gradient.

    Per token and block the backward pass keeps the two norm inputs and outputs, q, k, v, the attention's output, and
    the gate, up and product of the feed-forward.
    """
    width = 2 if half else 4
    query, shared = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    feed = shape.intermediate_size * (4 if shape.activation == "swiglu" else 2)
    kept = 4 * shape.hidden_size + 3 * (query + shared) + query + feed
    tokens = rows * length
    activations = tokens * shape.num_hidden_layers * kept * width
    logits = tokens * shape.vocab_size * (width + 4 + 4)
    mask = rows * length * length
    return parameters(shape) * (16 + (2 if half else 0)) + activations + logits + mask


def cache_bytes_per_token(shape: Shape, width: int) -> int:
    """Key/value cache of one token: 2 x layers x key/value heads x head dimension x bytes."""
    return 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * width


def int8_bytes(shape: Shape) -> int:
    """Weights as the quantize stage packs them: a byte per weight and a bfloat16 scale per output row of the blocks'
    matrices, the rest in bfloat16."""
    hidden, feed = shape.hidden_size, shape.intermediate_size
    query, shared = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    wide = feed * (2 if shape.activation == "swiglu" else 1)
    packed = shape.num_hidden_layers * (hidden * (query + 2 * shared) + query * hidden + hidden * wide + feed * hidden)
    rows = shape.num_hidden_layers * (query + 2 * shared + hidden + wide + hidden)
    return packed + 2 * rows + 2 * (parameters(shape) - packed)


def account(shape: Shape, rows: int, length: int) -> dict[str, float]:
    """What a model needs, in bytes where nothing else is said: to be kept, to answer, to be trained."""
    count, token = parameters(shape), cache_bytes_per_token(shape, 2)
    return {
        "parameters": count, "weights, float32": 4 * count, "weights, bfloat16": 2 * count,
        "weights, INT8": int8_bytes(shape), "cache per token, bfloat16": token,
        f"cache of {rows} x {length} tokens": token * rows * length,
        f"training on {rows} x {length} tokens, bfloat16": training_bytes(shape, rows, length, half=True),
        "training FLOPs per token": flops_per_token(shape, length),
    }
