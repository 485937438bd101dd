"""Memory of a training step, process by process, as this project's trainer spends it.

Weights, gradients and moments are float32; matrix products are taken in bfloat16 under autocast, from copies of the
weights that the backward pass needs again. What autograd keeps was read off with `saved_tensors_hooks`, and
`tests/test_plan.py` holds the sums against it; `benchmarks/plan.py` holds the peaks against whole runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from headwater.plan.shape import (
    Shape,
    block_matrices,
    block_parameters,
    count,
    down_weights,
    norms_of_block,
    out_weights,
    parameters,
    qkv_weights,
    up_weights,
    widths,
)

LOGITS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 29}
"""Bytes of the loss's float32 logits, and `FEWEST_ROWS` at least, as `headwater.train.loss` takes them."""
FEWEST_ROWS = 64
LIBRARIES = {False: 52 << 20, True: 150 << 20}
"""Bytes that PyTorch takes on a CPU at its first step, not compiled and compiled (measured with a model of 0.04 M
parameters, torch 2.13)."""
SCATTERED = 0.3
"""Of the activations, what a heap loses on a CPU between freed tensors of other sizes; measured 0.27 to 0.37 not
compiled with glibc, up to 0.15 compiled, whose buffers are few and alike, and nothing where tensors are larger."""
MAPPED = 32 << 20
"""Bytes of a tensor from which on glibc gives memory of its own and takes it back."""
FILE_BYTES = 1 << 26
"""Of a checkpoint's files, as `headwater.train.state` cuts them; what goes to a file is held twice while it is
written."""


@dataclass(frozen=True)
class Step:
    """What a process computes at once, and how the model is spread over all of them."""

    rows: int
    """Of a process, forward and backward in one pass."""
    length: int
    half: bool = True
    """bfloat16 products; else float32."""
    compiled: bool = False
    recompute: Literal["none", "selective", "full"] = "none"
    optimizer: Literal["adamw", "muon"] = "adamw"
    accumulates: bool = False
    """Whether a step has several passes."""
    processes: int = 1
    zero: int = 2
    tensor: int = 1
    replicas: int = 1
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def readers(self) -> int:
        """Processes that read data of their own."""
        return self.processes // self.tensor

    @property
    def parts(self) -> int:
        """Processes over which weights, gradients and moments are spread, beside tensor parallelism."""
        return self.readers // self.replicas if self.zero >= 2 else 1

    @property
    def width(self) -> int:
        """Bytes of a number between the matrix products."""
        return 2 if self.half else 4

    @property
    def tokens(self) -> int:
        return self.rows * self.length


class Memory(NamedTuple):
    """Bytes of one process at a moment of a step."""

    moment: str
    weights: int
    """The float32 masters, or this process's part of them."""
    moments: int
    """Of the optimizer, with what of the weights it holds once more."""
    gradients: int
    copies: int
    """Weights in the products' type, joined, gathered from other processes, until the backward pass is through."""
    activations: int
    """What the backward pass needs of the forward pass."""
    loss: int
    """The head's gradient, the hidden states' and one chunk of logits."""
    working: int
    """Held for a moment: of one block's backward pass, of the update, of a checkpoint's writing."""
    libraries: int
    """What does not grow with the model."""

    @property
    def total(self) -> int:
        return sum(self[1:])


def training_memory(shape: Shape, step: Step) -> Memory:
    """The moment of a step at which it needs most."""
    return max(moments_of_step(shape, step), key=lambda one: one.total)


def saving_memory(shape: Shape, step: Step) -> Memory:
    """While a checkpoint is written and nothing else is done, as after the last step; on a GPU the copies are the
    host's."""
    copies = checkpoint_bytes(shape, step) if step.device == "cpu" else 0
    return Memory("checkpoint", weight_bytes(shape, step), moment_bytes(shape, step), 0, 0, 0, 0, copies,
                  _libraries(step))


def moments_of_step(shape: Shape, step: Step) -> list[Memory]:
    """The ends of the forward and backward pass, the begin of the latter, and the update."""
    weights, moments = weight_bytes(shape, step), moment_bytes(shape, step)
    kept, copies = round(_scattered(shape, step) * activation_bytes(shape, step)), copy_bytes(shape, step)
    before = 4 * _split(shape, step) if step.accumulates and (step.parts == 1 or step.zero < 3) else 0
    gradients = max(before, 4 * _split(shape, step) // step.parts)
    head = _head_gradient(shape, step)
    hidden = step.tokens * shape.hidden_size * step.width
    last = 4 * _split_block(shape, step)
    held = weights, moments
    return [
        Memory("loss", *held, before, copies, kept, head + 2 * hidden, _loss_chunk(shape, step), _libraries(step)),
        Memory("backward, first block", *held, max(before, last // step.parts), copies, kept, head + hidden,
               _block_backward(shape, step), _libraries(step)),
        Memory("backward, last block", *held, gradients, _last_copies(shape, step), 0, 0,
               _table_gradient(shape, step) + _block_again(shape, step), _libraries(step)),
        Memory("update", *held, 4 * _split(shape, step) // step.parts, 0, 0, 0, _update(shape, step),
               _libraries(step)),
    ]


def _libraries(step: Step) -> int:
    return LIBRARIES[step.compiled] if step.device == "cpu" else 0


def weight_bytes(shape: Shape, step: Step) -> int:
    return 4 * _split(shape, step) // step.parts


def moment_bytes(shape: Shape, step: Step) -> int:
    """AdamW's two moments; of Muon's matrices one. ZeRO-1 and Muon's owners hold their part of the weights again."""
    matrices = shape.num_hidden_layers * block_matrices(shape) // step.tensor if step.optimizer == "muon" else 0
    other = _split(shape, step) - matrices
    if step.readers == 1:
        return 8 * other + 4 * matrices
    return (12 * other // step.readers if step.zero == 1 else 8 * other // step.parts) + 8 * matrices // step.readers


def checkpoint_bytes(shape: Shape, step: Step) -> int:
    """While a checkpoint is written beside training: weights and moments as they were, and one file twice."""
    held = weight_bytes(shape, step) + moment_bytes(shape, step)
    return held + 2 * min(held, FILE_BYTES + 12 * max(_table(shape, step), down_weights(shape)) // step.parts)


def activation_bytes(shape: Shape, step: Step) -> int:
    """What is kept at the end of the forward pass, besides weights and what the loss keeps."""
    each = _recomputed_block(shape, step) if step.recompute != "none" else _whole_block(shape, step)
    last = (8 if shape.norm == "rmsnorm" and not step.compiled else step.width) * shape.hidden_size
    rotates = shape.position.startswith("rope") and not step.half and not step.compiled  # with their casts, else
    tables = 8 * shape.rope_dims if rotates else 0
    return step.tokens * (shape.num_hidden_layers * each + last + tables)


def _scattered(shape: Shape, step: Step) -> float:
    """Memory taken for a byte of activations."""
    if step.device == "cuda" or step.compiled or step.recompute != "none":
        return 1.0
    largest = step.tokens * step.width * widths(shape)[2] // step.tensor
    return 1 + SCATTERED * min(1.0, MAPPED / largest)


def _whole_block(shape: Shape, step: Step) -> int:
    """Bytes a token that a block keeps where nothing is computed again.

    Eager: the norms' inputs and normalised values in float32 (LayerNorm is one operation and keeps its input alone),
    the inputs of all products, q, k and v before and after their rotation, the gate's silu. A compiled block computes
    norms and gates again.
    """
    hidden, feed = shape.hidden_size, shape.intermediate_size
    query, shared, wide = (one // step.tensor for one in widths(shape))
    feed //= step.tensor
    turned = query + shared if shape.position.startswith("rope") else 0
    attention = 2 * query + 2 * shared + turned
    norms, sums = norms_of_block(shape), 4 * shape.num_attention_heads // step.tensor
    if step.compiled:
        return step.width * (wide + feed + attention + (2 + norms) * hidden) + sums + 4 * norms
    gated = 2 * feed if shape.activation == "swiglu" else feed
    kept = step.width * (wide + gated + attention + 2 * hidden) + sums
    kept += norms * (8 * hidden + 4 if shape.norm == "rmsnorm" else step.width * (hidden + 2))
    return kept + (2 * shape.rope_dims * step.width if turned and step.half else 0)


def _recomputed_block(shape: Shape, step: Step) -> int:
    """Bytes a token that a block keeps where it is computed again: its input, and with `selective` all products."""
    if step.recompute == "full":
        return step.width * shape.hidden_size
    query, shared, wide = (one // step.tensor for one in widths(shape))
    products = wide + 2 * query + 2 * shared + 2 * shape.hidden_size
    return step.width * (products + (0 if step.compiled else shape.hidden_size)) + (
        4 * shape.num_attention_heads // step.tensor)


def copy_bytes(shape: Shape, step: Step) -> int:
    """Weights that a forward pass makes and the backward pass needs: casts to bfloat16, joined matrices of several
    parts, and, with several readers, what is gathered from them."""
    layers = shape.num_hidden_layers
    joined = qkv_weights(shape) + (up_weights(shape) if shape.activation == "swiglu" else 0)
    if step.readers > 1:
        gathered = step.width * (_split(shape, step) if step.zero < 3 else _tables(shape, step) + 2 * _split_block(
            shape, step))
        return gathered + step.width * (layers if step.recompute == "none" else 1) * joined // step.tensor
    if not step.half:
        return 4 * (layers if step.recompute == "none" else 1) * joined // step.tensor
    if step.recompute == "none":
        return 2 * layers * block_matrices(shape) // step.tensor
    cached = 0 if step.compiled else layers * (out_weights(shape) + down_weights(shape))
    return 2 * (cached + block_matrices(shape)) // step.tensor


def _last_copies(shape: Shape, step: Step) -> int:
    """Those that are left when the backward pass reaches the first block."""
    every = copy_bytes(shape, step)
    return every if step.readers > 1 and step.zero < 3 else every // shape.num_hidden_layers


def _split(shape: Shape, step: Step) -> int:
    """Parameters of a tensor-parallel process: matrices and tables are split, norms are not."""
    counts = count(shape)
    return (parameters(shape) - counts.norms - counts.positions) // step.tensor + counts.norms + counts.positions


def _split_block(shape: Shape, step: Step) -> int:
    return block_parameters(shape) // step.tensor


def _tables(shape: Shape, step: Step) -> int:
    """Parameters that belong to no block."""
    counts = count(shape)
    return (counts.embedding + counts.head) // step.tensor + counts.positions


def _table(shape: Shape, step: Step) -> int:
    return shape.vocab_size * shape.hidden_size // step.tensor


def _head_gradient(shape: Shape, step: Step) -> int:
    """Kept from the loss to the head; in bfloat16 where the gathered head is. NormHead's matrix is another one."""
    matrix = 4 * _table(shape, step) if shape.head == "normalized" else 0
    return (step.width if step.readers > 1 else 4) * _table(shape, step) + matrix


def _loss_chunk(shape: Shape, step: Step) -> int:
    """Logits, probabilities and their gradient, the head's cast and one chunk's gradient of it."""
    vocabulary = shape.vocab_size // step.tensor
    rows = min(step.tokens, max(FEWEST_ROWS, LOGITS_AT_ONCE[step.device] // (4 * vocabulary)))
    cast = 2 * _table(shape, step) if step.half and step.readers == 1 else 0
    whole = 2 * _table(shape, step) if step.half and step.readers > 1 else 0
    return rows * vocabulary * (2 * step.width + 4) + cast + whole + step.width * _table(shape, step)


def _block_backward(shape: Shape, step: Step) -> int:
    """What the backward pass of one block holds beside what it frees, and, computed again, what that block keeps."""
    wide = widths(shape)[2] // step.tensor
    working = step.tokens * step.width * (wide + 2 * shape.hidden_size)
    return working + _block_again(shape, step)


def _block_again(shape: Shape, step: Step) -> int:
    if step.recompute == "none":
        return 0
    return step.tokens * (_whole_block(shape, step) - _recomputed_block(shape, step))


def _table_gradient(shape: Shape, step: Step) -> int:
    """The embedding's gradient beside the head's where they are one table. With several readers, all of the tables'
    before they are spread: as they come, in float32, and, over gloo, once more."""
    if step.readers > 1:
        return (step.width + (8 if step.device == "cpu" else 4)) * _tables(shape, step)
    return 4 * _table(shape, step) if shape.tie_word_embeddings else 0


def _update(shape: Shape, step: Step) -> int:
    """Muon's copies of a matrix and its Gram matrices; the largest weight where each process updates some rows."""
    largest = max(_table(shape, step), 1)
    if step.readers > 1 and step.zero == 1:
        return 8 * largest
    if step.optimizer == "adamw":
        return 0
    matrices = shape.num_hidden_layers * block_matrices(shape) // step.tensor
    owned = 4 * matrices // step.readers if step.readers > 1 else 0
    return 12 * down_weights(shape) // step.tensor + owned
