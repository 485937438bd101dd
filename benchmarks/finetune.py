"""Fine-tuning beside peft and transformers: the same weights, adapters and ids, speed and peak memory in one run.

    python benchmarks/finetune.py [--full] [--threads N] [--only CASE ...] [--compiled] [--tokenizer DIR]

A LLaMA-shaped model of random bfloat16 weights is written once and read by both sides, and so are the adapter that
both go on from and the ids; a side lives in a process of its own, and their steps take turns. Ours is the trainer of
every stage; the peer a plain loop: transformers with PyTorch's own attention, peft, autocast, fused AdamW. Both take
products in bfloat16, keep what learns in float32 and clip its gradient. The losses of the first step, and of the last
one after as many updates, show that the work is the same. Full rows of 512 random tokens come first; then (with
--tokenizer, the folder of one with a chat format) real instructions, which ours packs into rows and the peer pads to
the longest of some. Tokens are counted without padding. Peak memory is the largest resident one above what the process
held with its libraries imported and nothing loaded. --compiled: both sides by torch.compile.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from _finetune_sides import LENGTH, SEED, SIDES, TUNINGS, Setup
from _harness import Case, arguments, measure_interleaved, report
from _workers import Worker, serve

from headwater import hardware, plan
from headwater.finetune.dataset import read_dataset
from headwater.finetune.stage import FinetuneSettings
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.adapters import LoraSettings, attach, save_adapter
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.train.packing import PackedBatches, Supervised

SHAPES = {"quick": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 8},
          "middle": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 8},
          "large": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 16, "num_attention_heads": 16}}
ROWS = {"quick": 1, "middle": 4, "large": 2}
DIALOGUES = Path(__file__).resolve().parents[2] / "shared/data/sft/alpaca_en/alpaca_en_demo.json"
CLOSE = 2e-3
"""Share by which losses of the same work may differ in bfloat16."""


def config_of(shape: str) -> ModelConfig:
    return ModelConfig(vocab_size=32000, max_position_embeddings=2048, **SHAPES[shape])


def write(folder: Path, shape: str, options: Any) -> None:
    """What both sides read."""
    config = config_of(shape)
    model = initialise(Decoder(config), SEED).bfloat16()
    save_model(model, folder / "model")
    save_adapter(attach(model, LoraSettings(), SEED), folder / "adapter", folder / "model")
    ids = torch.randint(config.vocab_size, (ROWS[shape], LENGTH), generator=torch.Generator().manual_seed(SEED))
    (folder / "full.json").write_text(json.dumps([(row, [True] * LENGTH) for row in ids.tolist()]))
    if options.tokenizer:
        (folder / "dialogues.json").write_text(json.dumps(dialogues(options, ROWS[shape])))


def dialogues(options: Any, rows: int) -> list[Supervised]:
    """The file's first ones, as many as fill a batch of packed rows."""
    settings = FinetuneSettings(model=options.tokenizer, dialogues=[options.dialogues], checks=None, method="lora",
                                trainer={"steps": 1})
    found = [(one[0], one[1]) for one in read_dataset(settings, Tokenizer.load(options.tokenizer), LENGTH, SEED).train]
    count = 1
    while count < len(found) and PackedBatches(found[: count + 1], rows=rows, length=LENGTH, seed=SEED,
                                               pad=0).batches_per_epoch == 1:
        count += 1
    return found[:count]


def compare(name: str, shape: str, folder: Path, options: Any) -> list[Case]:
    setup = Setup(TUNINGS[name], folder, ROWS[shape], options.threads, options.compiled)
    workers = {side: Worker("--worker", side, name, shape, str(folder), "--threads", str(options.threads),
                            *(["--compiled"] if options.compiled else [])) for side in SIDES}
    losses: dict[str, list[float]] = {side: [] for side, worker in workers.items() if worker.installed}
    seconds = measure_interleaved({side: lambda side=side: losses[side].append(workers[side].ask("step"))
                                   for side in losses}, 5 if options.full else 3)
    memory = {side: workers[side].ask("peak") / 1e6 for side in losses}
    for worker in workers.values():
        worker.end()
    tokens = sum(len(ids) for ids, _ in setup.sequences())
    case, speed = f"{shape}: {name}", {side: tokens / value for side, value in seconds.items()}
    if "peft" not in losses:
        return [Case(case, "tokens/s", speed["ours"], "peft, transformers or bitsandbytes is not installed")]
    cases = [Case.compare(case, "tokens/s", speed["ours"], "peft", speed["peft"]),
             Case.compare(case, "peak memory, MB", memory["ours"], "peft", memory["peft"], more_is_better=False)]
    for when, at in (("first", 0), ("last", -1)):
        own, other = losses["ours"][at], losses["peft"][at]
        apart = abs(own / other - 1)
        words = f"peft, {apart:.1e} apart" + ("" if apart < CLOSE else ": NOT THE SAME WORK")
        cases.append(Case(case, f"loss, {when} step", own, words, other))
    return cases


def reached(row: Case, shape: str, peak: float) -> Case:
    """The share of the ceiling: a frozen matrix takes two of the three products of a step that trains it."""
    share = plan.flops_per_token(config_of(shape), LENGTH) * 2 / 3 / peak
    assert row.ours is not None
    theirs = None if row.theirs is None else row.theirs * share
    return Case(row.case, "share of matmul peak", row.ours * share, row.peer, theirs, row.ratio)


def main() -> None:
    options = arguments(
        __doc__, ("--threads", {"type": int, "default": hardware.cores(), "help": "threads (all)"}),
        ("--only", {"nargs": "*", "default": [], "choices": list(TUNINGS), "metavar": "CASE"}),
        ("--shape", {"choices": list(SHAPES)}), ("--compiled", {"action": "store_true"}),
        ("--tokenizer", {"type": Path, "metavar": "DIR"}),
        ("--dialogues", {"type": Path, "default": DIALOGUES, "metavar": "FILE"}),
        ("--worker", {"nargs": 4, "metavar": ("SIDE", "CASE", "SHAPE", "DIR"), "help": "be one side (for itself)"}))
    torch.set_num_threads(options.threads)
    if options.worker:
        side, name, shape, folder = options.worker
        setup = Setup(TUNINGS[name], Path(folder), ROWS[shape], options.threads, options.compiled)
        serve(lambda: SIDES[side](setup))
        return
    peak, rows = hardware.matmul_flops(torch.bfloat16, "cpu", size=2048), list[Case]()
    for shape in [options.shape] if options.shape else ["middle", "large"] if options.full else ["quick"]:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), shape, options)
            for name in options.only or TUNINGS:
                if TUNINGS[name].rows == "dialogues" and not options.tokenizer:
                    rows.append(Case(f"{shape}: {name}", "tokens/s", None, "give a tokenizer's folder by --tokenizer"))
                    continue
                rows += compare(name, shape, Path(folder), options)
                if TUNINGS[name].rows == "full":
                    rows.append(reached(next(one for one in rows[::-1] if one.metric == "tokens/s"), shape, peak))
    report("finetune", rows, {"bfloat16 matmul, GFLOP/s": peak / 1e9},
           ("torch", "transformers", "peft", "bitsandbytes"))


if __name__ == "__main__":
    main()
