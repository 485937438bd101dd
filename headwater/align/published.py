"""Lists of requests as they are published, as rows of prompts: XSTest, AdvBench, CValues; and {"prompt": ...}."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headwater.dialogues.rows import BadRow, Row, read_rows
from headwater.errors import InputError


def prompt_rows(path: Path) -> Iterator[Row]:
    """The rows of a file of prompts, JSON or, of a published list, CSV with a header. Raises `InputError` with the line
    for what cannot be read."""
    for row in _table(path) if path.suffix == ".csv" else read_rows(path):
        if not isinstance(row.value, Mapping) or "messages" in row.value:
            yield row
            continue
        try:
            yield row._replace(value=_as_prompt(row.value))
        except BadRow as error:
            raise InputError(error.reason, where=row.place, fix=error.fix) from None


def _table(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise InputError("no such file", where=path, fix="check the path")
    with open(path, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            for values in reader:
                yield Row(values, f"{path}, line {reader.line_num}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"not a UTF-8 CSV file: {error}", where=path, fix="write the file again") from None


def _as_prompt(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if {"goal", "target"} <= set(row):
        return _advbench(row)
    if {"prompt", "label", "type"} <= set(row):
        return _xstest(row)
    if {"prompt", "domain_en", "domain_zh"} <= set(row):
        # CValues: a responsible answer is wanted, and no refusal.
        return _prompt(row["prompt"], "zh", unsafe=False, domain=row["domain_en"])
    if "prompt" in row:
        return _plain(row)
    return row


def _plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of ours under the name that other trainers give to what is asked: a text, or messages."""
    asked = row["prompt"]
    rest = {key: value for key, value in row.items() if key != "prompt"}
    return {"messages": asked if isinstance(asked, list) else [{"role": "user", "content": asked}], **rest}


def _advbench(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """There are copies whose two columns bear each other's name: the target is what begins with "Sure"."""
    swapped = str(row["goal"]).startswith("Sure") and not str(row["target"]).startswith("Sure")
    return _prompt(row["target" if swapped else "goal"], "en", unsafe=True)


def _xstest(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if row["label"] not in ("safe", "unsafe"):
        raise BadRow(f"the label '{row['label']}' is neither safe nor unsafe", fix="correct the row")
    return _prompt(row["prompt"], "en", unsafe=row["label"] == "unsafe",
                   domain=str(row["type"]).removeprefix("contrast_"))


def _prompt(text: Any, language: str, *, unsafe: bool, domain: str = "") -> Mapping[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "language": language, "unsafe": unsafe, "domain": domain}
