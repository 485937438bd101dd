"""BIG-Bench Hard (Suzgun et al. 2022): three worked examples, then the answer behind "the answer is"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import write
from headwater.evaluate.benchmarks.checking import Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import place, read_json, read_text, text_of

STEPS = "\nA: Let's think step by step."
ANSWER_TOKENS = 1024
_RULE = "-----\n"
_SHOT = re.compile(rf"^Q: (.*?){re.escape(STEPS)}\n(.*?)(?=\n+Q: |\Z)", re.DOTALL | re.MULTILINE)


def read(folder: Path) -> Reading:
    """bbh/TASK.json, and the examples of cot-prompts/TASK.txt. Raises `InputError`."""
    files, examiner = sorted((folder / "bbh").glob("*.json")), Examiner()
    if not files:
        raise InputError("no bbh/*.json here", where=folder, fix="give the folder of BIG-Bench Hard as published")
    return Reading(tuple(_part(file, folder, examiner) for file in files), tuple(examiner.faults))


def _part(file: Path, folder: Path, examiner: Examiner) -> Part:
    prompt = folder / "cot-prompts" / f"{file.stem}.txt"
    description, shown = examples(prompt, folder) if prompt.is_file() else ("", [])
    shots = examiner.keep(f"examples/{file.stem}", shown)
    questions = examiner.keep("test", _entries(file, folder), shots)
    return Part(file.stem, tuple(map(_row, shots)), tuple(map(_row, questions)), description=description)


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    found = read_json(file)
    rows = found.get("examples") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise InputError("no list of examples in this file", where=file, fix="fetch the file again")
    for number, fields in enumerate(rows, 1):
        where = place(file, folder, number)
        yield Entry(where, text_of(fields, "input"), text_of(fields, "target")) if isinstance(fields, dict) \
            else Unreadable(where)


def examples(file: Path, folder: Path) -> tuple[str, list[Entry]]:
    """The task's instruction and its worked examples, out of the prompt's text; a canary line may stand before it.
    Raises `InputError` where a question has no worked answer."""
    text = read_text(file).replace("\r\n", "\n")
    text = text.partition(_RULE)[2] if _RULE in text else text
    description = text.partition("\n\nQ: ")[0] if not text.startswith("Q: ") else ""
    shots = [Entry(place(file, folder, number), found[1], found[2].rstrip("\n"))
             for number, found in enumerate(_SHOT.finditer(text), 1)]
    if len(shots) != len(re.findall("^Q: ", text, re.MULTILINE)):
        raise InputError(f"{len(shots)} worked answers for {text.count('Q: ')} questions", where=file,
                         fix=f"write each as 'Q: QUESTION', then '{STEPS.strip()}', then the answer")
    return description.strip("\n"), shots


def _row(entry: Entry) -> Row:
    return entry.row(input=entry.question, target=entry.answer)


def extract(said: str) -> str:
    """What stands behind the first "the answer is", to the end of its line, without the full stop."""
    found = re.search(r"[Tt]he answer is (.*?)\.?[ \t]*(?:\n|$)", said)
    return found[1] if found else ""


def official(part: Part) -> TaskConfig:
    return write(lambda row: f"Q: {row['input']}{STEPS}", lambda row: str(row["target"]),
                 lambda row, said: extract(said), description=f"{part.description}\n\n" if part.description else "",
                 delimiter="\n", until=("\n\n",), tokens=ANSWER_TOKENS)


BBH = Benchmark(name="bbh", language="en", shots=3, metric="exact_match", read=read, official=official,
                harness=lambda subject: f"bbh_cot_fewshot_{subject}", question=lambda row: str(row["input"]),
                averaged="subjects")
