"""The last word of a passage, as LAMBADA asks for it (Paperno et al. 2016): right where it is what the model would say.

Files are JSON lines of {text} or {prefix, target}, or text files with a passage on each line, as LAMBADA is published.
Chinese does not mark its words: of a Chinese {text} the longest end of two to four characters is asked for that the
passage has said before, which nearly all of LAMBADA's words were too; a passage without one cannot be asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import metrics
from headwater.evaluate.benchmarks.checking import Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.subjects import by_subject
from headwater.evaluate.benchmarks.tables import place, read_jsonl, read_text, text_of

_LAST_HAN = re.compile(r"[\u3400-\u9fff]+(?=[^\u3400-\u9fff]*$)")
_LONGEST, _SHORTEST = 4, 2


def read(folder: Path, *, chinese: bool = False) -> Reading:
    """Every .jsonl and .txt file, a part each. Raises `InputError`."""
    files = sorted(file for file in folder.glob("*") if file.suffix in (".jsonl", ".txt"))
    if not files:
        raise InputError("no .jsonl or .txt file here", where=folder,
                         fix="give a folder with files of {text} or {prefix, target}, or a passage on each line")
    examiner, parts = Examiner(), []
    for subject, file in by_subject(files, lambda file: file.stem).items():
        rows = [_row(entry, chinese) for entry in examiner.keep("test", _entries(file, folder, chinese))]
        parts.append(Part(subject, (), tuple(rows)))
    return Reading(tuple(parts), tuple(examiner.faults))


def read_chinese(folder: Path) -> Reading:
    return read(folder, chinese=True)


def _entries(file: Path, folder: Path, chinese: bool) -> Iterator[Entry | Unreadable]:
    for where, fields in _records(file, folder):
        if fields is None or not ("text" in fields or {"prefix", "target"} <= set(fields)):
            yield Unreadable(where)
        elif "target" in fields:
            yield Entry(where, text_of(fields, "prefix").rstrip(), text_of(fields, "target").strip())
        else:
            yield Entry(where, *(cut_chinese if chinese else cut)(text_of(fields, "text")))


def _records(file: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    if file.suffix == ".jsonl":
        yield from read_jsonl(file, folder)
    else:
        yield from ((place(file, folder, number), {"text": line})
                    for number, line in enumerate(read_text(file).splitlines(), 1) if line.strip())


def cut(text: str) -> tuple[str, str]:
    """Passage and last word, "" where there is but one. LAMBADA's files put spaces around every mark, and none at the
    end."""
    prefix, _, word = text.strip().rpartition(" ")
    return prefix.rstrip(), word if prefix.strip() else ""


def cut_chinese(text: str) -> tuple[str, str]:
    """Passage and the word that ends it, "" where the passage has not said it before."""
    found = _LAST_HAN.search(text)
    for length in range(_LONGEST, _SHORTEST - 1, -1):
        if found and length <= len(found[0]):
            start = found.end() - length
            word = text[start : found.end()]
            if word in text[:start]:
                return text[:start], word
    return text, ""


def _row(entry: Entry, chinese: bool) -> Row:
    entry = replace(entry, answer=entry.answer or "")
    space = "" if chinese else " "
    return entry.row(text=f"{entry.question}{space}{entry.answer}", prefix=entry.question,
                     target=f"{space}{entry.answer}")


def _judged(row: Row, results: list[tuple[float, bool]]) -> dict[str, float]:
    logprob, greedy = results[0]
    return {"acc": float(greedy), "logprob": logprob}


def official(part: Part) -> TaskConfig:
    """accuracy: whether the model, always saying what is likeliest, would say the word; logprob: of the word, nats."""
    return {"output_type": "loglikelihood", "doc_to_text": lambda row: row["prefix"],
            "doc_to_target": lambda row: row["target"], "target_delimiter": "", "process_results": _judged,
            "metric_list": metrics("acc", "logprob")}


CLOZE = Benchmark(name="cloze", language="en", shots=0, metric="accuracy", read=read, official=official,
                  harness=lambda subject: "lambada_openai", question=lambda row: str(row["prefix"]), dropped="none")
CLOZE_ZH = replace(CLOZE, name="cloze_zh", language="zh", read=read_chinese)
