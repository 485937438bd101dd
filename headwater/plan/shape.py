"""The sizes of a decoder's parts, from its configuration."""

from __future__ import annotations

from typing import NamedTuple, Protocol


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
    def rope_dims(self) -> int: ...
    @property
    def head(self) -> str: ...
    @property
    def max_position_embeddings(self) -> int: ...


class Counts(NamedTuple):
    """Parameters of a decoder by what they belong to."""

    embedding: int
    """The token table."""
    positions: int
    """Learned tables of positions."""
    attention: int
    """Of all blocks: query, key, value and output, with biases."""
    feedforward: int
    """Of all blocks, with biases."""
    norms: int
    """Of all blocks, and the last."""
    head: int
    """The output matrix; 0 where it is the token table."""


def count(shape: Shape) -> Counts:
    """A tied head is counted once, learned positions are two tables of a row more than the length."""
    layers, hidden, table = shape.num_hidden_layers, shape.hidden_size, shape.vocab_size * shape.hidden_size
    query, shared, wide = widths(shape)
    attention = qkv_weights(shape) + out_weights(shape) + shape.attention_bias * (query + 2 * shared) + (
        shape.output_bias * hidden)
    feedforward = up_weights(shape) + down_weights(shape) + shape.mlp_bias * (wide + hidden)
    positions = 2 * (shape.max_position_embeddings + 1) * hidden if shape.position == "learned_2d" else 0
    return Counts(table, positions, layers * attention, layers * feedforward,
                  (layers * norms_of_block(shape) + 1) * _norm_parameters(shape),
                  0 if shape.tie_word_embeddings else table)


def parameters(shape: Shape) -> int:
    """All parameters of a decoder."""
    return sum(count(shape))


def block_parameters(shape: Shape) -> int:
    """Parameters of one block: attention, feed-forward, its norms, biases."""
    counts = count(shape)
    return (counts.attention + counts.feedforward + counts.norms - _norm_parameters(shape)) // shape.num_hidden_layers


def block_matrices(shape: Shape) -> int:
    """Weights of one block's four matrices, without biases."""
    return qkv_weights(shape) + out_weights(shape) + up_weights(shape) + down_weights(shape)


def matrices(shape: Shape) -> list[tuple[int, int]]:
    """Rows and columns of a block's matrices, each of q, k, v, gate and up by itself."""
    hidden, feed = shape.hidden_size, shape.intermediate_size
    query, shared, wide = widths(shape)
    ups = [(feed, hidden)] * (wide // feed)
    return [(query, hidden), (shared, hidden), (shared, hidden), (hidden, query), *ups, (hidden, feed)]


def widths(shape: Shape) -> tuple[int, int, int]:
    """Columns of the queries, of the keys (the values have as many), and of the feed-forward's first product."""
    heads, shared, dim = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
    return heads * dim, shared * dim, shape.intermediate_size * (2 if shape.activation == "swiglu" else 1)


def norms_of_block(shape: Shape) -> int:
    return 4 if shape.norm_placement == "sandwich" else 2


def qkv_weights(shape: Shape) -> int:
    query, shared, _ = widths(shape)
    return shape.hidden_size * (query + 2 * shared)


def out_weights(shape: Shape) -> int:
    return shape.hidden_size * widths(shape)[0]


def up_weights(shape: Shape) -> int:
    return shape.hidden_size * widths(shape)[2]


def down_weights(shape: Shape) -> int:
    return shape.hidden_size * shape.intermediate_size


def _norm_parameters(shape: Shape) -> int:
    return shape.hidden_size * (1 if shape.norm == "rmsnorm" else 2)
