"""The rows of a JSON array or of JSON lines, read part by part, each with the line on which it begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from headwater.artifacts import not_utf8, numbered_jsonl
from headwater.errors import InputError

PART = 1 << 20
LONGEST = 1 << 26
"""Characters of a row; what is still no JSON after so many never will be."""
_BLANKS = " \t\r\n"


class Row(NamedTuple):
    """One value of a file."""

    value: Any
    place: str
    """File and line, for messages."""


class BadRow(Exception):
    """A row that is no dialogue: why, where in it, and what to do."""

    def __init__(self, reason: str, *, turn: int | None = None, fix: str = "correct or remove the row") -> None:
        super().__init__(reason)
        self.reason, self.turn, self.fix = reason, turn, fix


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises `ValueError` for a key that it has twice: which of the two is meant, nobody can tell."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def read_rows(path: Path) -> Iterator[Row]:
    """The file's rows in order; which of the two it is, its first character says. Raises `InputError` with the line
    for what is missing, cut off, no JSON, or has a key twice."""
    if path.is_dir():
        raise InputError("this is a folder", where=path, fix="give the files in it")
    if not path.is_file():
        raise InputError("no such file", where=path, fix="check the path")
    with open(path, encoding="utf-8-sig") as stream:
        try:
            is_array = _is_array(stream)
            if is_array:
                yield from _array(stream, path)
        except UnicodeDecodeError:
            raise not_utf8(path) from None
    if not is_array:
        yield from (Row(value, f"{path}, line {line}") for line, value in numbered_jsonl(path, _DECODER.decode))


def _is_array(stream: IO[str]) -> bool:
    """Whether the first character that is no blank opens an array; the stream begins again."""
    while (character := stream.read(1)) and character in _BLANKS:
        pass
    stream.seek(0)
    return character == "["


class _Text:
    """A window on a stream that is only as long as the row being read."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.text, self.at, self.line, self.ended = stream, "", 0, 1, False

    def more(self) -> bool:
        """Read on, dropping what is done; False at the end."""
        part = self.stream.read(max(PART, len(self.text) - self.at))  # doubling: a long row is not read too often
        self.text, self.at, self.ended = self.text[self.at :] + part, 0, not part
        return not self.ended

    def advance(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def next(self) -> str:
        """The next character that is no blank, still unread; "" at the end."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] in _BLANKS:
                end += 1
            self.advance(end)
            if end < len(self.text):
                return self.text[end]
            if not self.more():
                return ""


def _array(stream: IO[str], path: Path) -> Iterator[Row]:
    text, number = _Text(stream), 0
    text.next()
    text.advance(text.at + 1)
    if text.next() == "]":
        return
    while True:
        number += 1
        text.next()
        place = f"{path}, row {number} on line {text.line}"
        yield Row(_value(text, place), place)
        found = text.next()
        if found not in (",", "]"):
            what = f"line {text.line}: the array is cut off or broken after row {number}"
            raise InputError(what, where=path, fix="write the file again")
        text.advance(text.at + 1)
        if found == "]":
            break
    if text.next():
        raise InputError(f"line {text.line}: more text behind the array", where=path, fix="write one array")


def _value(text: _Text, place: str) -> Any:
    """The JSON value that begins here, read as far as it goes."""
    while True:
        try:
            value, end = _DECODER.raw_decode(text.text, text.at)
            if end < len(text.text) or text.ended:  # a number might go on beyond the window
                text.advance(end)
                return value
        except RecursionError:
            raise InputError("nested too deeply", where=place, fix="correct that row") from None
        except json.JSONDecodeError as error:
            line = text.line + text.text.count("\n", text.at, error.pos)
            if len(text.text) - text.at >= LONGEST or not text.more():
                raise InputError(f"not valid JSON: {error.msg} (line {line})", where=place,
                                 fix="correct that row") from None
        except ValueError as error:
            raise InputError(f"not valid JSON: {error}", where=place, fix="correct that row") from None
        else:
            text.more()
