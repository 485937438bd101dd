"""Raw documents out of files, streamed: HTML pages, WARC archives, JSON lines, Parquet, plain text."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.sources import Format, Shard, compression, require_text_column
from headwater.errors import InputError, MissingExtraError

ROWS = 256
"""Parquet rows decoded at a time."""
DAMAGED, TOO_LARGE = "damaged or truncated file", "larger than 64 MiB"
LARGEST = 64 << 20
"""Bytes of the longest document that is read: a compressed file may unpack to anything."""


@dataclass(frozen=True)
class Raw:
    """A document as it was found, or, where `problem` is set, the account of one that could not be read.

    `content` is HTML or text in some encoding (`charset`: as HTTP gave it); text from JSON and Parquet is UTF-8.
    """

    url: str
    content: bytes = b""
    html: bool = False
    charset: str | None = None
    problem: str | None = None
    detail: str = ""


def read(shard: Shard) -> Iterator[Raw]:
    """The shard's documents in order. What cannot be read comes as a `Raw` with a `problem`; reading goes on."""
    if shard.format is None:
        yield Raw(shard.name, problem="unknown kind of file", detail="no reader knows its suffix")
        return
    try:
        yield from _READERS[shard.format](shard)
    except (InputError, OSError, EOFError, ValueError, pa.ArrowException) as error:
        yield Raw(shard.name, problem=DAMAGED, detail=_message(error))


def read_pages(shard: Shard) -> Iterator[Raw]:
    """One HTML page or one plain text per file."""
    with _open(shard) as (stream, damage):
        content = stream.read(LARGEST + 1)
        if damage():
            yield Raw(shard.name, problem=DAMAGED, detail=damage())
        elif len(content) > LARGEST:
            yield Raw(shard.name, problem=TOO_LARGE)
        else:
            yield Raw(shard.name, content, html=shard.format == "html")


def read_jsonl(shard: Shard) -> Iterator[Raw]:
    """One document per line: the text column, and `url` where the object has one."""
    number = 0
    with _open(shard) as (stream, damage):
        for number, line in enumerate(_lines(stream), 1):
            if damage() and not line.endswith(b"\n"):
                break  # the line in which the compressed stream broke off
            if len(line) > LARGEST:
                yield Raw(f"{shard.name}#{number}", problem=TOO_LARGE, detail=f"line {number}")
            elif line.strip():
                yield _json_document(line, f"{shard.name}#{number}", number, shard.text_column)
        if damage():
            yield Raw(shard.name, problem=DAMAGED, detail=f"after {number} lines: {damage()}")


def _lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """The lines; of one that is too large its beginning, the rest skipped."""
    while line := stream.readline(LARGEST + 1):
        yield line
        while len(line) > LARGEST and not line.endswith(b"\n"):
            line = stream.readline(LARGEST + 1)


def _json_document(line: bytes, place: str, number: int, text_column: str) -> Raw:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return Raw(place, problem="row is not UTF-8", detail=f"line {number}: {_message(error)}")
    except (ValueError, RecursionError) as error:
        return Raw(place, problem="row is not JSON", detail=f"line {number}: {_message(error)}")
    if not isinstance(row, dict) or not isinstance(row.get(text_column), str):
        found = ", ".join(map(str, list(row)[:12])) if isinstance(row, dict) else type(row).__name__
        return Raw(place, problem="row has no text", detail=f"line {number}: no text under '{text_column}' ({found})")
    url = row.get("url")
    return Raw(url if isinstance(url, str) and url else place, row[text_column].encode("utf-8", "surrogatepass"))


def read_parquet(shard: Shard) -> Iterator[Raw]:
    """One document per row, row group by row group; a damaged row group is counted and the next one read."""
    with _seekable(shard) as stream:
        file = pq.ParquetFile(stream)
        require_text_column(file.schema_arrow, shard)
        columns = [shard.text_column, *(["url"] if "url" in file.schema_arrow.names else [])]
        row = 0
        for group in range(file.num_row_groups):
            end = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
                    for values in batch.to_pylist():
                        yield _parquet_document(values, f"{shard.name}#{row}", shard.text_column)
                        row += 1
            except (OSError, ValueError, pa.ArrowException) as error:
                yield Raw(f"{shard.name}#{row}", problem=DAMAGED, detail=f"rows {row} to {end - 1}: {_message(error)}")
            row = end


def _parquet_document(values: dict[str, Any], place: str, text_column: str) -> Raw:
    if values[text_column] is None:
        return Raw(place, problem="row has no text", detail="null")
    url = values.get("url")
    return Raw(url if isinstance(url, str) and url else place, values[text_column].encode("utf-8", "surrogatepass"))


def read_warc(shard: Shard) -> Iterator[Raw]:
    """The response records of a web archive."""
    try:
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    except ImportError as error:
        raise MissingExtraError(f"reading WARC needs fastwarc ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    with _open(shard) as (stream, damage):
        records = ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=False, stream_detect=False)
        broken = ""
        try:
            for record in records:
                yield _response(record, shard.name)
        except OSError as error:
            broken = _message(error)
        if broken or damage():
            yield Raw(shard.name, problem=DAMAGED, detail=damage() or broken)


def _response(record: Any, name: str) -> Raw:
    url = record.headers.get("WARC-Target-URI") or f"{name}#{record.stream_pos}"
    expected = record.content_length
    if expected > LARGEST:
        return Raw(url, problem=TOO_LARGE, detail=f"{expected} bytes")
    record.freeze()
    if not expected or record.content_length < expected:
        return Raw(url, problem=DAMAGED, detail=f"{record.content_length} of {expected} bytes of the record")
    try:
        record.parse_http(auto_decode="all")
        status, kind = record.http_headers.status_code, record.http_content_type or "text/html"
        content = record.reader.read()
    except (OSError, ValueError, AttributeError) as error:
        return Raw(url, problem="damaged HTTP response", detail=_message(error))
    if status != 200:
        return Raw(url, problem="not a page", detail=f"HTTP status {status}")
    if "html" not in kind and not kind.startswith("text/plain"):
        return Raw(url, problem="not HTML", detail=kind)
    return Raw(url, content, html="html" in kind, charset=record.http_charset)


_READERS: dict[Format, Callable[[Shard], Iterator[Raw]]] = {
    "html": read_pages, "text": read_pages, "jsonl": read_jsonl, "parquet": read_parquet, "warc": read_warc}


class _Decompressed(io.RawIOBase):
    """Decompressed bytes of a file; where the file is damaged they end, and `damage` says why."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.damage, self.position = inner, "", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # forwards only: FastWARC asks where it stands and skips records

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        ahead = offset - self.position if whence == io.SEEK_SET else offset
        if ahead < 0 or whence == io.SEEK_END:
            raise io.UnsupportedOperation("a compressed stream is read forwards")
        while ahead and (skipped := len(self.read(min(ahead, 1 << 17)) or b"")):
            ahead -= skipped
        return self.position

    def readinto(self, buffer: Any) -> int:
        if self.damage:
            return 0
        try:
            data = self.inner.read1(len(buffer)) if isinstance(self.inner, gzip.GzipFile) else self.inner.read(
                len(buffer))
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            self.damage = _message(error)
            return 0
        buffer[:len(data)] = data
        self.position += len(data)
        return len(data)


@contextmanager
def _open(shard: Shard) -> Iterator[tuple[io.BufferedReader, Callable[[], str]]]:
    """The shard's decompressed stream, and a function that tells where it broke off ("" if nowhere)."""
    kind = compression(shard.path)
    with gzip.open(shard.path) if kind == "gzip" else pa.input_stream(str(shard.path), compression=kind) as opened:
        raw = _Decompressed(opened)
        yield io.BufferedReader(raw, 1 << 17), lambda: raw.damage


@contextmanager
def _seekable(shard: Shard) -> Iterator[Any]:
    """The Parquet file itself, or its decompressed copy on disk."""
    if compression(shard.path) is None:
        with pa.memory_map(str(shard.path)) as stream:
            yield stream
        return
    with _open(shard) as (stream, damage), tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)
        if damage():
            raise OSError(damage())
        copy.seek(0)
        yield copy


def _message(error: BaseException) -> str:
    if isinstance(error, InputError):
        return error.what
    return f"{error or type(error).__name__}".splitlines()[0][:200]
