"""Every matrix of a decoder split over the processes of a tensor-parallel group (Megatron-LM, 1909.08053), as DTensors.

Rows of queries, keys, values, gate and up, columns of the projections back, rows of the vocabulary: two sums a block
forward, two backward. Loss and softmax stay split over the vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle

from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig
from headwater.train.parts import PartedLinear


def check(config: ModelConfig, ranks: int) -> None:
    """Raises `InputError` where the model's axes cannot be split over so many processes."""
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
        if getattr(config, name) % ranks:
            raise InputError(f"{name} {getattr(config, name)} cannot be split over {ranks} processes",
                             where="trainer.parallel.tensor", fix="set it to a divisor")


def split(model: Decoder, mesh: DeviceMesh) -> None:
    """Split a parted decoder, in place; it takes and gives whole tensors as before."""
    ranks, rank = mesh.size(), mesh.get_local_rank()
    for block in model.blocks:
        parallelize_module(block, mesh, {
            "attention.qkv": _PartedRows(), "attention.out": RowwiseParallel(),
            "feedforward.up": _PartedRows() if model.config.activation == "swiglu" else ColwiseParallel(),
            "feedforward.down": RowwiseParallel()})
        attention: Any = block.attention
        attention.heads, attention.kv_heads = attention.heads // ranks, attention.kv_heads // ranks
        attention.first_head = rank * attention.heads
    parallelize_module(model, mesh, {"embedding": RowwiseParallel(input_layouts=Replicate()),
                                     "head": ColwiseParallel(output_layouts=Replicate())})
    if model.config.tie_word_embeddings:
        model.head.weight = model.embedding.weight


class _PartedRows(ParallelStyle):
    """A `PartedLinear` of whole inputs whose every part is split by rows; its output is this process's rows."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module, PartedLinear)
        for part in module.parts():
            for name, parameter in list(part.named_parameters()):
                part.register_parameter(name, nn.Parameter(distribute_tensor(parameter, device_mesh, [Shard(0)])))
        module.register_forward_pre_hook(lambda _, inputs: (_entering(inputs[0], device_mesh),))
        return module


def _entering(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """x as it is; its gradient is added up over the group, each process of which uses it for rows of its own."""
    whole = DTensor.from_local(x, mesh, [Replicate()], run_check=False)
    return whole.to_local(grad_placements=[Partial()])

