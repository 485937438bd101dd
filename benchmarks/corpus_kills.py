"""The corpus stage killed at random moments and given the same command again, against a run that nothing disturbed.

    python benchmarks/corpus_kills.py [--runs N] [--kills N] [--seed S] [--full]

Each run takes invented pages (both languages, copies, shared sentences, a mix of two epochs) cut into many small
units, in threads, in worker processes, and in worker processes of which only one or only the parent is killed. A kill
is SIGKILL. What counts is whether every file of the finished corpus is the same bytes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _harness import Case, arguments, report

from headwater.artifacts import hash_file

ROOT = Path(__file__).parents[1]
CHILD = """
import sys
from pathlib import Path
from headwater.corpus.passes import engine
from headwater.corpus.passes import examining
from headwater.corpus.reading import units
from headwater.corpus.stage import CorpusSettings, run
units.SMALLEST, units.WANTED, examining.PART_DOCUMENTS = 1, 12, 7
engine.PROCESSES_FROM = 1 << 60 if sys.argv[3] == "threads" else 0
run(CorpusSettings.parse({
    "sources": [{"path": sys.argv[1]}], "quality": None, "machine_text": None, "toxicity": None, "min_tokens": 20,
    "mix": {"shares": {"en": 1, "zh": 3}, "by": "language", "tokens": 60_000}}), Path(sys.argv[2]))
"""
MODES = ("threads", "processes", "parent alone", "one worker")


def main() -> None:
    options = arguments(__doc__, ("--runs", {"type": int, "help": "of each mode; 1, or 5 with --full"}),
                        ("--kills", {"type": int, "help": "of each run; 1, or 3 with --full"}),
                        ("--seed", {"type": int, "default": 0}))
    runs = options.runs if options.runs is not None else 5 if options.full else 1
    kills = options.kills if options.kills is not None else 3 if options.full else 1
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        invent(folder / "pages", 160)
        rows = [compare(folder, mode, runs, kills, chance) for mode in (MODES if options.full else MODES[:2])]
    report("corpus kills", rows, {"runs": runs, "kills": kills}, ("daft", "pyarrow"))


def invent(folder: Path, count: int) -> None:
    folder.mkdir()
    words = {"en": ["river", "water", "city", "bridge", "mountain", "year", "people", "valley", "lake", "market"],
             "zh": "河流水城市桥山年人谷湖"}
    foot = {"en": "Subscribe to our newsletter and never miss a story from the river valley again.",
            "zh": "请关注我们的公众号获取更多关于河流与城市的最新消息。"}
    for number in range(count):
        language, draw = ("en", "zh")[number % 2], random.Random(number - 1 if number % 20 == 19 else number)
        parts = [draw.choices(words[language], k=12) for _ in range(12)]
        text = ("".join(f"这里的{''.join(part)}，是我们的。" for part in parts) if language == "zh"
                else " ".join(f"The {' '.join(part)} is number {number}." for part in parts))
        last = f"<p>{foot[language]}</p>" if number % 7 < 4 else ""
        (folder / f"{number:04}.html").write_text(f"<html><body><p>{text}</p>{last}</body></html>", encoding="utf-8")


def compare(folder: Path, mode: str, runs: int, kills: int, chance: random.Random) -> Case:
    """Of so many disturbed runs how many end with the undisturbed run's bytes."""
    whole, hits, same = folder / f"undisturbed {mode}", [], 0
    begun = time.perf_counter()
    finish(folder, whole, mode)
    seconds = time.perf_counter() - begun
    for _ in range(runs):
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(kills):
            hits.append(strike(folder, out, mode, chance.uniform(0.3, 1) * seconds, chance))
        finish(folder, out, mode)
        same += hashes(out) == hashes(whole)
    struck = sum(map(bool, hits))
    places = ", ".join(f"{place} {hits.count(place)}" for place in sorted(set(filter(None, hits))))
    return Case.compare(f"{mode}: {struck} kills ({places})", "runs with the same bytes", float(same), "runs",
                        float(runs))


def start(folder: Path, out: Path, mode: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder / "pages"), str(out), mode], cwd=ROOT,
                            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def finish(folder: Path, out: Path, mode: str) -> None:
    if code := start(folder, out, mode).wait():
        sys.exit(f"the run ended with {code}")


def strike(folder: Path, out: Path, mode: str, seconds: float, chance: random.Random) -> str:
    """Start the run and kill after so many seconds; returns the pass it was in, "" where it had ended."""
    process = start(folder, out, mode)
    try:
        process.wait(timeout=seconds)
        return ""
    except subprocess.TimeoutExpired:
        passes = [name for name in ("examined", "cut", "written") if (out / ".work" / name).exists()]
    workers = workers_of(process.pid)
    if mode == "one worker":
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
    elif mode == "parent alone":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return (passes or ["start"])[-1]


def workers_of(parent: int) -> list[int]:
    """The process ids of Daft's workers (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stated, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if int(stated.rpartition(")")[2].split()[1]) == parent and b"udf_worker" in command:
            found.append(int(folder.name))
    return found


def hashes(out: Path) -> dict[str, str]:
    return {str(file.relative_to(out)): hash_file(file) for file in out.rglob("*") if file.is_file()}


if __name__ == "__main__":
    main()
