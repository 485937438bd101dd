"""Memory of a model that answers: its weights and the cache of what was read."""

from __future__ import annotations

from typing import Literal

from headwater.plan.shape import Shape, block_matrices, parameters, widths

Form = Literal["float32", "bfloat16", "int8", "int4"]
FORMS: tuple[Form, ...] = ("float32", "bfloat16", "int8", "int4")


def served_bytes(shape: Shape, form: Form) -> int:
    """Weights in one of the forms the quantize stage writes.

    int8 and int4: the blocks' matrices in one or half a byte a weight with a bfloat16 scale per output row (ChatGLM's
    scheme, as `Int8Linear` holds it), all else in bfloat16.
    """
    if form in ("float32", "bfloat16"):
        return parameters(shape) * (4 if form == "float32" else 2)
    packed = shape.num_hidden_layers * block_matrices(shape)
    query, shared, wide = widths(shape)
    rows = shape.num_hidden_layers * (query + 2 * shared + wide + 2 * shape.hidden_size)
    return packed // (1 if form == "int8" else 2) + 2 * rows + 2 * (parameters(shape) - packed)


def cache_bytes_per_token(shape: Shape, width: int) -> int:
    """Key/value cache of one token: 2 x layers x key/value heads x head dimension x bytes."""
    return 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * width


def largest_batch(shape: Shape, form: Form, length: int, memory: float, *, width: int = 2) -> int:
    """Sequences of `length` tokens whose caches, `width` bytes a number, fit beside the weights; 0 where none does.

    What a forward pass needs for itself, a few megabytes a row, is not counted.
    """
    left = memory - served_bytes(shape, form)
    return max(0, int(left // (length * cache_bytes_per_token(shape, width))))
