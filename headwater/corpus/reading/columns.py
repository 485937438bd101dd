"""Whether tables hold the text column, asked before any work starts."""

from __future__ import annotations

import difflib
import io
from contextlib import suppress
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.reading.readers import json_row
from headwater.corpus.reading.sources import Shard
from headwater.corpus.reading.streams import lines, opened, seekable
from headwater.errors import InputError

FIRST_ROWS = 20
"""JSON lines that are looked at."""
LISTED = 12


def check_columns(shards: list[Shard]) -> None:
    """Raises `InputError` for a table without its text column, naming those it has and the nearest.

    A damaged file passes: it is counted when it is read, and stops nothing.
    """
    for shard in shards:
        with suppress(OSError, EOFError, ValueError, RecursionError, pa.ArrowException):
            if shard.format == "parquet":
                with seekable(shard) as stream:
                    _require_text_column(pq.read_schema(stream), shard)
            elif shard.format == "jsonl":
                with opened(shard) as (stream, _):
                    _require_text_key(stream, shard)


def _require_text_column(schema: pa.Schema, shard: Shard) -> None:
    if shard.text_column not in schema.names:
        raise _no_text_column("Parquet file", schema.names, shard)
    kind = schema.field(shard.text_column).type
    if pa.types.is_dictionary(kind):  # pandas writes its categories so
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"the column '{shard.text_column}' holds {kind}, not text", where=shard.path,
                         fix="set text_column to a column of text")


def _require_text_key(stream: io.BufferedReader, shard: Shard) -> None:
    keys: list[str] = []
    for line in islice(lines(stream), FIRST_ROWS):
        with suppress(ValueError):
            row = json_row(line)
            if isinstance(row, dict) and shard.text_column in row:
                return
            keys += [key for key in row if key not in keys] if isinstance(row, dict) else []
    if keys:
        raise _no_text_column("rows", keys, shard)


def _no_text_column(what: str, names: list[str], shard: Shard) -> InputError:
    nearest = difflib.get_close_matches(shard.text_column, names, n=1, cutoff=0.0)
    shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    have = "have" if what == "rows" else "has"
    return InputError(f"the {what} {have} no column '{shard.text_column}' (columns: {shown or 'none'})",
                      where=shard.path, fix=f"set text_column, perhaps to '{nearest[0]}', or exclude the file"
                      if nearest else "give another file")
