"""The whole corpus stage against datatrove's pipeline, each in processes of its own, and how its cost grows."""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _harness import Case, installed
from _processes import Cost, run_measured

from headwater.corpus.passes.engine import PROCESSES_FROM
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import Raw, read
from headwater.corpus.reading.sources import Source, list_shards

PROGRAM = """
import json, sys
from pathlib import Path
from headwater.corpus.stage import CorpusSettings, run
if __name__ == "__main__":
    print("kept", int(run(CorpusSettings.parse(json.loads(sys.argv[1])), Path(sys.argv[2]))["kept"]))
"""
EQUAL: dict[str, Any] = {"machine_text": None, "toxicity": None, "repeated_sentences": None,
                         "near_duplicates": {"loose": None, "similarity": 0}}
"""Settings that leave the steps that datatrove has."""
OURS: dict[str, dict[str, Any]] = {
    "equal steps, extraction by trafilatura": EQUAL | {"extractor": "trafilatura"},
    "equal steps, our extraction": EQUAL, "every step": {}}
_KEPT = re.compile(r"^kept (\d+)", re.MULTILINE)


class Documents:
    """Real pages and texts, laid out below a folder as both pipelines want them: `html` for ours, `pages` the same for
    datatrove, `texts` for both. `count` of them in all, `workers` processes to run datatrove in: one where ours starts
    none."""

    def __init__(self, folder: Path, html: Path, text: Path, every: int) -> None:
        self.folder, self.count = folder, 0
        for name in ("html", "pages", "texts"):
            (folder / name).mkdir(parents=True)
        with ExitStack() as stack:
            # As many files as cores: datatrove gives a worker whole files.
            self._streams = {(kind, part): stack.enter_context(open(folder / kind / f"{part}.jsonl", "w"))
                             for kind in ("pages", "texts") for part in range(cores())}
            for number, page in enumerate(_pages(html, every)):
                self._add_page(number, page)
            for text_ in _texts(text, every):
                self._add("texts", text_)
        size = sum(file.stat().st_size for kind in ("html", "texts") for file in (folder / kind).iterdir())
        self.workers = cores() if size >= PROCESSES_FROM else 1

    def _add(self, kind: str, text: str) -> None:
        row = {"id": str(self.count), "url": str(self.count), "text": text}
        self._streams[kind, self.count % cores()].write(json.dumps(row) + "\n")
        self.count += 1

    def _add_page(self, number: int, page: Raw) -> None:
        try:
            text = decode(page.content, declared_charset(page.content))[0]
        except UnicodeError:
            return
        (self.folder / "html" / f"{number:05}.html").write_bytes(page.content)
        self._add("pages", text.encode("utf-8", "replace").decode())


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _pages(root: Path, every: int) -> list[Raw]:
    shards = list_shards([Source(path=root, format="html")])[::every] if root.is_dir() else []
    return [page for shard in shards for page in read(shard)]


def _texts(root: Path, every: int) -> list[str]:
    files = [file for language in ("en", "zh") for file in sorted((root / language).glob("*/*.jsonl"))]
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").split("\n") if line]
    return [row["text"] for row in rows if "text" in row][::every]


def end_to_end_rows(html: Path, text: Path, every: int, rounds: int) -> Iterator[Case]:
    """Documents per second and per CPU second, and peak memory, of every `every`-th document; medians of the rounds."""
    name = "end to end"
    if not html.is_dir() and not text.is_dir():
        yield Case(name, "documents/s", None, f"no documents at {html.name} and {text.name}")
        return
    with tempfile.TemporaryDirectory() as place:
        documents = Documents(Path(place) / "in", html, text, every)
        sources = [{"path": str(documents.folder / kind)} for kind in ("html", "texts")]
        commands: dict[str, Callable[[Path], list[str]]] = {
            ours: lambda out, settings=settings: _ours(out, {"sources": sources, **settings})
            for ours, settings in OURS.items()}
        if installed("datatrove"):
            script = Path(__file__).with_name("_datatrove.py")
            commands["datatrove"] = lambda out: [sys.executable, str(script), str(documents.folder), str(out),
                                                 str(documents.workers)]
        costs = _measure(commands, rounds)
    for ours in OURS:
        yield from _compared(f"{name}, {ours}", documents.count, costs[ours], costs.get("datatrove"))


def _ours(out: Path, settings: dict[str, Any]) -> list[str]:
    return [sys.executable, "-c", PROGRAM, json.dumps(settings), str(out)]


def _measure(commands: dict[str, Callable[[Path], list[str]]], rounds: int) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory() as out:
                costs[name].append(run_measured(command(Path(out) / "out")))
    return costs


def _compared(case: str, count: int, ours: list[Cost], theirs: list[Cost] | None) -> Iterator[Case]:
    figures: dict[str, Callable[[Cost], float]] = {
        "documents/s": lambda cost: count / cost.seconds, "documents/CPU s": lambda cost: count / cost.cpu_seconds,
        "peak memory GB": lambda cost: cost.peak_gb, "documents kept": _kept}
    for metric, figure in figures.items():
        value = statistics.median(map(figure, ours))
        if theirs is None:
            yield Case(case, metric, value, "datatrove (not installed)")
        elif metric == "documents kept":
            yield Case(case, metric, value, "datatrove", statistics.median(map(figure, theirs)))
        else:
            yield Case.compare(case, metric, value, "datatrove", statistics.median(map(figure, theirs)),
                               more_is_better=metric.startswith("documents"))


def _kept(cost: Cost) -> float:
    found = _KEPT.search(cost.output)
    return float(found[1]) if found else float("nan")


def growth_rows(base: int, rounds: int) -> Iterator[Case]:
    """CPU seconds of every step at 1, 4 and 16 times the documents, generated; 1x is the peer of the others."""
    commands: dict[str, Callable[[Path], list[str]]] = {}
    with tempfile.TemporaryDirectory() as place:
        for factor in (1, 4, 16):
            folder = Path(place) / str(factor)
            folder.mkdir()
            _write_generated(folder / "texts.jsonl", base * factor)
            commands[str(factor)] = lambda out, folder=folder: _ours(out, {"sources": [{"path": str(folder)}]})
        costs = _measure(commands, rounds)
    milliseconds = {factor: 1e3 * statistics.median(cost.cpu_seconds for cost in costs[factor]) / (base * int(factor))
                    for factor in costs}
    for factor, value in milliseconds.items():
        case = f"every step, {base * int(factor):,} generated documents"
        yield Case.compare(case, "CPU ms/document", value, f"{base:,} documents", milliseconds["1"],
                           more_is_better=False)
        yield Case(case, "peak memory GB", statistics.median(cost.peak_gb for cost in costs[factor]), "-")
        yield Case(case, "documents kept", statistics.median(map(_kept, costs[factor])), "-")


_NOUNS = ["river", "water", "city", "bridge", "mountain", "people", "valley", "lake", "source", "stone", "boat",
          "market", "winter", "summer", "field", "road", "north", "garden", "school", "family", "history", "forest",
          "weather", "village", "harbour", "island", "letter", "teacher", "window", "kitchen", "paper", "song"]
_LINKS = ("of the", "near the", "and the", "with a", "to that", "that have the", "before the", "from every", "for a")
_HAN = list("河流水城市桥山年人谷湖源口石船冬夏田路北南园学家史行林天村港岛春秋东西长短高低深浅大小新旧远近")
_FUNCTION = list("的是不了在有和就这我也个为与以之")


def _write_generated(file: Path, count: int) -> None:
    """Invented prose, every other document Chinese, of which hardly any step has a reason to remove any."""
    with open(file, "w", encoding="utf-8") as stream:
        for number in range(count):
            draw = random.Random(number)
            make = _chinese if number % 2 else _english
            paragraphs = [" ".join(make(draw) for _ in range(6)) if make is _english else
                          "".join(make(draw) for _ in range(6)) for _ in range(4)]
            stream.write(json.dumps({"url": str(number), "text": "\n".join(paragraphs)}) + "\n")


def _english(draw: random.Random) -> str:
    words = [word for noun in draw.choices(_NOUNS, k=6) for word in (noun, draw.choice(_LINKS))]
    return f"The {' '.join(words)} {draw.choice(_NOUNS)}."


def _chinese(draw: random.Random) -> str:
    draws = draw.choices(_HAN, k=14)
    return "".join(han + (draw.choice(_FUNCTION) if draw.random() < 0.3 else "") for han in draws) + "。"
