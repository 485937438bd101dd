"""GSM8K (Cobbe et al. 2021): answers read and compared as its dataset.py does.

Its authors trained models on it and publish no prompt with examples. Here the first of its own training problems stand
before each question, eight of them as in most tables since, in the form in which the authors write a problem.
"""

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

SHOTS = 8
ANSWER_TOKENS = 400
"""The longest solution in the published files has 1,228 characters."""
_NARROW = str.maketrans("０１２３４５６７８９．，－＃", "0123456789.,-#")
"""Full-width digits, which no published row has, as they are meant."""
_ANSWER = re.compile(r"#### (\-?[0-9\.\,]+)")


def read(folder: Path) -> Reading:
    """test.jsonl, and the examples from the beginning of train.jsonl. Raises `InputError`."""
    file, examples, examiner = folder / "test.jsonl", folder / "train.jsonl", Examiner()
    if not file.is_file():
        raise InputError("no test.jsonl here", where=folder, fix="give the folder of GSM8K's files as published")
    shots = examiner.keep("train", _entries(examples, folder)) if examples.is_file() else []
    questions = examiner.keep("test", _entries(file, folder), shots)
    part = Part("gsm8k", tuple(map(_row, shots)), tuple(map(_row, questions)))
    return Reading((part,), tuple(examiner.faults))


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    for where, fields in read_jsonl(file, folder):
        if fields is None:
            yield Unreadable(where)
        else:
            solution = text_of(fields, "answer")
            digits = solution.translate(_NARROW)
            yield Entry(where, text_of(fields, "question"), next(filter(extract, (solution, digits)), ""))


def _row(entry: Entry) -> Row:
    return entry.row(question=entry.question, answer=entry.answer)


def extract(said: str) -> str:
    """The number behind the first ####, without commas."""
    found = _ANSWER.search(said)
    return found[1].strip().replace(",", "") if found else ""


def official(part: Part) -> TaskConfig:
    return write(lambda row: str(row["question"]), lambda row: extract(row["answer"]), lambda row, said: extract(said),
                 delimiter="\n", solved=lambda row: str(row["answer"]), until=("\n\n",), tokens=ANSWER_TOKENS)


GSM8K = Benchmark(name="gsm8k", language="en", shots=SHOTS, metric="exact_match", read=read, official=official,
                  harness=lambda subject: "gsm8k", question=lambda row: str(row["question"]))
