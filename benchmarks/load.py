"""Loading a checkpoint of several shards: seconds and peak memory, against transformers on the same files.

    python benchmarks/load.py [--full] [--dtype bfloat16]

The checkpoint is generated here: a LLaMA of 0.3 GB (--quick) or 2 GB (--full) in float16 shards. Every load runs in a
process of its own, ours and the peer's in turn, followed by one step over three tokens, which touches every weight.
Memory is the process's peak of resident pages up to there, the interpreter and PyTorch included; what was resident
before the load stands beside it. The ceiling is reading the files alone.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _harness import Case, arguments, installed, report

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.model.tensors import read_tensors, write_tensors

SIZES = {"0.3 GB": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 10, "num_attention_heads": 16},
         "2 GB": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 18, "num_attention_heads": 32}}
PROGRAM = """
import json, re, sys, time
import torch
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
folder, who, dtype = sys.argv[1], sys.argv[2], getattr(torch, sys.argv[3])
if who == "transformers":
    import transformers
    from transformers.models.llama import modeling_llama
    before, start = peak(), time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
else:
    import headwater.model.checkpoint as checkpoint
    before, start = peak(), time.perf_counter()
    model = checkpoint.load_model(folder, dtype=dtype, mmap=who == "ours")
seconds = time.perf_counter() - start
with torch.inference_mode():
    model(torch.tensor([[1, 2, 3]]))
first = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "first": first, "before": before, "peak": peak(),
                  "bytes": sum(p.numel() * p.element_size() for p in model.parameters())}))
"""


def measure(folder: Path, who: str, dtype: str) -> dict[str, float]:
    """One load in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder), who, dtype], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def read_seconds(folder: Path) -> float:
    start = time.perf_counter()
    buffer = bytearray(16 << 20)
    for path in folder.glob("*.safetensors"):
        with open(path, "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__, ("--dtype", {"default": "float16", "help": "of the loaded weights"}))
    size, repeats = ("2 GB", 5) if options.full else ("0.3 GB", 2)
    config = ModelConfig(vocab_size=32000, **SIZES[size])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = 500_000_000 if options.full else 100_000_000
        save_model(initialise(Decoder(config), 0).half(), folder / "ours", shard_bytes=shard)
        sort_tensors(folder / "ours", folder / "sorted")
        rows, read = compare(folder / "ours", f"{size}, {options.dtype}", options.dtype, repeats)
        more, _ = compare(folder / "sorted", f"{size}, {options.dtype}, sorted by name", options.dtype, repeats)
    report("load", rows + more, {"reading the files, s": read}, ("torch", "transformers"))


def sort_tensors(source: Path, target: Path) -> None:
    """The same folder with the tensors of each file sorted by name, as the safetensors library writes them: query, key
    and value then lie apart, and are used in place only by putting their pages side by side."""
    shutil.copytree(source, target)
    for path in target.glob("*.safetensors"):
        write_tensors(path, dict(sorted(read_tensors(path).items())), {"format": "pt"})


def compare(folder: Path, size: str, dtype: str, repeats: int) -> tuple[list[Case], float]:
    """The rows of one checkpoint, and the seconds that reading its files takes."""
    peers = ["transformers"] if installed("transformers") else []
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in ("ours", "ours, not mapped", *peers)}
    reads = []
    for _ in range(repeats + 1):  # the first round warms the page cache
        for who, results in runs.items():
            results.append(measure(folder, who, dtype))
        reads.append(read_seconds(folder))
    median = {who: {key: statistics.median(run[key] for run in results[1:]) for key in results[0]}
              for who, results in runs.items()}
    rows = []
    for who in ("ours", "ours, not mapped"):
        case, mine = size + who.removeprefix("ours"), median[who]
        for metric, key, unit in (("load s", "seconds", 1), ("load and first step s", "first", 1),
                                  ("peak MB", "peak", 1e6)):
            rows += [Case.compare(case, metric, mine[key] / unit, peer, median[peer][key] / unit, more_is_better=False)
                     for peer in peers] or [Case(case, metric, mine[key] / unit, "transformers: not installed")]
        rows.append(Case(case, "peak above model x 1.1, MB", (mine["peak"] - 1.1 * mine["bytes"]) / 1e6,
                         f"{mine['before'] / 1e6:.0f} MB were resident before the load"))
    return rows, statistics.median(reads[1:])


if __name__ == "__main__":
    main()
