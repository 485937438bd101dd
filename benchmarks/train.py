"""Training speed against transformers' LLaMA with the same shape, batch, precision and optimizer.

    python benchmarks/train.py [--full] [--threads N]

One measured call is a few whole steps: batch, forward, backward, clipping, AdamW. Ours runs as the trainer runs it,
packed documents that do not attend to each other; the peer runs plain causal rows, which is less work. The ceiling is
the machine's matrix-product peak; the share reached counts 6 N + 12 L H Q T operations a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _harness import Case, arguments, installed, measure_interleaved, report

from headwater import hardware, plan
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer.shards import Loaded
from headwater.train.objective import next_token
from headwater.train.optimizer import OptimizerSettings, make_optimizer
from headwater.train.streams import StreamBatches

SIZES = {"4M": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 3},
         "7M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8, "num_attention_heads": 4}}
VOCABULARY, ROWS, LENGTH, STEPS = 4096, 16, 256, 4


def documents() -> Loaded:
    generator = np.random.default_rng(0)
    sizes = generator.integers(40, 400, 400)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    tokens = generator.integers(0, VOCABULARY, offsets[-1]).astype("<u4")
    return Loaded(tokens, offsets, ["en"] * len(sizes), sizes)


def ours(config: ModelConfig, precision: str, *, compiled: bool) -> Callable[[], None]:
    model = initialise(Decoder(config), 0).train()
    optimizer = make_optimizer(model, OptimizerSettings())
    batches = StreamBatches(documents(), rows=ROWS, length=LENGTH, seed=0)

    def loss_of(model: Decoder, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return next_token(model, batch)

    loss = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def steps() -> None:
        for step in range(STEPS):
            loss(model, batches.batch(step)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return steps


def theirs(config: ModelConfig, precision: str) -> Callable[[], None] | None:
    if installed("transformers") is None:
        return None
    from transformers import LlamaConfig, LlamaForCausalLM

    from headwater.model.families import llama

    values = {name: value for name, value in llama.config_to(config).items() if name not in ("architectures",)}
    model = LlamaForCausalLM(LlamaConfig(**values)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    batches = StreamBatches(documents(), rows=ROWS, length=LENGTH, seed=0)

    def steps() -> None:
        for step in range(STEPS):
            tokens = batches.batch(step).tokens
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = model(tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return steps


def compare(size: str, precision: str, repeats: int) -> list[Case]:
    config = ModelConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, tie_word_embeddings=True, **SIZES[size])
    functions = {"ours": ours(config, precision, compiled=hardware.has_compiler()),
                 "ours, not compiled": ours(config, precision, compiled=False)}
    peer = theirs(config, precision)
    if peer is not None:
        functions["transformers"] = peer
    seconds = measure_interleaved(functions, repeats)
    speed = {name: STEPS * ROWS * LENGTH / value for name, value in seconds.items()}
    case = f"{size}, {precision}, {ROWS} x {LENGTH}"
    rows = [Case.compare(case, "tokens/s", speed["ours"], name, speed[name]) for name in functions if name != "ours"]
    if peer is None:
        rows.append(Case(case, "tokens/s", speed["ours"], "transformers: not installed"))
    share = speed["ours"] * plan.flops_per_token(config, LENGTH) / hardware.matmul_peaks()[precision]
    return [*rows, Case(case, "share of matmul peak", share, "ceiling", 1.0, share)]


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": hardware.cores(), "help": "threads (all)"}))
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    rows: list[Case] = []
    for size in SIZES if options.full else ("4M",):
        for precision in ("bfloat16", "float32") if options.full else ("bfloat16",):
            torch._dynamo.reset()
            rows += compare(size, precision, 7 if options.full else 3)
    ceilings = {f"{name} matmul, GFLOP/s": flops / 1e9 for name, flops in hardware.matmul_peaks().items()}
    report("train", rows, ceilings, ("torch", "transformers"))


if __name__ == "__main__":
    main()
