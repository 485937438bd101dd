"""Bits per byte after the same seconds of pretraining on the same text, against nanochat's CPU recipe.

    python benchmarks/nanochat.py --checkout DIR --corpus DIR [--seconds 1800] [--work DIR] [--full]

nanochat (github.com/karpathy/nanochat, a checkout of it) trains as runs/runcpu.sh says: model, optimizer, batch and
vocabulary as shipped, only the number of steps set so that the training takes the given time; its tokenizer learns
from the same text. Ours is recipes/cpu.yaml, its steps set likewise. Neither's compilation, tokenizer or evaluation
counts as training. Both read the corpus's validation split in windows of 512 tokens that do not overlap, nanochat's
each after its start token, and every token's loss counts over the text's bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from _harness import Case, arguments, report

from headwater import hardware
from headwater.documents import corpus_files, read_texts

SHIPPED = ["--depth=6", "--head-dim=64", "--window-pattern=L", "--max-seq-len=512", "--device-batch-size=32",
           "--total-batch-size=16384", "--eval-every=-1", "--core-metric-every=-1", "--sample-every=-1"]
"""Of runs/runcpu.sh, without the evaluations in between."""
CALIBRATION = 8
"""Steps whose speed says how many fit the time; the first of them compile and do not count."""
STEP = re.compile(r"step (\d+)/\d+ .*?dt: ([\d.]+)ms")
MEASURE = '''
import json, sys
import torch
from nanochat.checkpoint_manager import load_model
from nanochat.tokenizer import get_tokenizer
torch.set_num_threads(int(sys.argv[2]))
model, tokenizer, _ = load_model("base", torch.device("cpu"), "eval")
bos, nats, size = tokenizer.get_bos_token_id(), {}, {}
for text, language in json.load(open(sys.argv[1])):
    ids = tokenizer.encode(text)
    for start in range(0, len(ids), 511):
        window = torch.tensor([[bos] + ids[start:start + 511]])
        with torch.no_grad():
            loss = model(window[:, :-1], window[:, 1:], loss_reduction="sum") if window.shape[1] > 1 else None
        if loss is not None:
            nats[language] = nats.get(language, 0.0) + float(loss)
    size[language] = size.get(language, 0) + len(text.encode())
parameters = sum(p.numel() for p in model.parameters())
print("RESULT " + json.dumps({"nats": nats, "bytes": size, "parameters": parameters}))
'''


def spoken(command: Sequence[str], **options: object) -> str:
    """What a command says on standard output; its errors where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return str(done.stdout)


class Nanochat:
    """nanochat in a folder of its own, on our corpus."""

    def __init__(self, checkout: Path, corpus: Path, work: Path, dtype: str, threads: int) -> None:
        self.checkout, self.corpus, self.base, self.threads = checkout, corpus, work / f"nanochat-{dtype}", threads
        stubs = work / "stubs"
        stubs.mkdir(parents=True, exist_ok=True)
        (stubs / "wandb.py").write_text("")  # imported, and with --run=dummy not used
        self.environment = {**os.environ, "NANOCHAT_BASE_DIR": str(self.base), "NANOCHAT_DTYPE": dtype,
                            "PYTHONPATH": f"{stubs}:{checkout}", "OMP_NUM_THREADS": str(threads)}

    def prepare(self) -> None:
        """The corpus as its shards, the last of them for validation, and its tokenizer, 32,768 pieces."""
        data = self.base / "base_data_climbmix"
        data.mkdir(parents=True, exist_ok=True)
        for number, split in enumerate(("train", "validation")):
            texts = [text for text, _ in read_texts(corpus_files(self.corpus, split))]
            pq.write_table(pa.table({"text": texts}), data / f"shard_{number:05d}.parquet", row_group_size=512)
        self._run("scripts.tok_train", "--max-chars=2000000000")

    def _run(self, module: str, *options: str) -> str:
        return spoken([sys.executable, "-m", module, *options], cwd=self.checkout, env=self.environment)

    def train(self, seconds: float) -> dict[str, float]:
        said = self._run("scripts.base_train", *SHIPPED, f"--num-iterations={CALIBRATION}", "--model-tag=trial")
        step = statistics.median(float(one) / 1e3 for _, one in STEP.findall(said)[CALIBRATION // 2:])
        steps = max(CALIBRATION, round(seconds / step))
        shutil.rmtree(self.base / "base_checkpoints" / "final", ignore_errors=True)  # the last of it is what is read
        said = self._run("scripts.base_train", *SHIPPED, f"--num-iterations={steps}", "--model-tag=final")
        taken = [float(one) / 1e3 for _, one in STEP.findall(said)]
        steady = statistics.median(taken)
        return {"steps": steps, "seconds": steady * steps, "tokens": 16384 * steps, "tokens/s": 16384 / steady}

    def bits_per_byte(self) -> dict[str, float]:
        texts = self.base / "validation.json"
        texts.write_text(json.dumps(list(read_texts(corpus_files(self.corpus, "validation")))))
        said = spoken([sys.executable, "-c", MEASURE, str(texts), str(self.threads)], cwd=self.checkout,
                      env=self.environment)
        found = json.loads(said.rpartition("RESULT ")[2])
        return {**_bits(found["nats"], found["bytes"]), "parameters": found["parameters"]}


def _bits(nats: dict[str, float], size: dict[str, int]) -> dict[str, float]:
    bits = {name: value / 0.6931471805599453 for name, value in nats.items()}
    return {**{name: bits[name] / size[name] for name in bits}, "all": sum(bits.values()) / sum(size.values())}


def ours(corpus: Path, work: Path, seconds: float) -> dict[str, float]:
    """Our recipe's tokenizer and pretraining stages, with the steps that fit the time."""
    def stage(name: str, *settings: str) -> dict[str, object]:
        spoken([sys.executable, "-m", "headwater", "run", "cpu", "--out", str(work / name),
                f"variables.corpus={corpus}", *settings])
        summary: dict[str, object] = json.loads((work / name / "summary.json").read_text())["stages"]["pretrain"]
        return summary

    trial = stage("trial", "pretrain.trainer.epochs=null", "pretrain.trainer.steps=40", "pretrain.trainer.log_every=5")
    rows = [json.loads(line) for line in (work / "trial" / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    step = statistics.median(row["step_seconds"] for row in rows[2:])
    steps = max(40, round(seconds / step))
    figures = stage("ours", "pretrain.trainer.epochs=null", f"pretrain.trainer.steps={steps}")["figures"]
    assert isinstance(figures, dict), trial
    texts = list(read_texts(corpus_files(corpus, "validation")))
    size = {language: sum(len(text.encode()) for text, own in texts if own == language) for _, language in texts}
    found = {name: figures[f"validation.text.{name}.bits_per_byte"] for name in size}
    tokens, speed = figures["tokens"], figures["tokens_per_second"]
    return {**found, "all": sum(found[name] * size[name] for name in size) / sum(size.values()), "steps": steps,
            "seconds": tokens / speed, "tokens": tokens, "tokens/s": speed, "parameters": figures["parameters"]}


def main() -> None:
    options = arguments(
        __doc__, ("--checkout", {"type": Path, "required": True, "help": "a checkout of nanochat"}),
        ("--corpus", {"type": Path, "required": True, "help": "a corpus stage's folder"}),
        ("--seconds", {"type": float, "default": None, "help": "of training each (quick 120, full 1800)"}),
        ("--work", {"type": Path, "default": Path("/tmp/headwater-nanochat"), "help": "where both write"}),
        ("--threads", {"type": int, "default": hardware.cores(), "help": "threads (all)"}))
    seconds = options.seconds or (1800.0 if options.full else 120.0)
    found = ours(options.corpus.absolute(), options.work, seconds)
    rows = []
    for dtype in ("float32", "bfloat16") if options.full else ("float32",):
        peer = Nanochat(options.checkout.absolute(), options.corpus, options.work, dtype, options.threads)
        peer.prepare()
        theirs = {**peer.train(seconds), **peer.bits_per_byte()}
        name = f"nanochat, {dtype}{' (as shipped)' if dtype == 'float32' else ''}"
        rows += [Case.compare(f"{seconds:.0f} s", metric, found[metric], name, theirs[metric],
                              more_is_better=metric in ("tokens", "tokens/s", "steps"))
                 for metric in found if metric in theirs]
    ceilings = {f"{name} matmul, GFLOP/s": flops / 1e9 for name, flops in hardware.matmul_peaks().items()}
    report("nanochat", rows, ceilings, ("torch",))


if __name__ == "__main__":
    main()
