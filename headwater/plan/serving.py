"""Memory of a model that answers: its weights and the cache of what was read."""

from __future__ import annotations

from typing import Literal

from headwater.plan.shape import Shape, block_matrices, matrices, parameters

Form = Literal["float32", "bfloat16", "int8", "int4"]
FORMS: tuple[Form, ...] = ("float32", "bfloat16", "int8", "int4")


def stored_bytes(rows: int, columns: int, bits: int, group: int = 0, *, symmetric: bool = True) -> int:
    """Of a packed matrix on disk, with 16 bytes that say the shape. 8 bits: four to a word and a float32 scale a row.
    4 bits: a float16 scale a group and, where it is not symmetric, a zero of 4 bits, eight rows' to a word. So bits +
    16/g (+ 4/g) a weight."""
    if bits == 8:
        return rows * 4 * (-(-columns // 4) + 1) + 16
    groups = columns // group
    return rows * (columns // 2 + 2 * groups) + 16 + (0 if symmetric else 4 * groups * -(-rows // 8))


def served_bytes(shape: Shape, form: Form) -> int:
    """Weights in one of the forms the quantize stage writes: the blocks' matrices packed (int4 in groups of 128 with a
    zero each), all else in bfloat16."""
    if form in ("float32", "bfloat16"):
        return parameters(shape) * (4 if form == "float32" else 2)
    bits = 8 if form == "int8" else 4
    packed = sum(stored_bytes(rows, columns, bits, 128, symmetric=False) for rows, columns in matrices(shape))
    return shape.num_hidden_layers * (packed - 2 * block_matrices(shape)) + 2 * parameters(shape)


SCALE_BYTES = 4
"""Of the scale of a head's keys, or values, where each is a byte."""


def cache_bytes_per_token(shape: Shape, width: int) -> int:
    """Key/value cache of one token: 2 x layers x key/value heads x head dimension x bytes; heads of bytes have a scale
    each."""
    head = shape.head_dim * width + (SCALE_BYTES if width == 1 else 0)
    return 2 * shape.num_hidden_layers * shape.num_key_value_heads * head


def largest_batch(shape: Shape, form: Form, length: int, memory: float, *, width: int = 2) -> int:
    """Sequences of `length` tokens whose caches, `width` bytes a number, fit beside the weights; 0 where none does.

    What a forward pass needs for itself, a few megabytes a row, is not counted.
    """
    left = memory - served_bytes(shape, form)
    return max(0, int(left // (length * cache_bytes_per_token(shape, width))))
