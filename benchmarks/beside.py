"""What benchmarks beside a training cost it: the same pretraining with them and alone.

    python benchmarks/beside.py [--full]

Both are commands of their own, on dialogues of the Atlas, in turn; every snapshot answers questions of it in both
languages and is read for bits per byte. Steps are compared by their mean time, since what another process takes falls
on some of them; a training stands still while a snapshot is written, which is counted by itself. `--quick` takes a
small model and two threads, `--full` the quickstart's model.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from _harness import Case, arguments, report

from headwater.artifacts import hash_file
from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as atlas
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

ROOT = Path(__file__).parents[1]
SMALL = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 2}
QUICKSTART = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4,
              "num_key_value_heads": 2, "tie_word_embeddings": True}
SNAPSHOTS = 5
LIMIT = 100
"""Questions of each language that a snapshot answers."""


def main() -> None:
    options = arguments(__doc__)
    steps, rounds, length = (400, 3, 256) if options.full else (150, 2, 64)
    with tempfile.TemporaryDirectory() as temporary:
        world = make_world(Path(temporary), "small" if options.full else "tiny")
        command = training(world, QUICKSTART if options.full else SMALL, steps, length)
        found: dict[str, list[dict[str, Any]]] = {"beside": [], "alone": []}
        for number in range(rounds):
            for name in found:
                others = asked(world) if name == "beside" else []
                found[name].append(measure(world / f"{name}-{number}", command, others))
    report("beside", cases(found), {}, ("torch",))


def make_world(folder: Path, size: Any) -> Path:
    """The Atlas, its dialogues as a corpus, and a tokenizer."""
    (folder / "atlas").mkdir()
    atlas(AtlasSettings(size=size), folder / "atlas")
    lines = (folder / "atlas" / "dialogues" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [" ".join(turn["content"] for turn in json.loads(line)["messages"]) for line in lines]
    for split, own in (("train", texts[100:]), ("validation", texts[:100])):
        (folder / "corpus" / split).mkdir(parents=True)
        languages = ["zh" if any(one > "一" for one in text) else "en" for text in own]
        pq.write_table(pa.table({"text": own, "language": languages}), folder / "corpus" / split / "0.parquet")
    (folder / "tokenizer").mkdir()
    train_bpe(count_words((text, "") for text in texts).weighted(), folder / "tokenizer" / "tokenizer.model",
              BpeSettings(vocab_size=2048))
    return folder


def training(world: Path, model: dict[str, Any], steps: int, length: int) -> list[str]:
    trainer = {"rows": 16, "sequence_length": length, "steps": steps, "threads": 2, "log_every": 1,
               "precision": "float32", "compile": "off", "checkpoint_seconds": 1000}
    return [f"corpus={world / 'corpus'}", f"tokenizer={world / 'tokenizer'}", f"model={json.dumps(model)}",
            *(f"trainer.{name}={value}" for name, value in trainer.items()),
            f"trainer.snapshot_tokens={steps // SNAPSHOTS * 16 * length}"]


def asked(world: Path) -> list[str]:
    choice = world / "atlas" / "benchmarks" / "choice"
    return [f"benchmarks.evaluate.corpus={world / 'corpus'}", f"benchmarks.evaluate.limit={LIMIT}",
            *(f"benchmarks.evaluate.choice.atlas_choice.{code}={choice / code}" for code in ("en", "zh"))]


def measure(out: Path, command: list[str], others: list[str]) -> dict[str, Any]:
    """A run's figures: seconds of steps and snapshots, of the stage, and what it wrote."""
    done = subprocess.run([sys.executable, "-m", "headwater", "pretrain", "--out", str(out), *command, *others],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the run failed:\n{done.stderr[-3000:]}")
    steps = [row["step_seconds"] for row in rows(out / "metrics.jsonl")]
    kept = [row["seconds"] for row in rows(out / "snapshots.jsonl")]
    manifest = json.loads((out / "manifest.json").read_text())
    evaluated = rows(out / "benchmarks.jsonl") if others else []
    return {"step": statistics.fmean(steps), "snapshot": statistics.median(kept), "share": sum(kept) / sum(steps),
            "stage": manifest["seconds"], "model": hash_file(out / "model.safetensors"),
            "evaluation": statistics.median([row["seconds"] for row in evaluated] or [0.0])}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def cases(found: dict[str, list[dict[str, Any]]]) -> list[Case]:
    def middle(name: str, what: str) -> float:
        return statistics.median(float(one[what]) for one in found[name])

    same = len({one["model"] for ones in found.values() for one in ones}) == 1
    with_them = f"{SNAPSHOTS} snapshots evaluated beside"
    return [Case.compare(with_them, "step, ms", 1e3 * middle("beside", "step"), "alone", 1e3 * middle("alone", "step"),
                         more_is_better=False),
            Case.compare(with_them, "whole stage, s", middle("beside", "stage"), "alone", middle("alone", "stage"),
                         more_is_better=False),
            Case.compare(with_them, "models with the same bytes", float(same), "alone", 1.0),
            Case(with_them, "an evaluation, s", middle("beside", "evaluation"), "-"),
            Case("a snapshot", "training stands still, ms", 1e3 * middle("alone", "snapshot"), "-"),
            Case("a snapshot", "all, % of the steps' time", 100 * middle("alone", "share"), "-")]


if __name__ == "__main__":
    main()
