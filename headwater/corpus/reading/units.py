"""Input files cut into units of work: what one worker reads, examines and commits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.reading.sources import Shard, compression
from headwater.corpus.reading.streams import is_utf16

SMALLEST, LARGEST, WANTED = 2 << 20, 64 << 20, 64
"""Bytes of a unit: a 64th of all, within these bounds. The cut depends on the files alone, not on the machine."""
PACKED = 4
"""Bytes that a byte of a compressed file is expected to become."""
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Piece:
    """A part of a file. `begin` and `end` are bytes of JSON lines or row groups of Parquet (end None: all of it);
    `first` numbers the first document."""

    shard: Shard
    begin: int = 0
    end: int | None = None
    first: int = 0
    size: int = 0
    """Bytes it is expected to hold once unpacked."""


@dataclass(frozen=True)
class Unit:
    """Consecutive pieces, examined and committed together."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


def plan_units(shards: list[Shard]) -> list[Unit]:
    """Units in the order of the shards: small files together, large files in pieces where their format allows.

    JSON lines are cut at line ends and Parquet at row groups; a compressed file, an archive and UTF-16 stay whole.
    """
    wanted = min(LARGEST, max(SMALLEST, sum(map(_expected_bytes, shards)) // WANTED))
    pieces = [piece for shard in shards for piece in _pieces(shard, wanted)]
    filled = 0

    def place(piece: Piece) -> int:
        nonlocal filled
        start, filled = filled, filled + piece.size
        return start // wanted

    return [Unit(number, tuple(group)) for number, (_, group) in enumerate(groupby(pieces, key=place))]


def _expected_bytes(shard: Shard) -> int:
    return shard.size * (PACKED if compression(shard.path) is not None or shard.format == "parquet" else 1)


def _pieces(shard: Shard, wanted: int) -> Iterator[Piece]:
    whole = Piece(shard, size=_expected_bytes(shard))
    if whole.size <= wanted or compression(shard.path) is not None:
        yield whole
    elif shard.format == "jsonl" and not is_utf16(shard.path):
        yield from _line_pieces(shard, wanted)
    elif shard.format == "parquet":
        yield from _row_group_pieces(whole, wanted)
    else:
        yield whole


def _line_pieces(shard: Shard, wanted: int) -> Iterator[Piece]:
    """Counts the lines on the way, so that a document keeps its line number."""
    begin = position = lines = first = 0
    with open(shard.path, "rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            while position + len(block) - begin >= wanted and (cut := _first_end(block, begin + wanted - position)):
                lines += block.count(b"\n", 0, cut)
                yield Piece(shard, begin, position + cut, first, position + cut - begin)
                begin, first, position, block = position + cut, lines, position + cut, block[cut:]
            lines += block.count(b"\n")
            position += len(block)
    if position > begin:
        yield Piece(shard, begin, None, first, position - begin)


def _first_end(block: bytes, wanted: int) -> int:
    """The end of the first line that ends at or after byte `wanted` of the block; 0 when there is none."""
    return block.find(b"\n", max(0, wanted - 1)) + 1


def _row_group_pieces(whole: Piece, wanted: int) -> Iterator[Piece]:
    try:
        metadata = pq.read_metadata(pa.OSFile(os.fsencode(whole.shard.path)))
    except (OSError, ValueError, pa.ArrowException):
        yield whole  # damaged: counted when it is read
        return
    begin = size = rows = first = 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        rows += metadata.row_group(group).num_rows
        if size >= wanted:
            yield replace(whole, begin=begin, end=group + 1, first=first, size=size)
            begin, size, first = group + 1, 0, rows
    if size:
        yield replace(whole, begin=begin, first=first, size=size)
