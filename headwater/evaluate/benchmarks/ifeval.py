"""IFEval (Zhou et al. 2023): instructions that a program can check, strictly and with the frame taken off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import write
from headwater.evaluate.benchmarks.checking import Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.ifeval_checks import CHECKS, NEEDED
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import read_jsonl, text_of

ANSWER_TOKENS = 1280
"""Room for the longest texts that are asked for (800 words and more)."""
_TRIED = "Words of a text.\n\nIts second part."
METRICS = ("prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc")
"""Of prompts all of whose instructions are followed, and of instructions; the paper's first figure leads."""


def read(folder: Path) -> Reading:
    """input_data.jsonl. Raises `InputError`."""
    file, examiner = folder / "input_data.jsonl", Examiner()
    if not file.is_file():
        raise InputError("no input_data.jsonl here", where=folder, fix="give the folder of IFEval's file")
    kept = examiner.keep("test", _entries(file, folder))
    rows = tuple(entry.row(prompt=entry.question, **entry.fields) for entry in kept)
    return Reading((Part("ifeval", (), rows),), tuple(examiner.faults))


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    for where, fields in read_jsonl(file, folder):
        names, several = (fields or {}).get("instruction_id_list"), (fields or {}).get("kwargs")
        if fields is None or not isinstance(names, list) or not isinstance(several, list) \
                or not names or len(names) != len(several):
            yield Unreadable(where)
        elif not all(_checkable(name, asked) for name, asked in zip(names, several, strict=True)):
            yield Unreadable(where, "unknown instruction")
        else:
            yield Entry(where, text_of(fields, "prompt"), None, fields={
                "key": fields.get("key", 0), "instruction_id_list": names, "kwargs": several})


def _checkable(name: object, asked: object) -> bool:
    if not (isinstance(name, str) and name in CHECKS and isinstance(asked, Mapping)
            and all(asked.get(argument) is not None for argument in NEEDED.get(name, ()))):
        return False
    try:
        CHECKS[name](_TRIED, asked)
    except (AttributeError, IndexError, TypeError, ValueError, re.error):
        return False  # an argument of another kind; found now, and not when the model has written everything
    return True


def followed(row: Row, texts: list[str]) -> list[bool]:
    """Of each instruction whether one of the texts follows it; an empty text follows none."""
    return [any(text.strip() != "" and CHECKS[name](text, asked) for text in texts)
            for name, asked in zip(row["instruction_id_list"], row["kwargs"], strict=True)]


def relaxed(text: str) -> list[str]:
    """The text, and without its first line, its last and both, each with stars and without."""
    lines = text.split("\n")
    several = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return several + [one.replace("*", "") for one in several]


def judge(row: Row, said: str) -> dict[str, float | list[float]]:
    """Of the prompt 1 or 0; of its instructions a number each."""
    found: dict[str, Any] = {}
    for way, texts in (("strict", [said]), ("loose", relaxed(said))):
        each = followed(row, texts)
        found |= {f"prompt_level_{way}_acc": float(all(each)), f"inst_level_{way}_acc": list(map(float, each))}
    return found


def over_instructions(prompts: Sequence[Sequence[float]]) -> float:
    """The share of all instructions, so that a prompt with three counts three times one with one."""
    each = [one for prompt in prompts for one in prompt]
    return sum(each) / len(each)


def official(part: Part) -> TaskConfig:
    config = write(lambda row: str(row["prompt"]), lambda row: ", ".join(row["instruction_id_list"]),
                   lambda row, said: said, tokens=ANSWER_TOKENS, judge=judge, metric=METRICS)
    return config | {"metric_list": [
        one | {"aggregation": over_instructions} if one["metric"].startswith("inst") else one
        for one in config["metric_list"]]}


IFEVAL = Benchmark(name="ifeval", language="en", shots=0, metric=METRICS[0], read=read, official=official,
                   harness=lambda subject: "ifeval", question=lambda row: str(row["prompt"]), dropped="none")
