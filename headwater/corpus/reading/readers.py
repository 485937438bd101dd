"""Raw documents out of files, streamed: HTML pages, WARC archives, JSON lines, Parquet, plain text."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.reading.encodings import decode
from headwater.corpus.reading.members import message
from headwater.corpus.reading.sources import Shard
from headwater.corpus.reading.streams import LARGEST, lines, opened, seekable
from headwater.corpus.reading.tidying import without_surrogates
from headwater.errors import MissingExtraError

ROWS = 256
"""Parquet rows decoded at a time."""
NOT_JSON, NOT_UTF8 = "row is not JSON", "row is not UTF-8"
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
    with opened(shard) as (stream, unpacking):
        content = stream.read(LARGEST + 1)
        if unpacking.gap:
            yield Raw(shard.name, problem=DAMAGED, detail=str(unpacking.gap))
        elif len(content) > LARGEST:
            yield Raw(shard.name, problem=TOO_LARGE)
        else:
            yield Raw(shard.name, content, html=shard.format == "html")


def read_jsonl(shard: Shard, begin: int = 0, end: int | None = None, first: int = 0) -> Iterator[Raw]:
    """One document per line: the text column, and `url` and `licence` where the object has them.

    Behind damage of a compressed file lines are numbered on from those that were read.
    """
    number, resumed = first, False
    with opened(shard, begin) as (stream, unpacking):
        while True:
            for line in lines(stream):
                number += 1
                if unpacking.gap and not line.endswith(b"\n"):
                    continue  # the line in which the compressed stream broke off
                document = _line_document(line, f"{shard.name}#{number}", number, shard.text_column)
                # Behind a gap the first line may be the end of one that is counted with the gap.
                if document and not (resumed and document.problem in (NOT_JSON, NOT_UTF8)):
                    yield document
                resumed = False
                if end is not None and stream.tell() >= end - begin:
                    return
            if unpacking.gap:
                yield Raw(shard.name, problem=DAMAGED, detail=f"after {number} lines: {unpacking.gap}")
            if not unpacking.resume():
                return
            resumed = True


def json_row(line: bytes) -> Any:
    """The value of a JSON line in UTF-8, or else in the encoding that pages would be read in.

    Raises `UnicodeError` for bytes that are no text, `ValueError` and `RecursionError` for text that is not JSON.
    """
    try:
        return json.loads(line)
    except UnicodeDecodeError:
        return json.loads(decode(line)[0])


def _line_document(line: bytes, place: str, number: int, text_column: str) -> Raw | None:
    if len(line) > LARGEST:
        return Raw(place, problem=TOO_LARGE, detail=f"line {number}")
    if not line.strip():
        return None
    try:
        row = json_row(line)
    except UnicodeError as error:
        return Raw(place, problem=NOT_UTF8, detail=f"line {number}: {message(error)}")
    except (ValueError, RecursionError) as error:
        return Raw(place, problem=NOT_JSON, detail=f"line {number}: {message(error)}")
    if not isinstance(row, dict) or not isinstance(row.get(text_column), str):
        found = ", ".join(map(str, list(row)[:12])) if isinstance(row, dict) else type(row).__name__
        return Raw(place, problem="row has no text", detail=f"line {number}: no text under '{text_column}' ({found})")
    return _row_document(row, place, text_column)


def _row_document(row: dict[str, Any], place: str, text_column: str) -> Raw:
    known = [row.get(name) for name in ("url", "licence", "license")]
    url, *licences = [value if isinstance(value, str) else "" for value in known]
    content = without_surrogates(row[text_column]).encode()  # JSON may escape half a surrogate pair
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
    """The response records of a web archive.

    With a damaged record head the records that FastWARC had read ahead are lost, some 64 KiB, not the archive.
    """
    try:
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    except ImportError as error:
        raise MissingExtraError(f"reading WARC needs fastwarc ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    number = 0
    with opened(shard, opening=b"WARC/") as (stream, unpacking):
        while True:
            try:
                for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=False,
                                              stream_detect=False):
                    number += 1
                    yield _response(record, shard.name)
            except OSError as error:
                if not unpacking.gap:
                    yield Raw(shard.name, problem=DAMAGED, detail=f"after {number} responses: {message(error)}")
                    if _skip_to_record(stream):
                        continue
            if unpacking.gap:
                yield Raw(shard.name, problem=DAMAGED, detail=f"after {number} responses: {unpacking.gap}")
            if not unpacking.resume():
                return


def _skip_to_record(stream: io.BufferedReader) -> bool:
    """Whether another record begins behind what FastWARC has read ahead; the stream then stands there."""
    while line := stream.readline(LARGEST):
        if line == b"\r\n" and stream.peek(5).startswith(b"WARC/"):
            return True
    return False


def _response(record: Any, name: str) -> Raw:
    url = record.headers.get("WARC-Target-URI") or f"{name}#{record.stream_pos}"
    expected = record.content_length
    if expected > LARGEST:
        return Raw(url, problem=TOO_LARGE, detail=f"{expected} bytes")
    message_bytes = record.reader.read(expected)
    if not expected or len(message_bytes) < expected:
        return Raw(url, problem=DAMAGED, detail=f"{len(message_bytes)} of {expected} bytes of the record")
    try:
        page = _parsed(message_bytes, url, decoded=True)
    except (OSError, ValueError, AttributeError) as error:
        damaged = Raw(url, problem="damaged HTTP response", detail=message(error))
        with suppress(OSError, ValueError, AttributeError):
            # Some archives keep the header of an encoding they have undone.
            page = _parsed(message_bytes, url, decoded=False)
            return page if page.problem or page.content[:1024].lstrip().startswith(b"<") else damaged
        return damaged
    return page


def _parsed(http: bytes, url: str, decoded: bool) -> Raw:
    """The page of an HTTP response. Parsed from memory, so that no damage in it reaches the archive's stream.

    `decoded`: whether the transfer and content encodings it names are undone. Raises `OSError` where they cannot be.
    """
    from fastwarc.warc import ArchiveIterator

    head = f"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: {len(http)}\r\n\r\n"
    record = next(iter(ArchiveIterator(io.BytesIO(head.encode() + http), parse_http=False, stream_detect=False)))
    record.parse_http(auto_decode="all" if decoded else "none")
    status, kind = record.http_headers.status_code, (record.http_content_type or "text/html").lower()
    content = record.reader.read(LARGEST + 1)  # the body may be compressed and unpack to anything
    if len(content) > LARGEST:
        return Raw(url, problem=TOO_LARGE)
    if status != 200:
        return Raw(url, problem="not a page", detail=f"HTTP status {status}")
    if "html" not in kind and not kind.startswith("text/plain"):
        return Raw(url, problem="not HTML", detail=kind)
    return Raw(url, content, html="html" in kind, charset=record.http_charset)
