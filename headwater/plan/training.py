"""Memory of a training step, process by process, as this project's trainer spends it.

Weights, gradients and moments are float32; matrix products are taken in bfloat16 under autocast, from copies of the
weights that the backward pass needs again. `benchmarks/plan.py` holds the peaks against those of whole runs.
"""

from __future__ import annotations

from typing import NamedTuple

from headwater.plan.activations import activation_bytes, recomputed_block, whole_block
from headwater.plan.shape import (
    Shape,
    block_matrices,
    block_parameters,
    count,
    down_weights,
    out_weights,
    parameters,
    qkv_weights,
    up_weights,
    widths,
)
from headwater.plan.step import Step

LOGITS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 29}
"""Bytes of logits that the loss holds, of `FEWEST_ROWS` at least: few enough to stay in a processor's cache where the
vocabulary is small, many enough to keep all cores busy and to add up a large head's gradient seldom.
`headwater.train.loss` takes them from here."""
FEWEST_ROWS = 256
LIBRARIES = {False: 52 << 20, True: 150 << 20}
"""Bytes that PyTorch takes on a CPU at its first step, not compiled and compiled (measured with a model of 0.04 M
parameters, torch 2.13)."""
SCATTERED = {"compiled": 0.0, "alone": 0.22, "shared": 0.46}
"""What glibc's heap loses on a CPU between freed tensors of other sizes, as a share of what a step takes and frees.
Measured 0 (compiled: buffers are few and alike), 0.14 to 0.33, and with several processes 0.43 to 0.5; where the
vocabulary's matrices are most of it 0.3 to 1.2, by the luck of the layout."""
FILE_BYTES = 1 << 26
"""A file of a checkpoint ends with the parameter that brings it to this size: what goes to a file is held twice while
it is written. `headwater.train.state` takes it from here."""


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
    scattered: int
    """Lost in the heap between freed tensors."""

    @property
    def total(self) -> int:
        return sum(self[1:])


def training_memory(shape: Shape, step: Step) -> Memory:
    """The moment of a step at which it needs most."""
    return scattered(max(moments_of_step(shape, step), key=lambda one: one.total), step)


def scattered(most: Memory, step: Step) -> Memory:
    """With what the heap loses of what a step takes and frees."""
    taken = most.total - most.weights - most.moments - most.libraries
    lost = 0.0 if step.device == "cuda" else SCATTERED[
        "shared" if step.processes > 1 else "compiled" if step.compiled else "alone"]
    return most._replace(scattered=round(lost * taken))


def saving_memory(shape: Shape, step: Step) -> Memory:
    """While a checkpoint is written and nothing else is done, as after the last step; on a GPU the copies are the
    host's."""
    copies = checkpoint_bytes(step, shape) if step.device == "cpu" else 0
    return Memory("checkpoint", weight_bytes(shape, step), moment_bytes(shape, step), 0, 0, 0, 0, copies,
                  libraries(step), 0)


def gathering_memory(shape: Shape, step: Step) -> Memory:
    """While the leader of several processes holds the whole model, handed out at first, gathered for snapshots and at
    the end: beside the steps' own on a CPU, in the host's memory on a GPU."""
    weights, moments = weight_bytes(shape, step), moment_bytes(shape, step)
    whole = 4 * parameters(shape) if step.processes > 1 and step.device == "cpu" else 0
    return Memory("gathering", weights, moments, 0, 0, 0, 0, whole, libraries(step), 0)


def peak_memory(shape: Shape, step: Step) -> Memory:
    """The most that the process which needs most ever holds, checkpoints beside training left out."""
    return max((found(shape, step) for found in (training_memory, saving_memory, gathering_memory)),
               key=lambda one: one.total)


def moments_of_step(shape: Shape, step: Step) -> list[Memory]:
    """The end of the forward pass, the begin and end of the backward pass, and the update."""
    weights, moments = weight_bytes(shape, step), moment_bytes(shape, step)
    kept, copies = activation_bytes(shape, step), copy_bytes(shape, step)
    rest = libraries(step), 0
    every, own = 4 * _split(shape, step), 4 * _split(shape, step) // step.parts
    before = (every if step.zero < 3 else own) if step.accumulates else 0
    gradients = max(before, own)
    head = _head_gradient(shape, step)
    hidden = step.tokens * shape.hidden_size * step.width
    last = 4 * _split_block(shape, step)
    held = weights, moments
    return [
        Memory("loss", *held, before, copies, kept, head + 2 * hidden, loss_chunk(shape, step), *rest),
        Memory("backward, head", *held, before, copies, kept, head + hidden, _head_backward(shape, step), *rest),
        Memory("backward, first block", *held, max(before, last // step.parts), copies, kept, head + hidden,
               _block_backward(shape, step), *rest),
        Memory("backward, last block", *held, gradients, _last_copies(shape, step),
               step.tokens * whole_block(shape, step), 0, _table_gradient(shape, step), *rest),
        Memory("update", *held, own, 0, 0, 0, _update(shape, step), *rest),
    ]


def libraries(step: Step) -> int:
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


def checkpoint_bytes(step: Step, *shapes: Shape) -> int:
    """While a checkpoint of models that learn together is written beside training: weights and moments as they were,
    and one file twice, of which several readers write a part each."""
    held = sum(weight_bytes(one, step) + moment_bytes(one, step) for one in shapes)
    largest = 12 * max(max(_table(one, step), down_weights(one) // step.tensor) for one in shapes)
    return held + 2 * min(held, (FILE_BYTES + largest) // step.readers)


def copy_bytes(shape: Shape, step: Step) -> int:
    """Weights that a forward pass makes and the backward pass needs: casts to bfloat16, joined matrices of several
    parts, and, with several readers, what is gathered from them."""
    layers = shape.num_hidden_layers
    joined = qkv_weights(shape) + (up_weights(shape) if shape.activation == "swiglu" else 0)
    if step.readers > 1:
        return step.width * (_split(shape, step) if step.zero < 3 else _tables(shape, step) + 2 * _split_block(
            shape, step))
    if not step.half:
        return 4 * (layers if step.recompute == "none" else 1) * joined // step.tensor
    if step.recompute == "none":
        return 2 * layers * block_matrices(shape) // step.tensor
    cached = 0 if step.compiled else layers * (out_weights(shape) + down_weights(shape))
    return 2 * (cached + block_matrices(shape)) // step.tensor


def _last_copies(shape: Shape, step: Step) -> int:
    """Those that are left when the backward pass reaches the first block."""
    if step.readers > 1:
        return step.width * (_tables(shape, step) + _split_block(shape, step))
    return copy_bytes(shape, step) // (shape.num_hidden_layers if step.recompute == "none" else 1)


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
    """Kept from the loss to the head; in bfloat16 where the gathered head is."""
    return (step.width if step.readers > 1 else 4) * _table(shape, step)


def loss_chunk(shape: Shape, step: Step) -> int:
    """Logits, which on a processor become their gradient, the head's cast, NormHead's matrix; on a GPU probabilities
    and one chunk's gradient of the head too."""
    vocabulary, table = shape.vocab_size // step.tensor, _table(shape, step)
    rows = min(step.tokens, max(FEWEST_ROWS, LOGITS_AT_ONCE[step.device] // (step.width * vocabulary)))
    more = 2 * step.half + 4 * (shape.head == "normalized")
    if step.device == "cpu":
        return rows * vocabulary * step.width + more * table
    return rows * vocabulary * (2 * step.width + 4) + (more + step.width) * table


def _head_backward(shape: Shape, step: Step) -> int:
    """The gradient of NormHead's weight beside that of its quotient."""
    return 4 * _table(shape, step) if shape.head == "normalized" else 0


def _block_backward(shape: Shape, step: Step) -> int:
    """What the backward pass of one block holds beside what it frees, and, computed again, what that block keeps."""
    working = block_working(shape, step)
    if step.recompute == "none":
        return working
    return working + step.tokens * (whole_block(shape, step) - recomputed_block(shape, step))


def block_working(shape: Shape, step: Step) -> int:
    """The gradients of a block's widest activations."""
    return step.tokens * step.width * (widths(shape)[2] // step.tensor + 2 * shape.hidden_size)


def _table_gradient(shape: Shape, step: Step) -> int:
    """The embedding's gradient beside the head's where they are one table. With several readers, all of the tables'
    before they are spread: as they come, in float32, and over gloo once more, less what is their part in the end."""
    if step.readers > 1:
        tables = _tables(shape, step)
        return (step.width + (8 if step.device == "cpu" else 4)) * tables - 4 * tables // step.parts
    return 4 * _table(shape, step) if shape.tie_word_embeddings else 0


def _update(shape: Shape, step: Step) -> int:
    """Muon's copies of a matrix and its Gram matrices; the largest weight where each process updates some rows."""
    largest = max(_table(shape, step), 1)
    spread = 8 * largest if step.readers > 1 and step.zero == 1 else 0
    if step.optimizer == "adamw":
        return spread
    matrices = shape.num_hidden_layers * block_matrices(shape) // step.tensor
    owned = 4 * matrices // step.readers if step.readers > 1 else 0
    return max(spread, 12 * down_weights(shape) // step.tensor + owned)
