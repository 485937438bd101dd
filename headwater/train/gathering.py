"""A whole model among several processes: handed out by the leader, gathered by it again.

No process but the leader ever holds all of it, and the leader only in the host's memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from headwater.model import Decoder, ModelConfig
from headwater.train.parallel import Parallel
from headwater.train.parts import joined, parted
from headwater.train.processes import is_leader


def on_leader(make: Callable[[], Decoder], config: ModelConfig) -> Decoder:
    """The decoder with its weights on the process that hands them out, its shape alone on all others."""
    if is_leader():
        return make()
    with torch.device("meta"):
        return Decoder(config)


def hand_out(weights: dict[str, Tensor], model: Decoder, parallel: Parallel) -> None:
    """Give every process its part of the leader's weights, of a whole decoder by name, tensor after tensor.

    model: a parted decoder without weights that is spread over the processes. The leader's `weights` are used up, so
    that no process ever holds more than these and its own part; the other processes' are not looked at.
    """
    buffers, weights = dict(model.named_buffers()), parted(weights, model) if is_leader() else {}
    model.to_empty(device=parallel.device)
    for name, buffer in buffers.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, buffer.to(parallel.device))
    if model.config.tie_word_embeddings:
        model.head.weight = model.embedding.weight
    for name, parameter in model.named_parameters():
        parallel.hand_out(weights.pop(name, None), parameter)


def whole_tensors(model: Decoder, parallel: Parallel) -> dict[str, Tensor]:
    """All weights of a parted decoder by the names of a whole one; of several processes the leader gets them, in the
    host's memory, gathered tensor after tensor, and the others none."""
    gathered = ((name, parallel.gathered(one.detach())) for name, one in model.named_parameters())
    return joined({name: tensor for name, tensor in gathered if tensor is not None}, model)


def whole_again(objective: nn.Module, parallel: Parallel) -> None:
    """Give an objective that learned with the model its parameters whole, in place; the leader has them then."""
    for name, one in list(objective.named_parameters()):
        found = parallel.gathered(one.detach())
        parent, _, leaf = name.rpartition(".")
        if found is not None:
            objective.get_submodule(parent).register_parameter(leaf, nn.Parameter(found, one.requires_grad))
