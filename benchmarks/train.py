"""Training speed and memory against transformers' LLaMA and litgpt, same shapes, rows and data type.

    python benchmarks/train.py [--full] [--threads N] [--device cpu|cuda]

Every contender lives in a process of its own, so that no allocator setting, compiled graph or switch of one touches
another; their steps take turns. One measured call is a whole step: forward, backward, gradient norm and clipping, AdamW
on float32 weights, products in bfloat16. Rows are one causal document each, without padding, for all. The peers run as
their documentation has them at their fastest: compiled (`torch.compile`), PyTorch's own attention, fused AdamW;
transformers also with the weights themselves in bfloat16, which halves its memory and loses what small updates add. The
ceiling is the machine's matrix-product peak; the share reached counts 6 N + 12 L H Q T operations a token (N without
the embedding table), and once more half of the attention, which is all that causal rows need. Peak memory is that of
the contender's process.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _harness import Case, arguments, installed, measure_interleaved, report
from _workers import Questions, Worker, serve
from torch import Tensor

from headwater import hardware, plan
from headwater.model import Decoder, ModelConfig, initialise
from headwater.train import Batch, Trainer, TrainerSettings
from headwater.train.machine import Machine
from headwater.train.objective import next_token

SIZES = {"17M": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6},
         "100M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
         "1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
                "num_key_value_heads": 4, "vocab_size": 32000}}
ROWS = {"17M": {512: 8, 2048: 2}, "100M": {512: 4, 2048: 1}, "1B": {4096: 8}}
"""Rows of a step by length."""
Step = Callable[[], object]


def shape(size: str, length: int, **changes: Any) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 8192, "max_position_embeddings": length, **SIZES[size], **changes})


def tokens(config: ModelConfig, rows: int, length: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(config.vocab_size, (rows, length + 1), generator=generator).to(device)


class Rows:
    """Batches for the trainer: what `tokens` draws, a document a row."""

    batches_per_epoch = 1.0

    def __init__(self, config: ModelConfig, rows: int, length: int) -> None:
        drawn = tokens(config, rows, length, "cpu")
        places = torch.arange(length).expand(rows, length).contiguous()
        self.made = Batch(drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous(), places, torch.zeros_like(places),
                          places, places)

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        return self.made


def ours(config: ModelConfig, rows: int, length: int, device: str, *, compiled: bool = True) -> Step:
    batches = Rows(config, rows, length)
    settings = TrainerSettings(steps=1000, rows=rows, sequence_length=length, precision="bfloat16",
                               device=device)
    trainer = Trainer(initialise(Decoder(config), 0), next_token, batches, settings)
    trainer.prepare(Machine(trainer.device, "bfloat16", compiled, torch.get_num_threads(), 1.0))
    batch, parameters = batches.batch(0), list(trainer.task.parameters())

    def step() -> None:
        trainer.backward(batch, rows * length)
        trainer.parallel.clip(parameters, trainer.parallel.gradient_norm(parameters), 0.5)
        trainer.optimizer.step(1e-4)

    return step


def theirs(model: torch.nn.Module, loss_of: Callable[[], Tensor], device: str, *, half: bool = False) -> Step:
    """A step of a peer; half: weights in bfloat16 instead of autocast."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    compiled = torch.compile(loss_of, dynamic=False)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=not half):
            loss = compiled()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def transformers(config: ModelConfig, rows: int, length: int, device: str, *, half: bool = False) -> Step | None:
    if installed("transformers") is None:
        return None
    from transformers import LlamaConfig, LlamaForCausalLM

    from headwater.model.families import llama

    values = {name: value for name, value in llama.config_to(config).items() if name not in ("architectures",)}
    model = LlamaForCausalLM(LlamaConfig(**values, attn_implementation="sdpa")).to(device).train()
    model = model.bfloat16() if half else model
    drawn = tokens(config, rows, length, device)[:, :-1]
    return theirs(model, lambda: model(drawn, labels=drawn, use_cache=False).loss, device, half=half)


def litgpt(config: ModelConfig, rows: int, length: int, device: str) -> Step | None:
    try:
        from litgpt.config import Config
        from litgpt.model import GPT
        from litgpt.utils import chunked_cross_entropy
    except ImportError:
        return None
    settings = Config(name="llama", block_size=length, vocab_size=config.vocab_size,
                      padded_vocab_size=config.vocab_size,
                      n_layer=config.num_hidden_layers, n_head=config.num_attention_heads, n_embd=config.hidden_size,
                      n_query_groups=config.num_key_value_heads, rotary_percentage=1.0, parallel_residual=False,
                      bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
                      intermediate_size=config.intermediate_size)
    model = GPT(settings).to(device).train()
    drawn = tokens(config, rows, length, device)

    def loss() -> Tensor:
        return chunked_cross_entropy(model(drawn[:, :-1]), drawn[:, 1:].contiguous(), chunk_size=0)

    return theirs(model, loss, device)


def ours_with_alibi(config: ModelConfig, rows: int, length: int, device: str) -> Step:
    return ours(config.model_copy(update={"position": "alibi"}), rows, length, device)


CONTENDERS: dict[str, Callable[[ModelConfig, int, int, str], Step | None]] = {
    "ours": ours, "transformers": transformers, "transformers, weights in bfloat16": partial(transformers, half=True),
    "litgpt": litgpt, "ours, not compiled": partial(ours, compiled=False), "ours, ALiBi": ours_with_alibi}


def questions(name: str, size: str, length: int, device: str) -> Questions | None:
    """What a worker is asked; None where the contender is not installed."""
    step = CONTENDERS[name](shape(size, length), ROWS[size][length], length, device)
    if step is None:
        return None
    step()  # compiles

    def whole_step() -> float:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        return 0.0

    def peak() -> float:
        return torch.cuda.max_memory_allocated() if device == "cuda" else (
            1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    return {"step": whole_step, "peak": peak}


def compare(size: str, length: int, options: Any) -> list[Case]:
    device, rows = options.device, ROWS[size][length]
    every = options.full or device == "cuda"
    workers = {name: Worker("--worker", name, size, str(length), "--threads", str(options.threads), "--device", device)
               for name in CONTENDERS if every or name != "ours, ALiBi"}
    there = {name: worker for name, worker in workers.items() if worker.installed}
    seconds = measure_interleaved({name: worker.step for name, worker in there.items()}, 9 if options.full else 3)
    memory = {name: worker.ask("peak") / 1e6 for name, worker in there.items()}
    for worker in workers.values():
        worker.end()
    case = f"{size}, {rows} x {length}"
    speed = {name: rows * length / value for name, value in seconds.items()}
    cases = [Case.compare(case, "tokens/s", speed["ours"], name, speed[name]) if name in there else
             Case(case, "tokens/s", speed["ours"], f"{name}: not installed") for name in workers if name != "ours"]
    cases += [Case.compare(case, "peak memory, MB", memory["ours"], name, memory[name], more_is_better=False)
              for name in memory if name != "ours"]
    peaks = {"measured peak": hardware.matmul_flops(torch.bfloat16, device, size=2048)}
    if device == "cuda":
        words = torch.cuda.get_device_name().replace("RTX ", "RTX").replace("-", " ").split()
        peaks |= {f"{name.partition('-')[0]}'s data sheet": 1e12 * gpu.tflops for name, gpu in plan.GPUS.items()
                  if name.partition("-")[0] in words}
    for attention, counted in (("whole", length), ("causal, half", length // 2)):
        flops = speed["ours"] * plan.flops_per_token(shape(size, length), counted)
        cases += [Case(case, f"share of matmul peak, attention {attention}", flops / peak, name, 1.0, flops / peak)
                  for name, peak in peaks.items()]
    return cases


def main() -> None:
    options = arguments(
        __doc__, ("--threads", {"type": int, "default": hardware.cores(), "help": "threads (all)"}),
        ("--device", {"choices": ("cpu", "cuda"), "default": "cpu", "help": "cuda: 1B parameters at 4,096 tokens"}),
        ("--only", {"nargs": "*", "default": [], "metavar": "SIZE-LENGTH", "help": "for example 17M-512"}),
        ("--worker", {"nargs": 3, "metavar": ("NAME", "SIZE", "LENGTH"), "help": "be one contender (for itself)"}))
    torch.set_num_threads(options.threads)
    if options.worker:
        name, size, length = options.worker
        serve(lambda: questions(name, size, int(length), options.device))
        return
    wanted = [("1B", 4096)] if options.device == "cuda" else [
        (size, length) for size in ("17M", "100M") for length in (512, 2048)] if options.full else [("17M", 512)]
    if options.only:
        wanted = [(size, int(length)) for size, _, length in (one.partition("-") for one in options.only)]
    rows: list[Case] = []
    for size, length in wanted:
        rows += compare(size, length, options)
    ceilings = {f"{name} matmul, GFLOP/s": hardware.matmul_flops(getattr(torch, name), options.device, size=2048) / 1e9
                for name in ("float32", "bfloat16")}
    report("train", rows, ceilings, ("torch", "transformers", "litgpt"))


if __name__ == "__main__":
    main()
