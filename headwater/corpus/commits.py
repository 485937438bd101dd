"""A pass over units of work: each part of a unit counts when its record is written, and readers open only what the
records name. So a store without rename (an object store) is as safe as a local disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.artifacts import hash_json
from headwater.storage import Store

FINGERPRINT = "fingerprint.json"


@dataclass(frozen=True)
class File:
    """A Parquet file that counts."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """What one part of a unit wrote: `files` by kind. `documents` were read for it, the unit's `last` part says so."""

    unit: int
    part: int
    documents: int
    last: bool
    files: dict[str, File] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)


class Pass:
    """The records of one pass, below the folder `name` of the store; its files lie below `place` ("" is the top)."""

    def __init__(self, store: Store, name: str, place: str | None = None) -> None:
        self.store, self.name = store, name
        self.place = f"{name}/" if place is None else place

    def start(self, basis: Any) -> None:
        """Forget what was done from another basis (settings, inputs, plan)."""
        wanted = hash_json(basis)
        if self.store.names(self.name, FINGERPRINT) and self.store.get_json(f"{self.name}/{FINGERPRINT}") == wanted:
            return
        self.store.remove(self.name)
        self.store.put_json(f"{self.name}/{FINGERPRINT}", wanted)

    @cached_property
    def records(self) -> dict[int, list[Record]]:
        """Per unit its parts in order, as far as they are there; read once."""
        found: dict[int, list[Record]] = {}
        for name in self.store.names(f"{self.name}/records", ".json"):
            record = _record(self.store.get_json(name))
            if record.part == len(found.setdefault(record.unit, [])):  # a part after a missing one does not count
                found[record.unit].append(record)
        return found

    def is_done(self, unit: int) -> bool:
        return bool(self.records.get(unit)) and self.records[unit][-1].last

    def parts(self, unit: int) -> list[Record]:
        return self.records.get(unit, [])

    def commit(self, record: Record, tables: dict[str, pa.Table]) -> Record:
        """Write the tables that have rows, one Parquet file each, then the record that makes them count."""
        files = {kind: self._write(f"{self.place}{kind}/{record.unit:06}-{record.part:06}.parquet", table)
                 for kind, table in tables.items() if table.num_rows}
        complete = Record(record.unit, record.part, record.documents, record.last, files, record.counts)
        self.store.put_json(f"{self.name}/records/{record.unit:06}-{record.part:06}.json", asdict(complete))
        return complete

    def _write(self, name: str, table: pa.Table) -> File:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=1024)
        content = sink.getvalue().to_pybytes()
        self.store.put(name, content)
        return File(name, table.num_rows, len(content), hashlib.sha256(content).hexdigest())

    def files(self, kind: str) -> list[File]:
        """Every file of that kind that counts, in the order of the units."""
        return [record.files[kind] for _, parts in sorted(self.records.items()) for record in parts
                if kind in record.files]


def read_batches(store: Store, files: list[File], columns: list[str] | None = None,
                 rows: int = 1024) -> Iterator[pa.RecordBatch]:
    """The rows of the files in order, a batch at a time. `columns` alone are read."""
    for file in files:
        with store.open(file.name) as stream:
            yield from pq.ParquetFile(stream).iter_batches(rows, columns=columns)


def _record(values: dict[str, Any]) -> Record:
    files = {kind: File(**file) for kind, file in values["files"].items()}
    return Record(values["unit"], values["part"], values["documents"], values["last"], files, values["counts"])
