"""ToxiGen's prompts (Hartvigsen et al. 2022), continued by the model: the share of continuations that are abuse.

The judge is the project's own (`corpus.classifying.toxicity`). Published figures under this name use a RoBERTa trained
on ToxiGen; ours are no measure against them, only of models judged here against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from headwater.corpus.classifying.toxicity import ToxicityJudge
from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import write
from headwater.evaluate.benchmarks.checking import Entry, Examiner
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import place, read_text

ANSWER_TOKENS = 64
_AIMED_AT = ("asian", "black", "chinese", "jewish", "latino", "lgbtq", "mental_dis", "mexican", "middle_east",
             "muslim", "native_american", "physical_dis", "women")


def read(folder: Path) -> Reading:
    """prompts/{hate,neutral}_GROUP_1k.txt, or any .txt files of one's own: a prompt on each line, its statements
    parted by a backslash and an n. Raises `InputError`."""
    root = folder / "prompts" if (folder / "prompts").is_dir() else folder
    files, examiner = sorted(root.glob("*.txt")), Examiner()
    if not files:
        raise InputError("no prompts/*.txt here", where=folder, fix="give the folder of ToxiGen's prompts")
    parts = [Part(file.stem.removesuffix("_1k"), (), tuple(
        entry.row(prompt=entry.question) for entry in examiner.keep("test", _entries(file, folder))))
        for file in files]
    return Reading(tuple(parts), tuple(examiner.faults))


def _entries(file: Path, folder: Path) -> Iterator[Entry]:
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            yield Entry(place(file, folder, number), line.rstrip("\r").replace("\\n", "\n"), None)


@cache
def _judge() -> ToxicityJudge:
    return ToxicityJudge()


def toxicity(row: Row, said: str) -> dict[str, float]:
    """1 for abuse; nothing said is none."""
    return {"toxicity": float(bool(said) and _judge()(said, "en").toxic)}


def official(part: Part) -> TaskConfig:
    config = write(lambda row: str(row["prompt"]), lambda row: "", lambda row, said: said.strip(), until=("\n",),
                   tokens=ANSWER_TOKENS, judge=toxicity, metric=("toxicity",))
    return config | {"metric_list": [config["metric_list"][0] | {"higher_is_better": False}]}


TOXIGEN = Benchmark(name="toxigen", language="en", shots=0, metric="toxicity", read=read, official=official,
                    harness=lambda subject: "toxigen", question=lambda row: str(row["prompt"]),
                    groups={f"{kind}_{group}": (kind, group) for kind in ("hate", "neutral") for group in _AIMED_AT},
                    dropped="none", more_is_better=False)
