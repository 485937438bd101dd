"""Questions of benchmarks, read out of the files in which they are published; a folder's format is told by content."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """auto tells every file by its content and leaves out those without questions (answer keys, prompts, plain
    text). records: CSV, TSV, JSON or JSON lines with named fields. text: one question per line; never guessed, for
    a text file is as likely an essay."""
    question_field: str | None = None
    """Where records hold the question; found by its usual names when not set. A list holds a question each."""
    answer_field: str | None = None
    """Where records hold the answer."""

    @property
    def label(self) -> str:
        return self.name or self.path.name


@dataclass(frozen=True)
class Question:
    """One question; `file` is its path below the benchmark and `row` its place there, from 1.

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
        read = [Question(source.label, name, row + 1, *parts) for row, parts in rows if parts[0].strip()]
        questions += read
        if read:
            formats[kind] += 1
        else:
            left_out.append(name)
    if not questions:
        raise InputError(f"no question recognised in {len(left_out)} files (format: {source.format})",
                         where=source.path, fix="set `format` (text for plain text, one question per line), or "
                         "`question_field` for CSV, JSON or JSON lines of your own (fields known: "
                         f"{', '.join(QUESTION_FIELDS)})")
    return Benchmark(source.label, tuple(questions), dict(formats), tuple(left_out))


Parts = tuple[str, tuple[str, ...], str]


def _files(source: BenchmarkSource) -> list[Path]:
    if source.path.is_file():
        return [source.path]
    suffixes = (".txt",) if source.format == "text" else _SUFFIXES
    return [file for file in sorted(source.path.rglob("*")) if file.is_file() and _suffix(file) in suffixes
            and not any(part.startswith(".") for part in file.relative_to(source.path).parts)]


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_file(path: Path, source: BenchmarkSource) -> tuple[str, Iterator[tuple[int, Parts]]]:
    """The format's name and the numbered questions of one file."""
    suffix, form = _suffix(path), source.format
    if (suffix == ".txt") != (form == "text"):
        return "text", iter(())
    text = _text(path)
    if form == "text":
        return "text", ((row, (line, (), "")) for row, line in enumerate(text.split("\n")))
    rows = _table(text, "\t" if suffix == ".tsv" else ",", path) if suffix in (".csv", ".tsv") else []
    if suffix == ".tsv" and form in ("auto", "mgsm"):
        return "mgsm", _headless(rows, 2, path)
    if suffix == ".csv" and (form == "mmlu" or (form == "auto" and _is_mmlu(rows))):
        return "mmlu", _headless(rows, 6, path)
    records = _named(rows, path) if suffix in (".csv", ".tsv") else _records(text, path)
    kind = _kind(records)
    if form not in ("auto", "records") and kind != form:
        return kind, iter(())
    if kind == "squad":
        return kind, enumerate(_squad(records))
    return kind, ((row, parts) for row, record in enumerate(records) for parts in _parts(record, source))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read: {error}", where=path, fix="fetch the file again") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {line} is not UTF-8 text: {error.reason}", where=path,
                         fix="fetch the file again, or convert it to UTF-8") from None


def _table(text: str, delimiter: str, path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line on which it ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not {_suffix(path)[1:].upper()}: {error}", where=path,
                         fix="correct the line") from None


def _is_mmlu(rows: Sequence[tuple[int, list[str]]]) -> bool:
    first = rows[0][1] if rows else []
    return len(first) == 6 and first[-1].strip() in tuple("ABCD") and first[2:] != list("ABCD")


def _headless(rows: Iterable[tuple[int, list[str]]], columns: int, path: Path) -> Iterator[tuple[int, Parts]]:
    """MMLU (question, choices, letter) and MGSM (question, answer)."""
    for number, (line, row) in enumerate(rows):
        if len(row) != columns:
            raise InputError(f"line {line} has {len(row)} columns where {columns} were expected", where=path,
                             fix="correct the line, or set `format` to records if the first row names the columns")
        options, answer = tuple(row[1:-1]), row[-1].strip()
        yield number, (row[0], options, _choice(answer, options))


def _named(rows: Sequence[tuple[int, list[str]]], path: Path) -> list[Mapping[str, Any]]:
    """Rows under the names of the first one."""
    header = rows[0][1] if rows else []
    for line, row in rows[1:]:
        if len(row) > len(header):
            raise InputError(f"line {line} has {len(row)} columns, the first row {len(header)}", where=path,
                             fix="correct the line")
    return [dict(zip(header, row, strict=False)) for _, row in rows[1:]]


def _records(text: str, path: Path) -> list[Mapping[str, Any]]:
    try:
        return list(_objects(json.loads(text)))
    except (ValueError, RecursionError) as error:
        whole = error
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            records += _objects(json.loads(line)) if line.strip() else ()
        except (ValueError, RecursionError) as error:
            what = f"line {number} is not JSON: {error}" if records else f"neither JSON nor JSON lines: {whole}"
            raise InputError(what, where=path, fix="correct or remove it") from None
    return records


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
    asked = (question for article in records for paragraph in _objects(article.get("paragraphs"))
             for question in _objects(paragraph.get("qas")))
    for question in asked:
        answers = _objects(question.get("answers"))
        yield _plain(question.get("question")), (), _plain(next(iter(answers), {}).get("text"))


def _parts(record: Mapping[str, Any], source: BenchmarkSource) -> Iterator[Parts]:
    """The questions of one record: several where its field holds a list of them (turns, instructions)."""
    fields = {str(key).lower(): value for key, value in record.items()}
    asked = _first(fields, (source.question_field,) if source.question_field else QUESTION_FIELDS)
    options = fields.get("options")
    if not isinstance(options, list):
        options = [fields[letter.lower()] for letter in LETTERS if letter.lower() in fields]
    choices = tuple(map(_plain, options))
    answer = _plain(_first(fields, (source.answer_field,) if source.answer_field else ANSWER_FIELDS))
    for question in filter(None, map(_plain, asked if isinstance(asked, list) else [asked])):
        text = "\n".join(filter(None, (_plain(fields.get("passage")), question)))
        yield text, choices, _choice(answer, choices)


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((fields[name.lower()] for name in names if fields.get(name.lower())), None)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(_plain, value))
    return "" if value is None or isinstance(value, dict) else str(value)


def _choice(answer: str, options: tuple[str, ...]) -> str:
    """The text of the choice a letter names; other answers as they stand."""
    letter = answer.strip(" ()（）")
    return options[LETTERS.index(letter)] if len(letter) == 1 and letter in LETTERS[:len(options)] else answer
