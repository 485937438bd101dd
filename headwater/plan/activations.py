"""What the backward pass needs of the forward pass, block by block, as autograd keeps it.

It was read off with `saved_tensors_hooks`, and `tests/test_plan.py` holds the sums against it.
"""

from __future__ import annotations

from headwater.plan.shape import Shape, norms_of_block, widths
from headwater.plan.step import Step

SCATTERED = {"compiled": 0.1, "alone": 0.25, "shared": 0.35}
"""What glibc's heap loses on a CPU between freed tensors of other sizes, as a share of the activations, and with
several readers of these and of what is gathered. Measured 0 to 0.4 (compiled: buffers are few and alike), 0.1 to
0.4 and 0.3 to 0.7, by the luck of the layout."""
MAPPED = 32 << 20
"""Bytes of a tensor from which on glibc gives memory of its own and takes it back."""


def activation_bytes(shape: Shape, step: Step) -> int:
    """What is kept at the end of the forward pass, besides weights and what the loss keeps."""
    each = recomputed_block(shape, step) if step.recompute != "none" else whole_block(shape, step)
    last = (8 if shape.norm == "rmsnorm" and not step.compiled else step.width) * shape.hidden_size
    kept = _turned_in_kernel(shape, step) or not (step.half or step.compiled)  # in half each block keeps casts
    tables = 8 * shape.rope_dims if kept and shape.position.startswith("rope") else 0
    return step.tokens * (shape.num_hidden_layers * each + last + tables)


def scattered_bytes(shape: Shape, step: Step, copies: int) -> int:
    """What the heap loses while activations and these copies of weights are held."""
    if step.device == "cuda":
        return 0
    shared, wide = step.readers > 1, widths(shape)[2] // step.tensor
    lost = _in_heap(step.tokens * step.width * wide) * activation_bytes(shape, step)
    if shared:
        lost += _in_heap(step.width * shape.hidden_size * wide) * copies
    return round(SCATTERED["compiled" if step.compiled else "shared" if shared else "alone"] * lost)


def _in_heap(largest: int) -> float:
    """Share of tensors that the heap holds, by the size of the largest."""
    return min(1.0, MAPPED / largest)


def whole_block(shape: Shape, step: Step) -> int:
    """Bytes a token that a block keeps where nothing is computed again.

    Eager: the norms' inputs and normalised values in float32 (LayerNorm is one operation and keeps its input alone),
    the inputs of all products, q, k and v, rotated ones too where no kernel of ours rotates, the gate's silu. A
    compiled block computes norms and gates again.
    """
    hidden, feed = shape.hidden_size, shape.intermediate_size
    query, shared, wide = (one // step.tensor for one in widths(shape))
    feed //= step.tensor
    rotates = shape.position.startswith("rope") and not _turned_in_kernel(shape, step)
    turned = query + shared if rotates else 0
    attention = 2 * query + 2 * shared + turned
    norms, sums = norms_of_block(shape), 4 * shape.num_attention_heads // step.tensor
    if step.compiled:
        return step.width * (wide + feed + attention + (2 + norms) * hidden) + sums + 4 * norms
    gated = 2 * feed if shape.activation == "swiglu" else feed
    kept = step.width * (wide + gated + attention + 2 * hidden) + sums
    kept += norms * (8 * hidden + 4 if shape.norm == "rmsnorm" else step.width * (hidden + 2))
    return kept + (2 * shape.rope_dims * step.width if turned and step.half else 0)


def _turned_in_kernel(shape: Shape, step: Step) -> bool:
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
