"""Benchmarks with a file for each subject and split, as MMLU, CMMLU and C-Eval have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from headwater.errors import InputError
from headwater.evaluate.benchmarks.checking import Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import place


def root_of(folder: Path, split: str, called: str) -> Path:
    """Where the folder of a split lies: in the benchmark's folder or in its `data`. Raises `InputError`."""
    found = [root for root in (folder, folder / "data") if (root / split).is_dir()]
    if len(found) > 1:
        raise InputError(f"{split} and data/{split} are both here", where=folder,
                         fix="take one of them away, or give the folder data")
    if found:
        return found[0]
    raise InputError(f"no folder {split} or data/{split} here", where=folder,
                     fix=f"give the folder of {called}'s files as they were published")


def files_of(root: Path, split: str) -> dict[str, Path]:
    """Subject -> file of a split, by name; a file is called SUBJECT.csv or SUBJECT_SPLIT.csv. Raises `InputError` for
    two files of one subject."""
    files = sorted(file for file in (root / split).glob("*") if file.suffix.lower() == ".csv" and file.is_file())
    return by_subject(files, lambda file: file.stem.removesuffix(f"_{split}"))


def by_subject(files: Iterable[Path], subject: Callable[[Path], str]) -> dict[str, Path]:
    """Raises `InputError` for two files of one subject."""
    found: dict[str, Path] = {}
    for file in files:
        if (other := found.setdefault(subject(file), file)) is not file:
            raise InputError(f"{other.name} and {file.name} hold the same subject", where=file.parent,
                             fix="give one of them another name, or take it away")
    return found


def read_subjects(root: Path, split: str, entries: Callable[[Path], Iterable[Entry | Unreadable]],
                  row: Callable[[Entry, str], Row], title: Callable[[str], str] = lambda subject: "") -> Reading:
    """The questions of a split, a part for each subject, with the examples of `dev` where there are some.

    entries: a file's rows as they stand; row: a row and its subject under the dataset's own names; title: what the
    prompt calls a subject.
    """
    examples, examiner = files_of(root, "dev"), Examiner()
    parts = []
    for subject, file in files_of(root, split).items():
        shots = examiner.keep(f"dev/{subject}", entries(examples[subject])) if subject in examples else []
        rows = list(entries(file)) or [Unreadable(place(file, root, 0), "empty file")]
        questions = examiner.keep(split, rows, shots)
        parts.append(Part(subject, tuple(row(entry, subject) for entry in shots),
                          tuple(row(entry, subject) for entry in questions), title(subject)))
    return Reading(tuple(parts), tuple(examiner.faults))
