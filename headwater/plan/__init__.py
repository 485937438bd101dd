"""Arithmetic of memory, compute and money: what a model needs to be kept, trained and served."""

from headwater.plan.compute import (
    GPUS,
    Gpu,
    days,
    find_gpu,
    flops_per_token,
    model_flops_share,
    price,
    tokens_per_second,
    zero_bytes,
)
from headwater.plan.finetuning import BASES, Base, Trained, base_bytes, finetuning_memory
from headwater.plan.serving import FORMS, cache_bytes_per_token, largest_batch, served_bytes, stored_bytes
from headwater.plan.shape import Counts, Shape, block_parameters, count, parameters
from headwater.plan.step import Step
from headwater.plan.training import (
    LIBRARIES,
    Memory,
    checkpoint_bytes,
    gathering_memory,
    libraries,
    moments_of_step,
    peak_memory,
    training_memory,
)

__all__ = ["BASES", "FORMS", "GPUS", "LIBRARIES", "Base", "Counts", "Gpu", "Memory", "Shape", "Step", "Trained",
           "base_bytes", "block_parameters", "cache_bytes_per_token", "checkpoint_bytes", "count", "days", "find_gpu",
           "finetuning_memory", "flops_per_token", "gathering_memory", "largest_batch", "libraries",
           "model_flops_share", "moments_of_step", "parameters", "peak_memory", "price", "served_bytes", "stored_bytes",
           "tokens_per_second", "training_memory", "zero_bytes"]
