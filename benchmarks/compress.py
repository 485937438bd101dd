"""Packed weights against float ones: size and decoding speed of INT8 at batch 1, a step through frozen INT8 and NF4.

    python benchmarks/compress.py [--full] [--threads N]

The peers are the same model in bfloat16 and float32; of a step, forward and backward of 512 tokens through a layer of
ChatGLM2-6B's, bfloat16 weights. The ceiling is how often a second the weights can be read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from _harness import Case, arguments, measure_interleaved, report
from torch import nn
from torch.nn import functional as F

from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.native import four_bits
from headwater.model.packed import BASES, Form, pack_linears

SIZES = {"57M": {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 10, "num_attention_heads": 10},
         "340M": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 20, "num_attention_heads": 16}}
TOKENS = 16
LAYERS = {"4096 to 27392": (4096, 27392), "13696 to 4096": (13696, 4096), "4096 to 4608": (4096, 4608)}
LENGTH = 512


def decode(model: Decoder) -> None:
    """A few single-token steps behind a prompt."""
    cache = KVCache(model.config, 1, 64, dtype=model.dtype)
    with torch.inference_mode():
        model(torch.arange(32)[None], cache=cache)
        for place in range(32, 32 + TOKENS):
            model(torch.tensor([[place]]), cache=cache)


def variants(size: str) -> dict[str, Decoder]:
    config = ModelConfig(vocab_size=8192, tie_word_embeddings=True, **SIZES[size])
    packed = initialise(Decoder(config), 0)
    pack_linears(packed, head=False)
    return {"int8": packed.to(torch.bfloat16).eval(),
            "bfloat16": initialise(Decoder(config), 0).to(torch.bfloat16).eval(),
            "float32": initialise(Decoder(config), 0).eval()}


def disk_bytes(model: Decoder) -> int:
    with tempfile.TemporaryDirectory() as name:
        save_model(model, Path(name))
        load_model(Path(name))
        return (Path(name) / "model.safetensors").stat().st_size


def compare(size: str, repeats: int, read: float) -> tuple[list[Case], dict[str, float]]:
    models = variants(size)
    seconds = measure_interleaved({name: lambda model=model: decode(model)  # type: ignore[misc]
                                   for name, model in models.items()}, repeats)
    sizes = {name: disk_bytes(model) for name, model in models.items()}
    rows = []
    for peer in ("bfloat16", "float32"):
        rows.append(Case.compare(f"{size} decode, batch 1", "tokens/s", TOKENS / seconds["int8"], peer,
                                 TOKENS / seconds[peer]))
        rows.append(Case.compare(f"{size} on disk", "MB", sizes["int8"] / 1e6, peer, sizes[peer] / 1e6,
                                 more_is_better=False))
    return rows, {f"{size} decode in {name}, tokens/s": read / sizes[name] for name in models}


def layer_step(name: str, repeats: int) -> list[Case]:
    """Milliseconds of forward and backward through one layer in every form."""
    columns, rows = LAYERS[name]
    weight = (0.02 * torch.randn(rows, columns)).bfloat16()
    x, slope = torch.randn(LENGTH, columns).bfloat16().requires_grad_(), torch.randn(LENGTH, rows).bfloat16()
    steps: dict[str, Callable[[], None]] = {"bfloat16": lambda: F.linear(x, weight).backward(slope)}
    linear = nn.Linear(columns, rows, bias=False)
    linear.weight.data = weight
    for form in BASES:
        layer = Form.fitting(form, columns).pack(linear)
        steps[form] = lambda layer=layer: layer(x).backward(slope)  # type: ignore[misc]
    steps["nf4, no compiler"] = lambda: uncompiled(steps["nf4"])
    seconds = measure_interleaved(steps, repeats)  # type: ignore[arg-type]
    return [Case.compare(f"step through {name}, {form}", "ms", 1e3 * seconds[form], "bfloat16",
                         1e3 * seconds["bfloat16"], more_is_better=False) for form in steps if form != "bfloat16"]


def uncompiled(work: Callable[[], None]) -> None:
    """As on a machine without a compiler."""
    found = four_bits.library
    four_bits.library = lambda name: None
    try:
        work()
    finally:
        four_bits.library = found


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": 1, "help": "threads (1)"}))
    torch.set_num_threads(options.threads)
    data = torch.ones(1 << 26)
    read = data.nbytes / measure_interleaved({"read": lambda: data.sum()}, 7)["read"]
    rows, ceilings = [], {"memory read, GB/s": read / 1e9}
    for size in SIZES if options.full else ("57M",):
        found, limits = compare(size, 7 if options.full else 3, read)
        rows += found
        ceilings.update(limits)
    for name in LAYERS if options.full else ("4096 to 4608",):
        rows += layer_step(name, 7)
    report("compress", rows, ceilings, ("torch",))


if __name__ == "__main__":
    main()
