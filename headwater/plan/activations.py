"""What the backward pass needs of the forward pass, block by block, as autograd keeps it.

It was read off with `saved_tensors_hooks`, and `tests/test_plan.py` holds the sums against it.
"""

from __future__ import annotations

from headwater.plan.shape import Shape, norms_of_block, widths
from headwater.plan.step import Step


def activation_bytes(shape: Shape, step: Step) -> int:
    """What is kept at the end of the forward pass, besides weights and what the loss keeps."""
    each = recomputed_block(shape, step) if step.recompute != "none" else whole_block(shape, step)
    last = step.width * shape.hidden_size
    kept = turned_in_kernel(shape, step) or not (step.half or step.compiled)  # in half each block keeps casts
    tables = 8 * shape.rope_dims if kept and shape.position.startswith("rope") else 0
    return step.tokens * (shape.num_hidden_layers * each + last + tables)


def whole_block(shape: Shape, step: Step) -> int:
    """Bytes a token that a block keeps where nothing is computed again.

    Eager: the norms' inputs and a number or two a row, the inputs of all products, q, k and v, rotated ones too where
    no kernel of ours rotates, on a GPU the gate's silu. A compiled block computes norms and gates again.
    """
    hidden, feed = shape.hidden_size, shape.intermediate_size
    query, shared, wide = (one // step.tensor for one in widths(shape))
    feed //= step.tensor
    rotates = shape.position.startswith("rope") and not turned_in_kernel(shape, step)
    turned = query + shared if rotates else 0
    attention = 2 * query + 2 * shared + turned
    norms, sums = norms_of_block(shape), 4 * shape.num_attention_heads // step.tensor
    if step.compiled:
        return step.width * (wide + feed + attention + (2 + norms) * hidden) + sums + 4 * norms
    gated = 2 * feed if shape.activation == "swiglu" and step.device == "cuda" else feed
    kept = step.width * (wide + gated + attention + 2 * hidden) + sums
    kept += norms * (step.width * hidden + (4 if shape.norm == "rmsnorm" else 2 * step.width))
    return kept + (2 * shape.rope_dims * step.width if turned and step.half else 0)


def turned_in_kernel(shape: Shape, step: Step) -> bool:
    """Whether attention rotates queries and keys as it reads them: the project's own kernel does."""
    return step.device == "cpu" and shape.position == "rope" and shape.head_dim % 16 == 0


def recomputed_block(shape: Shape, step: Step) -> int:
    """Bytes a token that a block keeps where it is computed again: its input, and with `selective` all products."""
    if step.recompute == "full":
        return step.width * shape.hidden_size
    query, shared, wide = (one // step.tensor for one in widths(shape))
    products = wide + 2 * query + 2 * shared + 2 * shape.hidden_size
    return step.width * (products + (0 if step.compiled else shape.hidden_size)) + (
        4 * shape.num_attention_heads // step.tensor)
