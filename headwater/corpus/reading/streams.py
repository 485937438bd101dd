"""The bytes of an input file, decompressed; damage is told and passed over, it raises nothing."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from headwater.artifacts import storage_errors
from headwater.corpus.reading.members import BLOCK, Gap, message, unpacked
from headwater.corpus.reading.sources import Shard, compression

LARGEST = 64 << 20
"""Bytes of the longest document that is read: a compressed file may unpack to anything."""
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """The lines; of one that is too large its beginning, the rest skipped."""
    while line := stream.readline(LARGEST + 1):
        rest = line
        while len(rest) > LARGEST and not rest.endswith(b"\n"):
            rest = stream.readline(LARGEST + 1)
        yield line


class Unpacked(io.RawIOBase):
    """Unpacked bytes of a file. At damage they end: `gap` tells it, and after `resume` they go on behind it."""

    def __init__(self, pieces: Iterator[bytes | Gap]) -> None:
        self.pieces, self.piece, self.position = pieces, memoryview(b""), 0
        self.gap: Gap | None = None

    def resume(self) -> bool:
        """Whether there was a gap and anything can be read behind it."""
        more = self.gap is not None and self.gap.more
        if more:
            self.gap = None
        return more

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
        while not self.piece and self.gap is None:
            following = next(self.pieces, None)
            if following is None:
                return 0
            if isinstance(following, Gap):
                self.gap = following
            else:
                self.piece = memoryview(following)
        size = min(len(buffer), len(self.piece))
        buffer[:size], self.piece = self.piece[:size], self.piece[size:]
        self.position += size
        return size


@contextmanager
def opened(shard: Shard, begin: int = 0, opening: bytes = b"") -> Iterator[tuple[io.BufferedReader, Unpacked]]:
    """The shard's unpacked stream, and what tells where it is damaged. JSON lines in UTF-16 are given in UTF-8.

    `begin` is a byte of an uncompressed file; positions of the stream count from there. `opening`: what a member of
    a compressed file begins with, see `members.unpacked`.
    """
    kind = compression(shard.path)
    with open(shard.path, "rb") as file:
        pieces = _blocks(file, begin) if kind is None else unpacked(file, kind, opening)
        unpacking = Unpacked(_as_utf8(pieces) if shard.format == "jsonl" and not begin else pieces)
        yield io.BufferedReader(unpacking, 1 << 17), unpacking


def is_utf16(path: Path) -> bool:
    """Whether an uncompressed file begins with the byte order mark of UTF-16."""
    with open(path, "rb") as file:
        return file.read(2) in _UTF16


def _blocks(file: BinaryIO, begin: int) -> Iterator[bytes | Gap]:
    try:
        file.seek(begin)
        while block := file.read(BLOCK):
            yield block
    except OSError as error:
        yield Gap(file.tell(), os.fstat(file.fileno()).st_size, message(error))


def _as_utf8(pieces: Iterator[bytes | Gap]) -> Iterator[bytes | Gap]:
    first = next(pieces, b"")
    if isinstance(first, Gap) or first[:2] not in _UTF16:
        yield from chain([first], pieces)
        return
    decoder = codecs.getincrementaldecoder(_UTF16[first[:2]])("replace")
    for piece in chain([first[2:]], pieces):
        yield piece if isinstance(piece, Gap) else decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


@contextmanager
def seekable(shard: Shard) -> Iterator[Any]:
    """The Parquet file itself, or its decompressed copy on disk."""
    if compression(shard.path) is None:
        with _file(shard) as stream:
            yield stream
        return
    with opened(shard) as (stream, unpacking), tempfile.TemporaryFile() as copy:
        with storage_errors(Path(tempfile.gettempdir())):  # a full disk here is no damage of the source
            shutil.copyfileobj(stream, copy, 1 << 20)
        if unpacking.gap:
            raise OSError(str(unpacking.gap))
        copy.seek(0)
        yield copy


def _file(shard: Shard) -> pa.NativeFile:
    return pa.OSFile(os.fsencode(shard.path))  # names may be any bytes
