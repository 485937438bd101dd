"""Decoding at batch 1 and prefill of INT4, INT8 and bfloat16 weights against llama.cpp and transformers.

    python benchmarks/decode.py [--full] [--threads N] [--device cpu|cuda|all] [--sweep]

Random weights, the same ones for everyone: llama.cpp has them as Q4_0, Q8_0 and F16 from a GGUF export, transformers in
bfloat16. Decoding is greedy, 128 tokens behind 64 (32 with the small shape), the prompt not counted; prefill is 384
tokens at once. INT4 is of groups of 32 with an INT8 head, where Q4_0 has Q6_K. The ceiling is how often a second the
weights can be read by as many threads. Everyone takes turns; medians.

On a GPU, where there is one: our captured steps at batch 1 and 8 against transformers in bfloat16, as it is and with a
compiled step over a static cache, and against torchao's INT8 and INT4; --full adds a shape of 7 billion parameters.
--sweep times our kernels in many tiles instead, by which `gpu.products.tile_of` is to be set.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _decode_gpu
import torch
from _harness import Case, arguments, installed, report

from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.model.few_rows import few_rows
from headwater.model.gguf.writing import write_gguf
from headwater.model.int4 import Int4Linear
from headwater.model.linear import Int8Linear
from headwater.model.packed import pack_linears
from headwater.model.stepper import stepper_of, weights_of
from headwater.progress import track
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

SIZES: dict[str, dict[str, Any]] = {
    "38M": {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 10,
            "num_attention_heads": 8, "num_key_value_heads": 2},
    "0.8B": {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 16,
             "num_attention_heads": 32, "num_key_value_heads": 4}}
PEERS = {"int4": "Q4_0", "int8": "Q8_0", "bfloat16": "F16"}
PROMPT, PREFILL = 64, 384
Timed = Callable[[], float]


def made(size: str, form: str) -> Decoder:
    """The same weights in a form; the head of INT4 is INT8."""
    model = initialise(Decoder(ModelConfig(max_position_embeddings=1024, **SIZES[size])), 0)
    if form == "int4":
        model.head, head = torch.nn.Identity(), model.head
        for block in model.blocks:
            for part, name in ((block.attention, "qkv"), (block.attention, "out"), (block.feedforward, "up"),
                               (block.feedforward, "down")):
                setattr(part, name, Int4Linear.pack(getattr(part, name), 32))
        model.head = Int8Linear.pack(head)
    elif form == "int8":
        pack_linears(model, head=True, form="int8")
    return model.to(torch.bfloat16).eval()


def weight_bytes(model: Decoder) -> int:
    """What a step reads."""
    return sum(one.nbytes for name, one in model.state_dict().items() if name != "embedding.weight")


def engine_of(model: Decoder, folder: Path, batch: int = 1) -> Engine:
    """An engine that never meets an end mark."""
    if not (folder / "tokenizer.model").exists():
        words = count_words([("A river runs to the sea. 河流入海。" * 9, "")]).weighted()
        train_bpe(words, folder / "tokenizer.model", BpeSettings(vocab_size=320, max_piece_length=8))
    engine = Engine(model, Tokenizer.load(folder), max_batch=batch)
    engine.vocabulary, engine.stop_ids = model.config.vocab_size, frozenset()
    return engine


def ours(engine: Engine, count: int) -> tuple[Timed, Timed]:
    """Seconds of decoding so many tokens, and of a prefill."""
    def decode() -> float:
        sequence = engine.submit(list(range(10, 10 + PROMPT)), SamplingParams(temperature=0, max_tokens=count + 2))
        engine.step()  # the prompt, its token and one more
        start = time.perf_counter()
        while sequence.finish_reason is None:
            engine.step()
        return time.perf_counter() - start

    def prefill() -> float:
        engine.submit(list(range(10, 10 + PREFILL)), SamplingParams(temperature=0, max_tokens=1))
        start = time.perf_counter()
        while engine.busy:
            engine.step()
        return time.perf_counter() - start

    return decode, prefill


def llama_cpp(path: Path, count: int, threads: int) -> tuple[Timed, Timed]:
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def decode() -> float:
        model.reset()
        model.eval(list(range(10, 10 + PROMPT)))
        start = time.perf_counter()
        for _ in range(count):
            model.eval([int(model.scores[model.n_tokens - 1].argmax())])
        return time.perf_counter() - start

    def prefill() -> float:
        model.reset()
        start = time.perf_counter()
        model.eval(list(range(10, 10 + PREFILL)))
        return time.perf_counter() - start

    return decode, prefill


def transformers(folder: Path, count: int) -> tuple[Timed, Timed]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

    def seconds(length: int, new: int) -> float:
        ids, start = torch.arange(10, 10 + length)[None], time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new,
                       min_new_tokens=new, pad_token_id=0)
        return time.perf_counter() - start

    return lambda: seconds(PROMPT, count + 1) - seconds(PROMPT, 1), lambda: seconds(PREFILL, 1)


def in_turns(functions: dict[str, Timed], repeats: int) -> dict[str, float]:
    """Median of the seconds that each gives; one round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for turn in track(range(repeats + 1), "rounds"):
        for name, function in functions.items():
            gc.collect()
            seconds = function()
            if turn:
                found[name].append(seconds)
    return {name: statistics.median(values) for name, values in found.items()}


@torch.inference_mode()
def profile(model: Decoder, engine_seconds: float, repeats: int) -> dict[str, float]:
    """Milliseconds of one step: its products alone, all of it behind so many tokens, and with the engine around it."""
    def timed(work: Callable[[], object]) -> float:
        work()
        found = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
        return 1e3 * statistics.median(found)

    layers = [module for block in model.blocks for module in (block.attention.qkv, block.attention.out,
                                                              block.feedforward.up, block.feedforward.down)]
    pairs = []
    for module in (*layers, model.head):
        weights = weights_of(module, model.dtype)
        assert weights is not None
        pairs.append((torch.ones(1, module.in_features, dtype=model.dtype), weights))
    step = stepper_of(model, model.cache(1, 1024).rows(0, 1))
    assert step is not None, "no compiler"
    return {"products": timed(lambda: [few_rows(*pair) for pair in pairs]),
            "step at 64": timed(lambda: step([5], [64])), "step at 1000": timed(lambda: step([5], [1000])),
            "engine's step": 1e3 * engine_seconds}


def bandwidth() -> float:
    """Bytes a second that a sum over 256 MiB reads, with as many threads."""
    data, found = torch.ones(1 << 26), []
    for _ in range(15):
        start = time.perf_counter()
        data.sum()
        found.append(time.perf_counter() - start)
    return data.nbytes / statistics.median(found)


def compare(size: str, count: int, repeats: int, threads: int) -> tuple[list[Case], dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decode: dict[str, Timed] = {}
        prefill: dict[str, Timed] = {}
        models = {form: made(size, form) for form in PEERS}
        for form, model in models.items():
            decode[form], prefill[form] = ours(engine_of(model, folder), count)
        if installed("llama_cpp_python"):
            for kind in PEERS.values():
                write_gguf(models["bfloat16"], folder / f"{kind}.gguf", kind)
                decode[kind], prefill[kind] = llama_cpp(folder / f"{kind}.gguf", count, threads)
        if installed("transformers"):
            save_model(models["bfloat16"], folder / "export")
            decode["transformers"], prefill["transformers"] = transformers(folder / "export", count)
        seconds, read = in_turns({**decode, "read": lambda: 1 / bandwidth()}, repeats), in_turns(prefill, repeats)
    rows: list[Case] = []
    for form, kind in PEERS.items():
        rows += against(f"{size} decode, {form}", count / seconds[form], seconds, count, (kind, "transformers"))
        rows += against(f"{size} prefill, {form}", PREFILL / read[form], read, PREFILL,
                        (*PEERS.values(), "transformers"))
    ceilings = {"memory read, GB/s": 1e-9 / seconds["read"]}
    for form, model in models.items():
        ceilings[f"{size} {form}, tokens/s"] = 1 / (seconds["read"] * weight_bytes(model))
        ceilings[f"{size} {form}, GB/s read while decoding"] = 1e-9 * weight_bytes(model) * count / seconds[form]
        for part, spent in profile(model, seconds[form] / count, 20).items():
            ceilings[f"{size} {form}, {part}, ms"] = spent
    return rows, ceilings


def against(case: str, speed: float, seconds: dict[str, float], tokens: int, peers: tuple[str, ...]) -> list[Case]:
    return [Case.compare(case, "tokens/s", speed, peer, tokens / seconds[peer]) if peer in seconds else
            Case(case, "tokens/s", speed, f"{peer}: not installed") for peer in peers]


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": 2, "help": "threads of everyone (2)"}),
                        ("--device", {"choices": ("cpu", "cuda", "all"), "default": "all", "help": "where (all)"}),
                        ("--sweep", {"action": "store_true", "help": "on a GPU, tiles of the kernels instead"}))
    torch.set_num_threads(options.threads)
    rows: list[Case] = []
    ceilings: dict[str, float] = {}
    if options.device != "cuda":
        rows, ceilings = compare("0.8B" if options.full else "38M", 128 if options.full else 32, 3, options.threads)
    if options.device != "cpu":
        more, limits = _decode_gpu.measure(options.full, options.sweep, engine_of)
        rows, ceilings = rows + more, {**ceilings, **limits}
    report("decode", rows, ceilings, ("torch", "triton", "transformers", "llama_cpp_python", "torchao"))


if __name__ == "__main__":
    main()
