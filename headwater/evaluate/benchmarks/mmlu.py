"""MMLU (Hendrycks et al. 2021): asked and averaged as its evaluate.py does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from headwater.evaluate.benchmarks.asking import CHOICE_TOKENS, choose, lettered, write
from headwater.evaluate.benchmarks.checking import LETTERS, Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import read_csv, root_of, subjects

_COLUMNS = 6
_GROUPS = {
    "STEM": """abstract_algebra astronomy college_biology college_chemistry college_computer_science
        college_mathematics college_physics computer_security conceptual_physics electrical_engineering
        elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science
        high_school_mathematics high_school_physics high_school_statistics machine_learning""",
    "humanities": """formal_logic high_school_european_history high_school_us_history high_school_world_history
        international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory
        professional_law world_religions""",
    "social sciences": """econometrics high_school_geography high_school_government_and_politics
        high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality
        professional_psychology public_relations security_studies sociology us_foreign_policy""",
    "other": """anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management
        marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology""",
}
_SAID = [re.compile(pattern) for pattern in (
    r"^\W*([ABCD])(?![A-Za-z'])", r"(?i:answer|choice|option)(?i:\s+is)?\s*:?\s*\W{0,3}([ABCD])(?![A-Za-z'])")]
_LONE = re.compile(r"(?<![A-Za-z'])([ABCD])(?![A-Za-z'])")


def read(folder: Path) -> Reading:
    """data/test/SUBJECT_test.csv, and the examples of data/dev. Raises `InputError`."""
    root = root_of(folder, "test", "MMLU")
    examples, examiner = subjects(root, "dev"), Examiner()
    parts = []
    for subject, file in subjects(root, "test").items():
        shots = examiner.keep(f"dev/{subject}", _entries(examples[subject], folder)) if subject in examples else []
        questions = examiner.keep("test", _entries(file, folder), shots)
        parts.append(Part(subject, tuple(_row(entry, subject) for entry in shots),
                          tuple(_row(entry, subject) for entry in questions)))
    return Reading(tuple(parts), tuple(examiner.faults))


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    for number, (where, cells) in enumerate(read_csv(file, folder)):
        if number == 0 and cells is not None and cells[1:5] == list(LETTERS):
            continue  # a row of names, which the official files have not
        if cells is None or len(cells) > _COLUMNS:
            yield Unreadable(where)
        else:
            question, *choices, answer = cells + [""] * (_COLUMNS - len(cells))
            yield Entry(where, question, answer, tuple(choices))


def _row(entry: Entry, subject: str) -> Row:
    return entry.row(question=entry.question, subject=subject, choices=list(entry.choices), answer=entry.index)


def question(row: Row) -> str:
    """As the official script prints it, up to where the letter belongs."""
    return lettered(row["question"], row["choices"]) + "\nAnswer:"


def description(part: Part) -> str:
    """The official code puts a space before every word of the subject, so that there are two behind "about"."""
    subject = "".join(f" {word}" for word in part.subject.split("_"))
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


def official(part: Part) -> TaskConfig:
    return choose(question, lambda row: int(row["answer"]), description=description(part), delimiter=" ")


def chat(part: Part) -> TaskConfig:
    """MMLU's authors have no written form; how a letter is found here is our own."""
    return write(question, lambda row: LETTERS[row["answer"]], lambda row, said: extract(said),
                 description=description(part), tokens=CHOICE_TOKENS)


def extract(said: str) -> str:
    """The letter that the text begins with, or calls the answer, or the only one that it holds."""
    for pattern in _SAID:
        if found := pattern.search(said):
            return found[1]
    lone = set(_LONE.findall(said))
    return lone.pop() if len(lone) == 1 else ""


MMLU = Benchmark(
    name="mmlu", language="en", shots=5, metric="accuracy", read=read, official=official, chat=chat,
    harness=lambda subject: f"mmlu_{subject}", question=lambda row: lettered(row["question"], row["choices"]),
    groups={subject: (group,) for group, names in _GROUPS.items() for subject in names.split()}, chance=0.25)
