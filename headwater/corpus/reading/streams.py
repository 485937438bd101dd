"""The bytes of an input file, decompressed; damage ends them and is told, it raises nothing."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.artifacts import storage_errors
from headwater.corpus.reading.sources import Shard, compression

LARGEST = 64 << 20
"""Bytes of the longest document that is read: a compressed file may unpack to anything."""


def lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """The lines; of one that is too large its beginning, the rest skipped."""
    while line := stream.readline(LARGEST + 1):
        rest = line
        while len(rest) > LARGEST and not rest.endswith(b"\n"):
            rest = stream.readline(LARGEST + 1)
        yield line


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
            self.damage = message(error)
            return 0
        buffer[:len(data)] = data
        self.position += len(data)
        return len(data)


@contextmanager
def opened(shard: Shard, begin: int = 0) -> Iterator[tuple[io.BufferedReader, Callable[[], str]]]:
    """The shard's decompressed stream, and a function that tells where it broke off ("" if nowhere).

    `begin` is a byte of an uncompressed file; positions of the stream count from there.
    """
    kind = compression(shard.path)
    with gzip.open(shard.path) if kind == "gzip" else pa.input_stream(_file(shard), compression=kind) as opened:
        if begin:
            opened.seek(begin)
        raw = _Decompressed(opened)
        yield io.BufferedReader(raw, 1 << 17), lambda: raw.damage


@contextmanager
def seekable(shard: Shard) -> Iterator[Any]:
    """The Parquet file itself, or its decompressed copy on disk."""
    if compression(shard.path) is None:
        with _file(shard) as stream:
            yield stream
        return
    with opened(shard) as (stream, damage), tempfile.TemporaryFile() as copy:
        with storage_errors(Path(tempfile.gettempdir())):  # a full disk here is no damage of the source
            shutil.copyfileobj(stream, copy, 1 << 20)
        if damage():
            raise OSError(damage())
        copy.seek(0)
        yield copy


def _file(shard: Shard) -> pa.NativeFile:
    return pa.OSFile(os.fsencode(shard.path))  # names may be any bytes


def message(error: BaseException) -> str:
    return (f"{error}".strip() or type(error).__name__).splitlines()[0][:200]
