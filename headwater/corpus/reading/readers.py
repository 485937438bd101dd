"""Raw documents out of files, streamed: HTML pages, WARC archives, JSON lines, Parquet, plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.reading.sources import Shard
from headwater.corpus.reading.streams import LARGEST, lines, message, opened, seekable
from headwater.errors import MissingExtraError

ROWS = 256
"""Parquet rows decoded at a time."""
DAMAGED, TOO_LARGE = "damaged or truncated file", "larger than 64 MiB"


@dataclass(frozen=True)
class Raw:
    """A document as it was found, or, where `problem` is set, the account of one that could not be read.

    `content` is HTML or text in some encoding (`charset`: as HTTP gave it); text from JSON and Parquet is UTF-8.
    `licence` is the document's own, where a row names one.
    """

    url: str
    content: bytes = b""
    html: bool = False
    charset: str | None = None
    licence: str = ""
    problem: str | None = None
    detail: str = ""


def read(shard: Shard, begin: int = 0, end: int | None = None, first: int = 0) -> Iterator[Raw]:
    """The shard's documents in order. What cannot be read comes as a `Raw` with a `problem`; reading goes on.

    `begin`, `end` and `first` choose a part of it, see `units.Piece`.
    """
    if shard.format is None:
        yield Raw(shard.name, problem="unknown kind of file", detail="no reader knows its suffix")
        return
    if not shard.size:
        yield Raw(shard.name, problem="empty", detail="" if shard.path.exists() else "a link that leads nowhere")
        return
    try:
        if shard.format == "jsonl":
            yield from read_jsonl(shard, begin, end, first)
        elif shard.format == "parquet":
            yield from read_parquet(shard, begin, end, first)
        else:
            yield from (read_warc if shard.format == "warc" else read_pages)(shard)
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        yield Raw(shard.name, problem=DAMAGED, detail=message(error))


def read_pages(shard: Shard) -> Iterator[Raw]:
    """One HTML page or one plain text per file."""
    with opened(shard) as (stream, damage):
        content = stream.read(LARGEST + 1)
        if damage():
            yield Raw(shard.name, problem=DAMAGED, detail=damage())
        elif len(content) > LARGEST:
            yield Raw(shard.name, problem=TOO_LARGE)
        else:
            yield Raw(shard.name, content, html=shard.format == "html")


def read_jsonl(shard: Shard, begin: int = 0, end: int | None = None, first: int = 0) -> Iterator[Raw]:
    """One document per line: the text column, and `url` and `licence` where the object has them."""
    number = first
    with opened(shard, begin) as (stream, damage):
        for number, line in enumerate(lines(stream), first + 1):
            if damage() and not line.endswith(b"\n"):
                break  # the line in which the compressed stream broke off
            if len(line) > LARGEST:
                yield Raw(f"{shard.name}#{number}", problem=TOO_LARGE, detail=f"line {number}")
            elif line.strip():
                yield _json_document(line, f"{shard.name}#{number}", number, shard.text_column)
            if end is not None and stream.tell() >= end - begin:
                break
        if damage():
            yield Raw(shard.name, problem=DAMAGED, detail=f"after {number} lines: {damage()}")


def _json_document(line: bytes, place: str, number: int, text_column: str) -> Raw:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return Raw(place, problem="row is not UTF-8", detail=f"line {number}: {message(error)}")
    except (ValueError, RecursionError) as error:
        return Raw(place, problem="row is not JSON", detail=f"line {number}: {message(error)}")
    if not isinstance(row, dict) or not isinstance(row.get(text_column), str):
        found = ", ".join(map(str, list(row)[:12])) if isinstance(row, dict) else type(row).__name__
        return Raw(place, problem="row has no text", detail=f"line {number}: no text under '{text_column}' ({found})")
    return _row_document(row, place, text_column)


def _row_document(row: dict[str, Any], place: str, text_column: str) -> Raw:
    known = [row.get(name) for name in ("url", "licence", "license")]
    url, *licences = [value if isinstance(value, str) else "" for value in known]
    text: str = row[text_column]
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError:  # JSON may escape half a surrogate pair, which is no character
        content = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")
    if len(content) > LARGEST:
        return Raw(url or place, problem=TOO_LARGE, detail=f"{len(content)} bytes")
    return Raw(url or place, content, licence=licences[0] or licences[1])


def read_parquet(shard: Shard, begin: int = 0, end: int | None = None, first: int = 0) -> Iterator[Raw]:
    """One document per row, row group by row group; a damaged row group is counted and the next one read."""
    with seekable(shard) as stream:
        file = pq.ParquetFile(stream)
        held = file.schema_arrow.names
        columns = [shard.text_column, *(name for name in ("url", "licence", "license") if name in held)]
        row = first
        for group in range(begin, file.num_row_groups if end is None else end):
            after = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
                    for values in batch.to_pylist():
                        row += 1
                        yield _parquet_document(values, f"{shard.name}#{row}", shard.text_column)
            except (OSError, ValueError, pa.ArrowException) as error:
                yield Raw(f"{shard.name}#{row + 1}", problem=DAMAGED,
                          detail=f"rows {row + 1} to {after}: {message(error)}")
            row = after


def _parquet_document(values: dict[str, Any], place: str, text_column: str) -> Raw:
    if values[text_column] is None:
        return Raw(place, problem="row has no text", detail="null")
    return _row_document(values, place, text_column)


def read_warc(shard: Shard) -> Iterator[Raw]:
    """The response records of a web archive."""
    try:
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    except ImportError as error:
        raise MissingExtraError(f"reading WARC needs fastwarc ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    with opened(shard) as (stream, damage):
        records = ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=False, stream_detect=False)
        broken = ""
        try:
            for record in records:
                yield _response(record, shard.name)
        except OSError as error:
            broken = message(error)
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
        content = record.reader.read(LARGEST + 1)  # the body may be compressed and unpack to anything
    except (OSError, ValueError, AttributeError) as error:
        return Raw(url, problem="damaged HTTP response", detail=message(error))
    if len(content) > LARGEST:
        return Raw(url, problem=TOO_LARGE)
    if status != 200:
        return Raw(url, problem="not a page", detail=f"HTTP status {status}")
    if "html" not in kind and not kind.startswith("text/plain"):
        return Raw(url, problem="not HTML", detail=kind)
    return Raw(url, content, html="html" in kind, charset=record.http_charset)

