"""The processes of a training run, on PyTorch's own distributed stack: how weights, gradients and moments are split."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard

from headwater.errors import InputError
from headwater.settings import Settings
from headwater.train import processes
from headwater.train.optimizer import Update, Updated, whole
from headwater.train.parts import PartedLinear


class ParallelSettings(Settings):
    """How several processes share a run; one process needs none of this."""

    zero: Literal[0, 1, 2, 3] = 2
    """What each process keeps only a part of: 0 nothing, 1 the optimizer's moments, 2 also gradients and weights
    between steps, 3 weights at all times (ZeRO, 1910.02054)."""
    replicas: int = Field(default=1, ge=1)
    """Groups that each hold all parts (hybrid sharding: parts inside a machine, replicas across)."""
    tensor: int = Field(default=1, ge=1)
    """Processes that split every matrix between them; neighbours in rank, so best those of one machine."""

    @model_validator(mode="after")
    def _goes_together(self) -> ParallelSettings:
        if self.tensor > 1 and self.zero == 1:
            raise ValueError("zero 1 with tensor is not supported: zero 2 keeps less and costs no more")
        if self.replicas > 1 and self.zero < 2:
            raise ValueError(f"replicas {self.replicas} need zero 2 or 3: zero {self.zero} replicates everything")
        return self

    def readers(self, ranks: int) -> int:
        """How many of so many processes read data of their own. Raises `InputError` where they cannot be laid out."""
        if ranks % (self.tensor * self.replicas):
            raise InputError(f"{ranks} processes are no multiple of parallel.tensor {self.tensor} x "
                             f"parallel.replicas {self.replicas}", where="trainer.parallel",
                             fix="start as many processes as their product, or a multiple of it")
        return ranks // self.tensor


class Parallel:
    """This process among those of its run: as a reader of the data, and as the holder of parts of the model."""

    def __init__(self, settings: ParallelSettings, device: str) -> None:
        processes.join()
        self.settings, self.device, self.ranks = settings, device, processes.ranks()
        tensor, replicas, zero = settings.tensor, settings.replicas, settings.zero
        self.data_ranks = settings.readers(self.ranks)
        self.mesh: DeviceMesh | None = None
        self.tensor_mesh: DeviceMesh | None = None
        self.data_rank = self.tensor_rank = 0
        if self.ranks > 1:
            shards = self.data_ranks // replicas if zero >= 2 else 1
            self.mesh = init_device_mesh(device, (self.data_ranks // shards, shards, tensor),
                                         mesh_dim_names=("replica", "shard", "tensor"))
            self.data_rank, self.tensor_rank = divmod(dist.get_rank(), tensor)
            self.data_group = self.mesh["replica", "shard"]._flatten("data").get_group()
            if tensor > 1:
                self.tensor_mesh = self.mesh["tensor"]
            self._checkpoints = dist.new_group(backend="gloo", timeout=processes.PATIENCE)

    @property
    def checkpoint_group(self) -> Any:
        """A group of all processes for writing checkpoints, so that it can go on beside training; None for one."""
        return self._checkpoints if self.ranks > 1 else None

    def sum(self, values: Tensor) -> Tensor:
        """The values added over the readers of the data."""
        if self.data_ranks > 1:
            dist.all_reduce(values, group=self.data_group)
        return values

    def shard(self, task: nn.Module, blocks: list[nn.Module], *, half: bool) -> None:
        """Spread the task's parameters over the readers; the task is called as before. Nothing for one process."""
        if self.mesh is None or self.data_ranks == 1:
            return
        precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if half else (
            MixedPrecisionPolicy())
        options: dict[str, Any] = {"mesh": self.mesh["replica", "shard"], "mp_policy": precision,
                                   "reshard_after_forward": self.settings.zero == 3}
        for module in task.modules():
            if isinstance(module, PartedLinear):
                module.joins = False
        for module in (*blocks, task):
            fully_shard(module, **options)
            assert isinstance(module, FSDPModule)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            module.set_gradient_divide_factor(1.0)

    def hand_out(self, whole: Tensor | None, parameter: nn.Parameter) -> None:
        """Give every process its part of a tensor that the leader has (the others None)."""
        if whole is None:
            sent = torch.empty(parameter.shape, dtype=parameter.dtype, device=self.device)
        else:
            sent = whole.to(self.device).contiguous()
        dist.broadcast(sent, 0)
        if isinstance(parameter, DTensor):
            sent = _part_of(sent, parameter.device_mesh, parameter.placements)
        _local(parameter.detach()).copy_(sent)

    def gathered(self, tensor: Tensor) -> Tensor | None:
        """A parameter whole: of several processes on the leader alone, in the host's memory."""
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if self.ranks == 1:
            return whole
        return whole.cpu() if processes.is_leader() else None

    def synchronise(self, task: nn.Module, now: bool) -> None:
        """Whether the next backward pass adds the gradients up over the readers or keeps them here."""
        if isinstance(task, FSDPModule) and self.settings.zero < 3:
            task.set_requires_gradient_sync(now)

    def gradient_norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """The Euclidean norm of all gradients, each counted once, float32."""
        sums: dict[tuple[bool, bool], list[Tensor]] = {}
        for one in parameters:
            if one.grad is not None:
                sums.setdefault(_spread(one.grad), []).append(_local(one.grad))
        totals = torch.zeros(4, device=self.device)
        for (over_data, over_tensor), gradients in sums.items():
            norms = torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32))
            totals[2 * over_data + over_tensor] = norms.square().sum()
        for slots, group in (([2, 3], self._shard_group()), ([1, 3], self._tensor_group())):
            if group is not None:
                part = totals[slots]
                dist.all_reduce(part, group=group)
                totals[slots] = part
        return totals.sum().sqrt()

    def clip(self, parameters: list[nn.Parameter], norm: Tensor, largest: float) -> None:
        """Scale all gradients, whose norm is `norm`, so that it is at most `largest`."""
        gradients = [_local(one.grad) for one in parameters if one.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))

    def _shard_group(self) -> Any:
        return None if self.mesh is None or self.mesh["shard"].size() == 1 else self.mesh["shard"].get_group()

    def _tensor_group(self) -> Any:
        return None if self.tensor_mesh is None else self.tensor_mesh.get_group()

    def update(self) -> Update:
        """How an optimizer's work is divided."""
        if self.data_ranks == 1:
            return whole
        owners = iter(range(1 << 62))

        def choose(name: str, parameter: nn.Parameter, needs_matrix: bool) -> Updated:
            if needs_matrix:
                return OwnedMatrix(name, parameter, next(owners) % self.data_ranks, self)
            return OwnRows(name, parameter, self) if self.settings.zero == 1 else whole(name, parameter, False)

        return choose


def _spread(tensor: Tensor) -> tuple[bool, bool]:
    """Whether a tensor is split over the readers, and over the tensor-parallel processes."""
    if not isinstance(tensor, DTensor):
        return False, False
    split = {name for name, placement in zip(tensor.device_mesh.mesh_dim_names or (), tensor.placements)
             if not placement.is_replicate()}
    return "shard" in split, "tensor" in split


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class OwnRows(Updated):
    """ZeRO-1: every reader holds all of a parameter and updates its own rows of it."""

    def __init__(self, name: str, parameter: nn.Parameter, parallel: Parallel) -> None:
        self.parallel = parallel
        assert parallel.mesh is not None
        local = _local(parameter.detach())
        self.rows = [len(part) for part in local.chunk(parallel.data_ranks)]
        self.rows += [0] * (parallel.data_ranks - len(self.rows))
        data = parallel.mesh["replica"]
        tensor = DTensor.from_local(self._own(local).clone(), data, [Shard(0)], run_check=False, shape=local.shape,
                                    stride=local.stride())
        super().__init__(name, parameter, tensor)

    def _own(self, local: Tensor) -> Tensor:
        return local.split(self.rows)[self.parallel.data_rank]

    def receive(self) -> None:
        gradient = self.parameter.grad
        assert isinstance(self.tensor, DTensor)
        self.tensor.grad = None if gradient is None else DTensor.from_local(
            self._own(_local(gradient)), self.tensor.device_mesh, [Shard(0)], run_check=False, shape=self.tensor.shape,
            stride=self.tensor.stride())

    def reload(self) -> None:
        _local(self.tensor).copy_(self._own(_local(self.parameter.detach())))

    def publish(self) -> None:
        assert isinstance(self.tensor, DTensor)
        _local(self.parameter).copy_(self.tensor.full_tensor())


class OwnedMatrix(Updated):
    """A matrix that one reader updates whole: Muon's step needs all of it.

    The owner keeps a copy of the matrix and its momentum; the others keep neither.
    """

    def __init__(self, name: str, parameter: nn.Parameter, owner: int, parallel: Parallel) -> None:
        self.parallel, self.owner = parallel, owner
        self.mine = owner == parallel.data_rank
        full = self._gathered(parameter.detach())
        super().__init__(name, parameter, full.clone() if self.mine else torch.empty(0, device=full.device))

    def _gathered(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def receive(self) -> None:
        gradient = self.parameter.grad
        assert gradient is not None
        full = self._gathered(gradient)
        self.tensor.grad = full if self.mine else None

    def reload(self) -> None:
        full = self._gathered(self.parameter.detach())
        if self.mine:
            self.tensor.copy_(full)

    def publish(self) -> None:
        parameter = self.parameter
        full = self.tensor if self.mine else torch.empty(parameter.shape, device=self.tensor.device)
        dist.broadcast(full, group_src=self.owner, group=self.parallel.data_group)
        if isinstance(parameter, DTensor):
            mesh, placements = parameter.device_mesh, parameter.placements
            parameter.to_local().copy_(_part_of(full, mesh, placements))
        else:
            parameter.copy_(full)


def _part_of(full: Tensor, mesh: DeviceMesh, placements: Any) -> Tensor:
    """This process's part of a tensor that all processes hold whole."""
    whole = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return whole.redistribute(placements=placements).to_local()
