"""Questions of benchmarks, read out of the files in which they are published; a folder's format is told by content."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from headwater.errors import InputError
from headwater.settings import InputPath, Settings

BenchmarkFormat = Literal["auto", "mmlu", "ceval", "cmmlu", "gsm8k", "mgsm", "bbh", "humaneval", "mbpp", "squad",
                          "records", "text"]
LETTERS = "ABCDEFGH"
QUESTION_FIELDS = ("question", "prompt", "instructions", "turns", "input", "text", "query", "problem", "instruction",
                   "goal")
ANSWER_FIELDS = ("answer", "target", "best answer", "canonical_solution", "code", "label", "output")
_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt")
_DIALECTS: tuple[tuple[BenchmarkFormat, frozenset[str]], ...] = (
    ("cmmlu", frozenset({"Question", "A", "B", "C", "D", "Answer"})),
    ("ceval", frozenset({"id", "question", "A", "B", "C", "D"})),
    ("humaneval", frozenset({"task_id", "prompt", "entry_point"})),
    ("mbpp", frozenset({"task_id", "text", "code"})))


class BenchmarkSource(Settings):
    """A benchmark's folder or file, as it was published."""

    path: InputPath
    name: Annotated[str, Field(min_length=1)] | None = None
    """What reports call it; the last part of the path when not set."""
    format: BenchmarkFormat = "auto"
    """auto tells every file by its content and leaves out those without questions (answer keys, prompts); a plain
    text file, one question per line, counts only where a folder holds nothing else. records: CSV, JSON or JSON lines
    with named fields."""
    question_field: str | None = None
    """Where records hold the question; found by its usual names when not set."""
    answer_field: str | None = None
    """Where records hold the answer."""

    @property
    def label(self) -> str:
        return self.name or self.path.name


@dataclass(frozen=True)
class Question:
    """One question; `file` is its path below the benchmark and `row` its place there, from 0.

    `text` is the question with a passage that belongs to it, without the choices `options`; `answer` is the right
    choice's text where there are choices. A reading-comprehension passage (SQuAD form) is no part of its questions:
    it is a quotation that clean text holds too.
    """

    benchmark: str
    file: str
    row: int
    text: str
    options: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True)
class Benchmark:
    """What was read of a source: its questions, the files per format found, and the files left out."""

    name: str
    questions: tuple[Question, ...]
    formats: dict[str, int]
    left_out: tuple[str, ...]

    def describe(self) -> str:
        """One line that says what was recognised."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.formats.items()))
        left = f"; left out: {len(self.left_out)} files without questions" if self.left_out else ""
        return f"{self.name}: {len(self.questions):,} questions from {kinds} files{left}"


def read_benchmark(source: BenchmarkSource) -> Benchmark:
    """Every question of a source, files in the order of their names.

    Raises `InputError` where the path is missing, a file is damaged or not one question is recognised.
    """
    if not source.path.exists():
        raise InputError("no such benchmark", where=source.path, fix="give the path of a benchmark's folder or file")
    questions: list[Question] = []
    formats: Counter[str] = Counter()
    left_out: list[str] = []
    for path in _files(source):
        name = path.name if path == source.path else path.relative_to(source.path).as_posix()
        kind, rows = _read_file(path, source)
        read = [Question(source.label, name, row, *parts) for row, parts in rows if parts[0].strip()]
        questions += read
        if read:
            formats[kind] += 1
        else:
            left_out.append(name)
    if not questions:
        raise InputError(f"no question recognised in {len(left_out)} files of format {source.format}",
                         where=source.path, fix="set `format`, or `question_field` for CSV, JSON or JSON lines of "
                         f"your own (fields known: {', '.join(QUESTION_FIELDS)})")
    return Benchmark(source.label, tuple(questions), dict(formats), tuple(left_out))


Parts = tuple[str, tuple[str, ...], str]


def _files(source: BenchmarkSource) -> list[Path]:
    if source.path.is_file():
        return [source.path]
    files = [file for file in sorted(source.path.rglob("*")) if file.is_file() and _suffix(file) in _SUFFIXES
             and not any(part.startswith(".") for part in file.relative_to(source.path).parts)]
    tables = [file for file in files if _suffix(file) != ".txt"]
    return tables if source.format == "auto" and tables else files


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(path: Path, source: BenchmarkSource) -> tuple[str, Iterator[tuple[int, Parts]]]:
    """The format's name and the numbered questions of one file."""
    text = _text(path)
    suffix = _suffix(path)
    if source.format == "text" or suffix == ".txt":
        return "text", ((row, (line, (), "")) for row, line in enumerate(text.splitlines()))
    if suffix == ".tsv":
        return "mgsm", _headless(text, "\t")
    if suffix == ".csv" and (source.format == "mmlu" or (source.format == "auto" and _is_mmlu(text))):
        return "mmlu", _headless(text, ",")
    records = _records(text, suffix, path)
    kind, form = _kind(records), source.format
    if form not in ("auto", "records") and kind != form:
        return kind, iter(())
    if kind == "squad":
        return kind, enumerate(_squad(records))
    return kind, ((row, _parts(record, source)) for row, record in enumerate(records))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as UTF-8 text: {error}", where=path, fix="fetch the file again") from None


def _table(text: str, delimiter: str) -> Iterator[list[str]]:
    return (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row)


def _is_mmlu(text: str) -> bool:
    first = next(_table(text, ","), [])
    return len(first) == 6 and first[-1].strip() in tuple("ABCD") and first[2:] != list("ABCD")


def _headless(text: str, delimiter: str) -> Iterator[tuple[int, Parts]]:
    """MMLU (question, choices, letter) and MGSM (question, answer)."""
    for row, (first, *rest) in enumerate(_table(text, delimiter)):
        options, answer = tuple(rest[:-1]), rest[-1].strip() if rest else ""
        yield row, (first, options, _choice(answer, options))


def _records(text: str, suffix: str, path: Path) -> list[Mapping[str, Any]]:
    if suffix == ".csv":
        header, *rows = list(_table(text, ",")) or [[]]
        return [dict(zip(header, row, strict=False)) for row in rows]
    try:
        return list(_objects(json.loads(text)))
    except ValueError:
        pass
    try:
        return [record for line in text.split("\n") if line.strip() for record in _objects(json.loads(line))]
    except ValueError as error:
        raise InputError(f"neither JSON nor JSON lines: {error}", where=path, fix="correct or remove it") from None


def _objects(value: Any) -> Iterable[Mapping[str, Any]]:
    """The rows of a JSON document: a list, one object, or the list an object holds under its usual names."""
    if isinstance(value, dict):
        inner = next((value[key] for key in ("examples", "example", "data") if isinstance(value.get(key), list)), None)
        value = [value] if inner is None else inner
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _kind(records: list[Mapping[str, Any]]) -> str:
    keys = set(records[0]) if records else set()
    if "paragraphs" in keys:
        return "squad"
    if keys in ({"input", "target"}, {"question", "answer"}):
        return "bbh" if "input" in keys else "gsm8k"
    return next((name for name, needed in _DIALECTS if needed <= keys), "records")


def _squad(records: list[Mapping[str, Any]]) -> Iterator[Parts]:
    for article in records:
        for paragraph in article["paragraphs"]:
            for asked in paragraph.get("qas", ()):
                answers = asked.get("answers") or [{}]
                yield str(asked.get("question", "")), (), str(answers[0].get("text", ""))


def _parts(record: Mapping[str, Any], source: BenchmarkSource) -> Parts:
    fields = {str(key).lower(): value for key, value in record.items()}
    question = _first(fields, (source.question_field,) if source.question_field else QUESTION_FIELDS)
    passage = _plain(fields.get("passage"))
    options = fields.get("options")
    if not isinstance(options, list):
        options = [fields[letter.lower()] for letter in LETTERS if letter.lower() in fields]
    choices = tuple(map(_plain, options))
    answer = _first(fields, (source.answer_field,) if source.answer_field else ANSWER_FIELDS)
    text = "\n".join(filter(None, (passage, question))) if question else ""
    return text, choices, _choice(answer, choices)


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((_plain(fields[name.lower()]) for name in names if fields.get(name.lower())), "")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(_plain, value))
    return "" if value is None or isinstance(value, dict) else str(value)


def _choice(answer: str, options: tuple[str, ...]) -> str:
    """The text of the choice a letter names; other answers as they stand."""
    letter = answer.strip(" ()（）")
    return options[LETTERS.index(letter)] if len(letter) == 1 and letter in LETTERS[:len(options)] else answer
