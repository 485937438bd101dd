"""A model of ChatGLM2-6B's shape in INT4 with a context of 8,192 tokens: peak memory.

    python benchmarks/quantize_6b.py [--full] [--folder DIR] [--threads N] [--cache int8]

The folder is generated layer by layer: random weights are drawn, packed to INT4 in groups of 128 and written as a
shard, so that no more than one layer is ever floats; --quick takes the same axes at a fiftieth of the size, --full all
of it (4.2 GB of disk, and minutes). The model is opened, reads a prompt in pieces as the engine does, and answers until
its cache of 8,192 tokens is full. Held against 6 GB. The peak is the process's resident memory from its start, Python
and PyTorch included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, report
from finetune_6b import SMALL
from torch import Tensor, nn

from headwater import hardware, plan
from headwater.artifacts import write_json
from headwater.generate.engine import PREFILL_TOKENS
from headwater.model import Decoder, ModelConfig
from headwater.model.checkpoint import load_model
from headwater.model.families import family_for
from headwater.model.folder import INDEX
from headwater.model.packed import Form
from headwater.model.quantized import stored_form, written
from headwater.model.stepper import stepper_of
from headwater.model.tensors import write_tensors
from headwater.presets import preset
from headwater.progress import track

LENGTH, STEPS = 8192, 16
ALLOWED = 6e9


def generate(config: ModelConfig, folder: Path) -> None:
    """An INT4 folder with random weights, one layer of them floats at a time."""
    with torch.device("meta"):
        model = Decoder(config)
    family, where = family_for(config), {}
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    linears = {f"{name}.weight" for name, one in model.named_modules() if isinstance(one, nn.Linear) and name != "head"}
    layers: dict[str, list[tuple[str, str]]] = {}
    for entry in family.entries(config):
        if entry.ours in shapes:
            layer = ".".join(entry.ours.split(".")[:2]) if entry.ours.startswith("blocks.") else "outside"
            layers.setdefault(layer, []).append((entry.ours, entry.theirs[0]))
    forms = {theirs.removesuffix(".weight"): Form.fitting("int4", shapes[ours][1])
             for ones in layers.values() for ours, theirs in ones if ours in linears}
    write_json(folder / "config.json", {
        **family.config_to(config), "torch_dtype": "bfloat16",
        "quantization_config": written(forms).config(forms, ["transformer.output_layer"])})
    for number, ones in enumerate(track(layers.values(), "generating", len(layers)), 1):
        file = f"model-{number:05}-of-{len(layers):05}.safetensors"
        tensors = dict(stored_form(_drawn(ones, shapes, forms), forms))
        write_tensors(folder / file, tensors, {"format": "pt"})
        where.update(dict.fromkeys(tensors, file))
    write_json(folder / INDEX, {"metadata": {}, "weight_map": where})


def _drawn(ones: list[tuple[str, str]], shapes: dict[str, tuple[int, ...]], forms: dict[str, Form]
           ) -> Iterator[tuple[str, Tensor]]:
    for ours, theirs in ones:
        shape, module = shapes[ours], theirs.removesuffix(".weight")
        weight = torch.empty(shape).normal_(1.0 if len(shape) == 1 and ours.endswith("weight") else 0.0, 0.02)
        if module not in forms or not theirs.endswith(".weight"):
            yield theirs, weight.bfloat16()
            continue
        linear = nn.Linear(shape[1], shape[0], bias=False, device="meta")
        linear.weight = nn.Parameter(weight)
        layer = forms[module].pack(linear)
        yield from ((f"{module}.{kind}", tensor) for kind, tensor in layer.state_dict().items())


@torch.inference_mode()
def answer(folder: Path, form: str, threads: int) -> dict[str, Any]:
    """In a process of its own."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    model = load_model(folder)
    loaded = time.perf_counter() - start
    cache = model.cache(1, LENGTH, form="int8" if form == "int8" else None)
    ids = torch.randint(0, model.config.vocab_size, (1, LENGTH - STEPS))
    start = time.perf_counter()
    for piece in track(ids.split(PREFILL_TOKENS, dim=1), "reading"):
        logits = model.head(model.hidden(piece, cache=cache)[:, -1])
    read, seconds = time.perf_counter() - start, []
    step = stepper_of(model, cache.rows(0, 1))
    assert step is not None, "no compiler"
    for place in range(LENGTH - STEPS, LENGTH):
        start = time.perf_counter()
        logits = step([int(logits.argmax())], [place])
        seconds.append(time.perf_counter() - start)
    return {"loaded": loaded, "read": read, "step": min(seconds), "peak": hardware.peak_memory_bytes(),
            "cache": cache.bytes}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(answer(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))))
        return
    options = arguments(__doc__, ("--folder", {"type": Path, "help": "of the checkpoint; used again if it is there"}),
                        ("--threads", {"type": int, "default": 2, "help": "threads (2)"}),
                        ("--cache", {"default": "model", "choices": ["model", "int8"], "help": "form (the model's)"}))
    config = preset("ChatGLM2-6B", **({} if options.full else SMALL))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / INDEX).exists():
            folder.mkdir(parents=True, exist_ok=True)
            generate(config, folder)
        command = [sys.executable, __file__, "--child", str(folder), options.cache, str(options.threads)]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        on_disk = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    found = json.loads(printed.splitlines()[-1])
    width = 1 if options.cache == "int8" else 2
    predicted = plan.served_bytes(config, "int4") + LENGTH * plan.cache_bytes_per_token(config, width)
    name = f"{plan.parameters(config) / 1e9:.1f} B, INT4, {LENGTH:,} tokens, cache {options.cache}"
    report("quantize_6b", [
        Case.compare(name, "peak GB", found["peak"] / 1e9, "allowed", ALLOWED / 1e9, more_is_better=False),
        Case(name, "weights and cache by the plan, GB", predicted / 1e9, f"cache {found['cache'] / 1e9:.3f}"),
        Case(name, "on disk, GB", on_disk / 1e9, f"opened in {found['loaded']:.1f} s"),
        Case(name, "seconds a token", found["step"], f"the prompt in {found['read']:.1f} s"),
    ], {}, ("torch",))


if __name__ == "__main__":
    main()
