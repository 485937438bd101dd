"""Operations, time and money of a training run, and the graphics processors it may run on."""

from __future__ import annotations

from typing import NamedTuple

from headwater.errors import InputError
from headwater.plan.shape import Shape, count, parameters
from headwater.settings import nearest_name


class Gpu(NamedTuple):
    """What the vendor's data sheet says: dense bfloat16 products (without sparsity), memory and its bandwidth."""

    tflops: float
    gibibytes: int
    """2^30 bytes, of which the driver keeps one or two in a hundred."""
    gigabytes_per_second: float


GPUS = {
    "A100-40G": Gpu(312, 40, 1555),
    "A100-80G": Gpu(312, 80, 2039),
    "A800-80G": Gpu(312, 80, 2039),
    "H100-80G": Gpu(989, 80, 3350),
    "H800-80G": Gpu(989, 80, 3350),
    "H200-141G": Gpu(989, 141, 4800),
    "H20-96G": Gpu(148, 96, 4000),
    "L40S-48G": Gpu(362, 48, 864),
    "A10-24G": Gpu(125, 24, 600),
    "RTX4090-24G": Gpu(165, 24, 1008),
    "RTX3090-24G": Gpu(71, 24, 936),
}
"""By the name and memory of the SXM form where there are several; consumer cards with float32 accumulation."""


def find_gpu(name: str) -> Gpu:
    """By name, in any case, without the memory where one has it. Raises `InputError` with the nearest known name."""
    wanted = name.lower()
    found = [gpu for known, gpu in GPUS.items() if wanted in (known.lower(), known.lower().rpartition("-")[0])]
    if len(found) == 1:
        return found[0]
    nearest = nearest_name(wanted, [known.lower() for known in GPUS])
    spelled = next((known for known in GPUS if known.lower() == nearest), None)
    raise InputError(f"unknown GPU {name!r}" if not found else f"{name!r} is several GPUs",
                     fix=f"did you mean {spelled}?" if spelled else f"known: {', '.join(GPUS)}")


def flops_per_token(shape: Shape, length: int, *, frozen: bool = False) -> float:
    """Training FLOPs per token, 6 N + 12 L H Q T (PaLM, 2204.02311, appendix B); of a frozen model, whose weights have
    no gradients, 4 N + 12 L H Q T.

    N leaves out an embedding table that is only looked up, and counts a tied one, which is the head. Attention is
    counted as if every token saw the whole row of T: a causal row needs half of that, packed documents less still,
    so of the peak a run with short documents reaches less than this count says. What is computed again in the
    backward pass is not counted (MFU; the hardware's share, HFU, would count it).
    """
    table = 0 if shape.tie_word_embeddings else count(shape).embedding
    attention = 12 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * length
    return (4.0 if frozen else 6.0) * (parameters(shape) - table) + attention


def tokens_per_second(shape: Shape, length: int, gpu: Gpu, gpus: int, share: float) -> float:
    """Of a whole run, where each GPU reaches this share of its peak."""
    return share * gpu.tflops * 1e12 * gpus / flops_per_token(shape, length)


def model_flops_share(flops: float, seconds: float, gpu: Gpu) -> float:
    """MFU: of its peak, what a GPU reaches that does `flops` operations in so many seconds."""
    return flops / seconds / (gpu.tflops * 1e12)


def days(tokens: float, per_second: float) -> float:
    return tokens / per_second / 86_400


def price(tokens: float, per_second: float, gpus: int, per_hour: float) -> float:
    """Of a run over `tokens`, in the currency of `per_hour`, the price of one GPU's hour."""
    return 24 * days(tokens, per_second) * gpus * per_hour


def zero_bytes(weights: float, processes: int, stage: int) -> float:
    """Weights, gradients and optimizer of a process as the ZeRO paper counts them (1910.02054, section 3).

    With float16 weights and gradients and 12 bytes of optimizer a parameter: 16, 4 + 12/N, 2 + 14/N, 16/N.
    """
    kept = (16, 4, 2, 0)[stage]
    return weights * (kept + (16 - kept) / processes)
