"""A model of ChatGLM2-6B's shape tuned in four bits on this machine: peak memory and seconds a step.

    python benchmarks/finetune_6b.py [--full] [--folder DIR] [--threads N] [--base nf4]

The checkpoint is generated: random float16 weights under the official names, a shard a layer. --quick takes the same
axes at a fiftieth of the size, --full all of it: 12.5 GB of disk and some ten minutes. It is loaded packed (the float
model never exists) and trained for a few steps of one row of 512 random tokens, all blocks computed again in the
backward pass. Held against the 7 GB that ChatGLM-6B's documentation gives for P-Tuning v2 with prefixes of 128 on an
INT4 base. The peak is the process's resident memory from its start, Python and PyTorch included; beside it what of it
was anonymous, that is, not pages of the weights' own files, which the system may take back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, report
from torch import Tensor, nn

from headwater import hardware, plan
from headwater.artifacts import write_json
from headwater.model import Decoder, ModelConfig
from headwater.model.checkpoint import load_model
from headwater.model.families import family_for
from headwater.model.folder import INDEX
from headwater.model.prefix import Prefix, PrefixSettings
from headwater.model.tensors import write_tensors
from headwater.presets import preset
from headwater.progress import track

LENGTH, PREFIX, STEPS = 512, 128, 4
SMALL = {"hidden_size": 1024, "intermediate_size": 3392, "num_attention_heads": 8, "num_hidden_layers": 6,
         "vocab_size": 16384}
PUBLISHED = 7e9


def generate(config: ModelConfig, folder: Path) -> None:
    """The folder of a model with random weights, never more than a shard of it in memory."""
    with torch.device("meta"):
        model = Decoder(config)
    shapes, family = model.state_dict(), family_for(config)
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for entry in family.entries(config):
        if entry.ours in shapes:
            layer = ".".join(entry.ours.split(".")[:2]) if entry.ours.startswith("blocks.") else "outside"
            for name, part in zip(entry.theirs, entry.parts(shapes[entry.ours]), strict=True):
                shards.setdefault(layer, {})[name] = tuple(part.shape)
    write_json(folder / "config.json", {**family.config_to(config), "torch_dtype": "float16"})
    where, files = {}, {layer: f"model-{number:05}-of-{len(shards):05}.safetensors"
                        for number, layer in enumerate(shards, 1)}
    for layer, tensors in track(shards.items(), "generating", len(shards)):
        write_tensors(folder / files[layer], {name: drawn(shape) for name, shape in tensors.items()}, {"format": "pt"})
        where.update(dict.fromkeys(tensors, files[layer]))
    write_json(folder / INDEX, {"metadata": {}, "weight_map": where})


def drawn(shape: tuple[int, ...]) -> Tensor:
    """Matrices as weights are distributed, gains of one, biases near zero."""
    return torch.empty(shape).normal_(1.0 if len(shape) == 1 else 0.0, 0.02).half()


def tunable(model: Decoder) -> list[nn.Parameter]:
    """Freeze the model and give it what learns."""
    model.requires_grad_(False)
    model.prefix = Prefix(model.config, PrefixSettings(length=PREFIX))
    return list(model.prefix.parameters())


def train(folder: Path, base: str, threads: int) -> dict[str, Any]:
    """In a process of its own."""
    import numpy as np

    from headwater.tokenizer.shards import Loaded
    from headwater.train.objective import next_token
    from headwater.train.recompute import recompute
    from headwater.train.streams import StreamBatches

    torch.set_num_threads(threads)
    start = time.perf_counter()
    model = load_model(folder, base=base)  # type: ignore[arg-type]
    loaded, peak_of_loading = time.perf_counter() - start, hardware.peak_memory_bytes()
    learnt = tunable(model)
    recompute(model.train(), "full")
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, 4 * LENGTH).astype("<u4")
    shard = Loaded(tokens, np.array([0, 4 * LENGTH]), ["en"], np.array([4 * LENGTH]))
    batches = StreamBatches(shard, rows=1, length=LENGTH, seed=0)
    optimizer = torch.optim.AdamW(learnt, lr=0.02)
    losses, seconds, busy = [], [], []
    for _ in range(STEPS):
        start, worked = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            outcome = next_token(model, batches.batch(0), LENGTH)
        outcome.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(outcome.loss.item())
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - worked)
    return {"loaded": loaded, "peak_of_loading": peak_of_loading, "peak": hardware.peak_memory_bytes(),
            "losses": losses, "seconds": seconds, "busy": busy, "learnt": sum(one.numel() for one in learnt)}


def watched(folder: Path, base: str, threads: int) -> dict[str, Any]:
    """`train` in a process of its own, and the most of its anonymous memory."""
    command = [sys.executable, __file__, "--child", str(folder), base, str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        most = 0
        while child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
            most = max([most, *(1024 * int(line.split()[1]) for line in status.splitlines()
                                if line.startswith("RssAnon"))])
            time.sleep(0.05)
        assert child.stdout is not None
        printed = child.stdout.read()
    if child.returncode:
        sys.exit("the training failed")
    return {**json.loads(printed.splitlines()[-1]), "anonymous": most}


def rows_of(name: str, config: ModelConfig, found: dict[str, Any], base: str) -> list[Case]:
    step = plan.Step(1, LENGTH, recompute="full")
    predicted = plan.finetuning_memory(config, step, base, plan.Trained(prefix=PREFIX)).total  # type: ignore[arg-type]
    losses = ", ".join(f"{loss:.4f}" for loss in found["losses"])
    return [Case.compare(name, "peak GB", found["peak"] / 1e9, "published, INT4 and P-Tuning v2", PUBLISHED / 1e9,
                         more_is_better=False),
            Case(name, "of it anonymous, GB", found["anonymous"] / 1e9, "predicted, without Python and PyTorch",
                 predicted / 1e9),
            Case(name, "peak while loading, GB", found["peak_of_loading"] / 1e9, f"loaded in {found['loaded']:.0f} s"),
            Case(name, "seconds a step", min(found["seconds"]), f"{min(found['busy']):.1f} s of the processor"),
            Case(name, "weights that learn", found["learnt"], f"loss {losses}")]


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(train(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))))
        return
    options = arguments(__doc__, ("--folder", {"type": Path, "help": "of the checkpoint; used again if it is there"}),
                        ("--threads", {"type": int, "default": 1, "help": "threads (1)"}),
                        ("--base", {"default": "nf4", "choices": ["nf4", "int8"], "help": "form of the base (nf4)"}))
    config = preset("ChatGLM2-6B", **({} if options.full else SMALL))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / INDEX).exists():
            folder.mkdir(parents=True, exist_ok=True)
            generate(config, folder)
        found = watched(folder, options.base, options.threads)
    name = f"{plan.parameters(config) / 1e9:.1f} B, {options.base}, 1 x {LENGTH}"
    report("finetune_6b", rows_of(name, config, found, options.base), {}, ("torch",))


if __name__ == "__main__":
    main()
