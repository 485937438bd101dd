"""Compressed files by gzip members or zstd frames: a damaged one is told, and the next intact one read."""

from __future__ import annotations

import io
import re
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

HELD = 1 << 20
"""Bytes unpacked ahead of those given: a damaged member of up to this size gives nothing, a larger one ends that much
before the place where the damage was noticed (decompression notices a flipped bit late, the checksum last)."""
BLOCK = 1 << 16
_MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}
_ERRORS = (OSError, EOFError, zlib.error, pa.ArrowException)
_Member = Generator[bytes, None, int]


@dataclass(frozen=True)
class Gap:
    """Damage between two bytes of a file; `more`: an intact member begins at `end`."""

    begin: int
    end: int
    reason: str
    more: bool = False

    def __str__(self) -> str:
        return f"bytes {self.begin} to {self.end}: {self.reason}"


class _CutShort(EOFError):
    """The file ends within a member. What was unpacked and not yet given (`held`) is right as far as it goes."""

    def __init__(self, held: deque[bytes]) -> None:
        super().__init__("the file ends within a compressed member")
        self.held = held


def unpacked(file: BinaryIO, kind: str, opening: bytes = b"") -> Iterator[bytes | Gap]:
    """The unpacked bytes piece by piece, and in their order a `Gap` for every run of damaged members.

    `kind` is "gzip" or "zstd". After a gap reading goes on with a member that begins with `opening`: a damaged member
    may hold others (a web archive the compressed body of a page), which are none of the file's own.
    """
    begin, size = 0, file.seek(0, io.SEEK_END)
    while begin < size:
        try:
            begin = yield from _member(file, kind, begin)
        except _ERRORS as error:
            found = _next_member(file, kind, begin + 1, opening)
            if found is None and isinstance(error, _CutShort):
                yield from error.held
            end = size if found is None else found
            yield Gap(begin, end, message(error), more=found is not None)
            begin = end


def message(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return (f"{error}".strip() or type(error).__name__).splitlines()[0][:200]


def _next_member(file: BinaryIO, kind: str, begin: int, opening: bytes) -> int | None:
    """Where the next member begins that unpacks, the first `HELD` bytes of a larger one at least."""
    for place in _places(file, _MAGIC[kind], begin):
        with suppress(*_ERRORS):
            if next(_member(file, kind, place), b"").startswith(opening):
                return place
    return None


def _places(file: BinaryIO, magic: bytes, begin: int) -> Iterator[int]:
    while True:
        file.seek(begin)
        if len(block := file.read(BLOCK)) < len(magic):
            return
        yield from (begin + match.start() for match in re.finditer(re.escape(magic), block))
        begin += len(block) - len(magic) + 1


def _member(file: BinaryIO, kind: str, begin: int) -> _Member:
    """The bytes of the member at `begin`, held back by `HELD`; returns where it ends."""
    blocks = _gzip_blocks(file, begin) if kind == "gzip" else _zstd_blocks(file, begin)
    held: deque[bytes] = deque()
    size = 0
    while True:
        try:
            block = next(blocks)
        except StopIteration as ended:
            yield from held
            return int(ended.value)
        except EOFError:
            raise _CutShort(held) from None
        held.append(block)
        size += len(block)
        while size > HELD:
            size -= len(held[0])
            yield held.popleft()


def _gzip_blocks(file: BinaryIO, begin: int) -> _Member:
    file.seek(begin)
    inflate = zlib.decompressobj(wbits=31)  # a gzip member, its checksum too
    while not inflate.eof:
        packed = inflate.unconsumed_tail or file.read(BLOCK)
        if not packed:
            raise EOFError
        if data := inflate.decompress(packed, BLOCK):
            yield data
    end, rest = file.tell() - len(inflate.unused_data), inflate.unused_data
    while rest and not rest.strip(b"\0"):  # padding of whole blocks, as tapes have it
        end, rest = file.tell(), file.read(BLOCK)
    return end + len(rest) - len(rest.lstrip(b"\0"))


def _zstd_blocks(file: BinaryIO, begin: int) -> _Member:
    end = _frame_end(file, begin)
    if end is not None and _is_skippable(_read_at(file, begin, 4)):
        return end
    packed = _Part(file, begin, end)
    with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd") as stream:
        try:
            while data := stream.read(BLOCK):
                yield data
        except _ERRORS:
            if packed.exhausted:
                raise EOFError from None
            raise
    if end is None:
        raise EOFError
    return end


def _frame_end(file: BinaryIO, begin: int) -> int | None:
    """Where the zstd frame ends by its headers (RFC 8878, 3.1), None when the file ends before it."""
    head = _read_at(file, begin, 8)
    if _is_skippable(head):
        return _within(file, begin + 8 + int.from_bytes(head[4:], "little"))
    if not head.startswith(_MAGIC["zstd"]):
        raise OSError("no zstd frame begins here")
    descriptor = head[4] if len(head) > 4 else 0
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    place = begin + 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    last = False
    while not last:
        if len(header := _read_at(file, place, 3)) < 3:
            return None
        value = int.from_bytes(header, "little")
        last, run_length = bool(value & 1), value >> 1 & 3 == 1
        place += 3 + (1 if run_length else value >> 3)
    return _within(file, place + 4 * checksum)


def _within(file: BinaryIO, place: int) -> int | None:
    return place if place <= file.seek(0, io.SEEK_END) else None


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5


def _read_at(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


class _Part(io.RawIOBase):
    """The bytes of a file from `begin` to `end`; `exhausted` once more was asked for than there are."""

    def __init__(self, file: BinaryIO, begin: int, end: int | None) -> None:
        self.file, self.place, self.end, self.exhausted = file, begin, end, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = len(buffer) if self.end is None else min(len(buffer), self.end - self.place)
        data = _read_at(self.file, self.place, size)
        buffer[:len(data)] = data
        self.place += len(data)
        self.exhausted = not data
        return len(data)
