"""Memory of fine-tuning: a base that stays as it is, in one of its forms, and the few weights that learn beside it.

The base's products keep nothing for the backward pass but its weights; packed ones are unpacked once more there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from headwater.plan.activations import activation_bytes, recomputed_block, turned_in_kernel, whole_block
from headwater.plan.shape import Shape, block_matrices, down_weights, matrices, parameters, up_weights, widths
from headwater.plan.step import Step
from headwater.plan.training import Memory, block_working, libraries, loss_chunk, scattered

Base = Literal["float32", "bfloat16", "int8", "int4", "nf4"]
BASES: tuple[Base, ...] = ("float32", "bfloat16", "int8", "int4", "nf4")
FLOAT_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20}
"""Of four-bit weights, how much is numbers at once: what a processor's cache holds, and enough to keep a GPU busy.
`headwater.model.four_bits` takes them from here."""
GROUP = 64
"""Four-bit weights with a scale of their own, neighbours in a row."""


class Trained(NamedTuple):
    """What learns beside the base, float32."""

    rank: int = 0
    """LoRA on every matrix of the blocks, each of q, k, v, gate and up by itself."""
    prefix: int = 0
    """P-Tuning v2: keys and values before the text, in every layer."""

    def parameters(self, shape: Shape) -> int:
        shared = widths(shape)[1]
        low = sum(rows + columns for rows, columns in matrices(shape))
        return shape.num_hidden_layers * (self.rank * low + 2 * self.prefix * shared)


def base_bytes(shape: Shape, base: Base) -> int:
    """Weights as they are loaded: int8 has a float32 scale a row, nf4 a bfloat16 scale for every 64 weights of one,
    int4 a float16 scale and a byte of zero for every 128; embedding, head, norms and biases are bfloat16 beside
    them."""
    if base in ("float32", "bfloat16"):
        return parameters(shape) * (4 if base == "float32" else 2)
    packed = sum(rows * row_bytes(columns, base) for rows, columns in matrices(shape))
    return shape.num_hidden_layers * (packed - 2 * block_matrices(shape)) + 2 * parameters(shape)


def row_bytes(columns: int, base: Base) -> int:
    """Of a packed matrix, in memory."""
    if base == "int8":
        return columns + 4
    return columns // 2 + 3 * (columns // 128) if base == "int4" else -(-columns // GROUP) * (GROUP // 2 + 2)


def finetuning_memory(shape: Shape, step: Step, base: Base, trained: Trained) -> Memory:
    """The moment of a step of one process at which it needs most."""
    step = replace(step, processes=1, tensor=1, replicas=1)
    learnt = trained.parameters(shape)
    held = base_bytes(shape, base) + 4 * learnt, 8 * learnt
    before = 4 * learnt if step.accumulates else 0
    kept, copies = _kept(shape, step, trained), _copies(shape, step, base, learnt)
    hidden = step.tokens * shape.hidden_size * step.width
    moments = [
        Memory("loss", *held, before, copies, kept, 2 * hidden, _loss(shape, step, base), libraries(step), 0),
        Memory("backward", *held, 4 * learnt, copies, kept, hidden, _backward(shape, step, base, trained),
               libraries(step), 0),
        Memory("update", *held, 4 * learnt, 0, 0, 0, 0, libraries(step), 0)]
    return scattered(max(moments, key=lambda one: one.total), step)


def frozen_block(shape: Shape, step: Step, trained: Trained) -> int:
    """Bytes a token that a block keeps where nothing is computed again.

    A product whose weights do not learn needs nothing of its input, LoRA beside it does. Behind a prefix our kernel
    does not rotate: queries and keys are kept rotated too, in bfloat16 with the tables of both.
    """
    query, shared, _ = widths(shape)
    kept = whole_block(shape, step)
    if trained.rank:
        kept += step.width * trained.rank * len(matrices(shape))
    else:
        kept -= step.width * (shape.intermediate_size + 2 * shape.hidden_size)
    if trained.prefix and turned_in_kernel(shape, step):
        kept += step.width * (query + shared + (4 * shape.rope_dims if step.half else 0))
    return kept


def _kept(shape: Shape, step: Step, trained: Trained) -> int:
    """By all blocks."""
    found = activation_bytes(shape, step)
    if step.recompute != "none":
        return found
    more = frozen_block(shape, step, trained) - whole_block(shape, step)
    return found + shape.num_hidden_layers * step.tokens * more


def _copies(shape: Shape, step: Step, base: Base, learnt: int) -> int:
    """Casts to bfloat16 that are kept until the backward pass, of a float32 base and of what learns."""
    layers = shape.num_hidden_layers
    cast = layers * block_matrices(shape) * (base == "float32") + learnt if step.half else 0
    return 2 * cast // (1 if step.recompute == "none" else layers)


def _loss(shape: Shape, step: Step, base: Base) -> int:
    """One chunk of logits; a float32 head's cast."""
    table = shape.vocab_size * shape.hidden_size
    gradient = step.width * table if step.device == "cuda" else 0
    cast = 0 if base == "float32" or not step.half else 2 * table
    return loss_chunk(shape, step) - gradient - cast


def _backward(shape: Shape, step: Step, base: Base, trained: Trained) -> int:
    """Of one block: its gradients, what it keeps where it is computed again, and weights that are unpacked."""
    unpacked = {"int8": step.width * max(up_weights(shape), down_weights(shape)), "nf4": FLOAT_BYTES[step.device],
                "int4": FLOAT_BYTES[step.device]}
    again = 0 if step.recompute == "none" else step.tokens * (
        frozen_block(shape, step, trained) - min(recomputed_block(shape, step), frozen_block(shape, step, trained)))
    return block_working(shape, step) + again + unpacked.get(base, 0)
