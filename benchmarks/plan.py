"""Predicted against measured memory of whole training runs, each in processes of its own.

    python benchmarks/plan.py [--full]

Measured is the largest resident memory of a process (the first of several) less what it held before training, its
weights apart: once up to the last step, and once with the checkpoint that is written after it. The ratio is predicted
over measured, so 1 is best. Runs are of twelve steps on random tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _harness import Case, arguments, report

SMALL = {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6,
         "num_attention_heads": 4}
MIDDLE = {"vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
          "num_attention_heads": 6}
LARGE = {"vocab_size": 16384, "hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 8,
         "num_attention_heads": 10, "num_key_value_heads": 2}
MANY_WORDS = {**SMALL, "vocab_size": 125_696, "head": "normalized"}
OTHER_AXES = {**MIDDLE, "position": "alibi", "activation": "gelu", "norm": "layernorm", "attention_bias": True,
              "output_bias": True, "mlp_bias": True}
WORDS_AND_ALIBI = {**MIDDLE, "vocab_size": 64_000, "head": "normalized", "position": "alibi"}
ON, OFF = {"compile": "on"}, {"compile": "off"}
F32, BF16 = {"precision": "float32"}, {"precision": "bfloat16"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "5M, float32, 16 x 256": (SMALL, {"rows": 16, "sequence_length": 256, **OFF, **F32}, 1),
    "20M, bfloat16, 8 x 512, compiled": (MIDDLE, {"rows": 8, "sequence_length": 512, **ON, **BF16}, 1),
    "vocabulary 125,696, bfloat16, 2 x 1024, all recomputed": (
        MANY_WORDS, {"rows": 2, "sequence_length": 1024, "recompute": "full", **OFF, **BF16}, 1),
    "55M, GQA, bfloat16, 2 of 1 x 2048, compiled": (
        LARGE, {"rows": 2, "micro_rows": 1, "sequence_length": 2048, **ON, **BF16}, 1),
    "20M, ALiBi, GELU, LayerNorm, float32, 4 x 1024, Muon": (
        OTHER_AXES, {"rows": 4, "sequence_length": 1024, "optimizer": {"name": "muon"}, **OFF, **F32}, 1),
    "20M, bfloat16, 16 x 512, selective": (
        MIDDLE, {"rows": 16, "sequence_length": 512, "recompute": "selective", **OFF, **BF16}, 1),
    "20M, bfloat16, 8 x 512, 2 processes, ZeRO 2": (
        MIDDLE, {"rows": 8, "sequence_length": 512, "parallel": {"zero": 2}, **OFF, **BF16}, 2),
    "55M, float32, 4 x 512, 2 processes, ZeRO 3": (
        LARGE, {"rows": 4, "sequence_length": 512, "parallel": {"zero": 3}, **OFF, **F32}, 2),
    "55M, bfloat16, 4 x 512, 2 processes, ZeRO 1": (
        LARGE, {"rows": 4, "sequence_length": 512, "parallel": {"zero": 1}, **OFF, **BF16}, 2),
    # What the heap loses was fitted to those above; these were run afterwards.
    "5M, bfloat16, 32 x 256": (SMALL, {"rows": 32, "sequence_length": 256, **OFF, **BF16}, 1),
    "20M, bfloat16, 2 x 2048, compiled, Muon": (
        MIDDLE, {"rows": 2, "sequence_length": 2048, "optimizer": {"name": "muon"}, **ON, **BF16}, 1),
    "55M, float32, 4 x 512, all recomputed, compiled": (
        LARGE, {"rows": 4, "sequence_length": 512, "recompute": "full", **ON, **F32}, 1),
    "64,000 words, NormHead, ALiBi, bfloat16, 4 x 512, compiled": (
        WORDS_AND_ALIBI, {"rows": 4, "sequence_length": 512, **ON, **BF16}, 1),
    "55M, bfloat16, 4 of 2 x 512": (
        LARGE, {"rows": 4, "micro_rows": 2, "sequence_length": 512, **OFF, **BF16}, 1),
}
QUICK = 2


def run(model: dict[str, Any], trainer: dict[str, Any], processes: int) -> dict[str, float]:
    """A run in fresh processes; what the first of them found."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", json.dumps([model, trainer, folder])]
        if processes > 1:
            command[1:1] = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found: dict[str, float] = json.loads((Path(folder) / "found.json").read_text())
        return found


def measure(values: dict[str, Any], settings: dict[str, Any], folder: Path) -> None:
    """In a process of its own: train, and write down what was predicted and what was found."""
    import numpy as np

    from headwater import hardware, plan
    from headwater.model import Decoder, ModelConfig, initialise
    from headwater.tokenizer.shards import Loaded
    from headwater.train import Trainer, TrainerSettings
    from headwater.train.gathering import on_leader
    from headwater.train.memory import begin, planned
    from headwater.train.objective import NextToken
    from headwater.train.processes import is_leader, leave
    from headwater.train.streams import StreamBatches

    parsed = TrainerSettings.parse({"steps": 12, "threads": 1, "log_every": 1, "checkpoint_seconds": 10_000,
                                    **settings})
    config = ModelConfig(**values, max_position_embeddings=parsed.sequence_length)
    documents = 6 * parsed.rows * parsed.sequence_length // 300 + 1
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, documents * 300).astype("<u4")
    shard = Loaded(tokens, np.arange(documents + 1) * 300, ["en"] * documents, np.full(documents, 300))
    batches = StreamBatches(shard, rows=parsed.rows, length=parsed.sequence_length, seed=0)
    model = on_leader(lambda: initialise(Decoder(config), 0), config)
    before = begin(model)
    peaks: list[int] = []

    def look(_: Decoder) -> dict[str, float]:
        peaks.append(hardware.peak_memory_bytes() - before)
        return {}

    trainer = Trainer(model, NextToken(), batches, parsed, validate=look)
    figures = trainer.fit(folder / "run")
    step = planned(parsed, trainer.parallel.ranks, half=trainer.machine.half,
                   compiled=trainer.machine.compile)
    if is_leader():
        memory = plan.training_memory(config, step)
        found = {"parameters": figures["parameters"], "predicted": memory.total, "measured": peaks[-1],
                 "predicted_saving": plan.peak_memory(config, step).total,
                 "measured_saving": hardware.peak_memory_bytes() - before}
        (folder / "found.json").write_text(json.dumps(found))
    leave()


def compare(name: str) -> list[Case]:
    found = run(*CASES[name])
    rows = []
    for metric, suffix in (("peak of a step, MiB", ""), ("with a checkpoint, MiB", "_saving")):
        predicted, measured = (found[key + suffix] / 2**20 for key in ("predicted", "measured"))
        rows.append(Case(name, metric, predicted, "measured", measured, predicted / measured))
        print(f"{name}, {metric}: {predicted:,.0f} predicted, {measured:,.0f} measured", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        model, trainer, folder = json.loads(sys.argv[2])
        measure(model, trainer, Path(folder))
        return
    options = arguments(__doc__, ("--only", {"help": "cases whose name holds this"}))
    names = list(CASES) if options.full or options.only else list(CASES)[:QUICK]
    rows = [row for name in names if (options.only or "") in name for row in compare(name)]
    report("plan", rows, {}, ("torch",))


if __name__ == "__main__":
    main()
