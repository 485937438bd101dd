"""Where raw documents lie: the files of a source, told apart by name, checked before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from headwater.errors import InputError
from headwater.settings import InputPath, Settings

Format = Literal["html", "warc", "jsonl", "parquet", "text"]
SUFFIXES: dict[str, Format] = {".html": "html", ".htm": "html", ".xhtml": "html", ".warc": "warc", ".jsonl": "jsonl",
                               ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text", ".md": "text"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class Source(Settings):
    """A file or a folder of raw documents."""

    path: InputPath
    format: Literal["auto", "html", "warc", "jsonl", "parquet", "text"] = "auto"
    """auto: every file by its suffix (.html .htm .xhtml .warc .jsonl .ndjson .parquet .txt .md, each also .gz or
    .zst), the others are counted as not readable. A named format takes only that format's files of a folder, and a
    single file whatever its name."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """Kept beside every document; the last part of the path when not set."""
    licence: str | None = None
    """Kept beside every document."""
    text_column: str = "text"
    """Where JSON lines and Parquet hold the text."""
    include: Annotated[tuple[str, ...], Field(min_length=1)] = ("**/*",)
    """Glob patterns relative to the folder."""
    exclude: tuple[str, ...] = ()
    """Patterns of what to leave out, in the same form."""

    @field_validator("include", "exclude")
    @classmethod
    def _patterns_are_relative(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            parts = PurePosixPath(pattern).parts
            if not parts or pattern.startswith("/") or ".." in parts or any("**" in p and p != "**" for p in parts):
                raise ValueError(f"the pattern {pattern!r} must be relative to the folder, like '**/*.html'")
        return patterns

    @property
    def label(self) -> str:
        """The name kept beside every document: `name`, or the last part of the path."""
        return _shown(self.name or self.path.name)


@dataclass(frozen=True)
class Shard:
    """One input file. `name` is its path from the source's folder on (it becomes part of the provenance), `size` is in
    bytes; `format` is None for a file that no reader knows."""

    path: Path
    name: str
    size: int
    format: Format | None
    source: str
    licence: str | None
    text_column: str


def list_shards(sources: list[Source]) -> list[Shard]:
    """Every input file, in the order of the sources and then of the names.

    Raises `InputError` for a path that is missing or holds no file of the format.
    """
    return [shard for source in sources for shard in _shards_of(source)]


def status(file: Path) -> os.stat_result:
    """Size and time of a file, of a link that leads nowhere its own."""
    return file.stat() if file.exists() else file.lstat()


def compression(path: Path) -> str | None:
    """ "gzip" or "zstd" by the last suffix, or None."""
    return COMPRESSIONS.get(path.suffix.lower())


def _shards_of(source: Source) -> Iterator[Shard]:
    if not source.path.exists():
        raise InputError("no such file or folder", where=source.path, fix="give the path of an existing source")
    single = source.path.is_file()
    files = [source.path] if single else _files_below(source)
    found = 0
    for file in files:
        kind = _format_of(file)
        if source.format != "auto" and kind != source.format:
            if not single:
                continue
            kind = source.format
        found += 1
        below = _shown(file.name if single else file.relative_to(source.path).as_posix())
        name = below if single and source.name is None else f"{source.label}/{below}"
        size = file.stat().st_size if file.exists() else 0
        yield Shard(file, name, size, kind, source.label, source.licence, source.text_column)
    if not found:
        wanted = "file" if source.format == "auto" else f"{source.format} file"
        raise InputError(f"the folder holds no {wanted} matching {', '.join(source.include)}", where=source.path,
                         fix=f"check the path, `format` and `include`; suffixes read: {', '.join(SUFFIXES)}")


def _shown(name: str) -> str:
    """A file's name may be any bytes; what is kept of it beside a document is text."""
    return os.fsencode(name).decode("utf-8", "replace")


def _files_below(source: Source) -> list[Path]:
    left_out = {file for pattern in source.exclude for file in source.path.glob(pattern)}
    files = {file for pattern in source.include for file in source.path.glob(pattern)
             if file.is_file() or (file.is_symlink() and not file.exists())} - left_out
    shown = {file for file in files if not any(part.startswith(".") for part in file.relative_to(source.path).parts)}
    return sorted(shown, key=lambda file: file.relative_to(source.path).parts)


def _format_of(file: Path) -> Format | None:
    name = PurePosixPath(file.name.lower())
    return SUFFIXES.get(PurePosixPath(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix)
