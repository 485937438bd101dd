"""The first pass: every document of a unit is read and examined by itself, and committed with what the comparison with
all others will need."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.artifacts import hash_file, hash_json
from headwater.corpus.commits import Pass, Record
from headwater.corpus.decontamination.contamination import ContaminationSettings, LeakIndex
from headwater.corpus.deduplication.keys import DOCUMENT_KEYS, SENTENCE_KEYS, document_keys, sentence_table
from headwater.corpus.passes.engine import EngineSettings, map_units
from headwater.corpus.reading.readers import Raw, read
from headwater.corpus.reading.sources import Shard, status
from headwater.corpus.reading.units import Piece, Unit
from headwater.corpus.steps import Examiner, StepSettings
from headwater.progress import bar
from headwater.settings import input_paths
from headwater.storage import Store

EXAMINED, WORK, QUESTIONS = "examined", ".work/examined", ".work/questions"
PART_DOCUMENTS, PART_BYTES = 16384, 32 << 20
"""A part ends at this many documents or bytes as read: what a worker holds at once, and what a killed run can lose."""

LATER = {"sources", "validation_share", "mix", "engine", "store"}
"""Settings that do not touch what is examined: another value of them reuses it."""

STAGED = pa.schema([
    ("source", pa.string()), ("licence", pa.string()), ("url", pa.string()), ("step", pa.string()),
    ("reason", pa.string()), ("detail", pa.string()), ("text", pa.large_string()), ("language", pa.string()),
    ("language_share", pa.float32()), ("traditional", pa.bool_()), ("scripts", pa.map_(pa.string(), pa.float32())),
    ("tokens", pa.int64()), ("tokens_cut", pa.map_(pa.string(), pa.int64())),
    ("bytes_cut", pa.map_(pa.string(), pa.int64())), ("score", pa.float32()),
    ("masked", pa.map_(pa.string(), pa.int32())),
    ("leaks", pa.list_(pa.string())), ("raw_bytes", pa.int64()), ("text_bytes", pa.int64()),
    ("characters", pa.int64()), ("id", pa.binary(16)), ("key", pa.binary(16))])


def examine_units(units: list[Unit], settings: StepSettings, engine: EngineSettings, store: Store) -> Pass:
    """Examine what is not yet examined of the units; the pass then names the files of `STAGED` rows."""
    done = Pass(store, WORK)
    questions = "" if settings.contamination is None else _index_questions(settings.contamination, store)
    done.start([questions, consulted(settings), settings.model_dump(mode="json", exclude=LATER),
                [identity(unit) for unit in units]])
    left = [unit for unit in units if not done.is_done(unit.number)]
    finished = sum(unit.size for unit in units) - sum(unit.size for unit in left)
    documents = sum(part.documents for parts in done.records.values() for part in parts)
    with bar("corpus: examining documents, MB", sum(unit.size for unit in units) >> 20, start=finished >> 20) as shown:
        work = _Work(settings, store)
        orders = [_order(unit, done.parts(unit.number)) for unit in left]
        for unit, result in zip(left, map_units(work, orders, engine, size=sum(unit.size for unit in left))):
            documents += int(result)
            shown.note(f"{documents:,} documents")
            finished += unit.size
            shown.advance((finished >> 20) - shown.done)
    return Pass(store, WORK)


class _Work:
    """Examines a unit's documents and commits them part by part; returns how many there were."""

    def __init__(self, settings: StepSettings, store: Store) -> None:
        self.settings, self.store, self.consulted = settings, store, hash_json(consulted(settings))

    def __call__(self, order: str) -> str:
        values = json.loads(order)
        pieces = [_piece(piece) for piece in values["pieces"]]
        commits = Pass(self.store, WORK)
        part, found = values["parts"], 0
        documents = islice(_documents(pieces), values["documents"], None)
        for rows, last in _batched(documents):
            commits.commit(Record(values["unit"], part, len(rows), last), self._examined(rows))
            part, found = part + 1, found + len(rows)
        return str(found)

    def _examined(self, rows: list[tuple[Shard, Raw]]) -> dict[str, pa.Table]:
        examiner = _examiner(self.settings.model_dump_json(include=set(StepSettings.model_fields)), self.store.place,
                             self.consulted)
        documents = [examiner.examine(raw) for _, raw in rows]
        values = [vars(document) | {"source": shard.source, "licence": document.licence or shard.licence,
                                    **{name: list(getattr(document, name).items())
                                       for name in ("scripts", "masked", "tokens_cut", "bytes_cut")}}
                  for (shard, _), document in zip(rows, documents)]
        tables = {EXAMINED: pa.Table.from_pylist(values, STAGED)}
        texts = ["" if document.step else document.text for document in documents]
        if self.settings.near_duplicates is not None:
            tables[DOCUMENT_KEYS] = document_keys(texts, self.settings.near_duplicates)
        if self.settings.repeated_sentences is not None:
            tables[SENTENCE_KEYS] = sentence_table(texts, self.settings.repeated_sentences)
        return tables


@lru_cache(maxsize=2)
def _examiner(settings: str, place: str, consulted: str) -> Examiner:
    """One per process: classifiers and benchmarks take time to load. `consulted` tells other ones of the same path."""
    parsed = StepSettings.model_validate_json(settings)
    if parsed.contamination is None:
        return Examiner(parsed)
    return Examiner(parsed, LeakIndex.load(Store(place).as_local(QUESTIONS)))


def _index_questions(settings: ContaminationSettings, store: Store) -> str:
    """Put the index of the benchmarks' questions where the workers find it; returns a hash of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        LeakIndex.build(settings).save(folder)
        store.put_folder(QUESTIONS, folder)
        return hash_json([hash_file(file) for file in sorted(folder.iterdir())])


def _documents(pieces: list[Piece]) -> Iterator[tuple[Shard, Raw]]:
    for piece in pieces:
        for raw in read(piece.shard, piece.begin, piece.end, piece.first):
            yield piece.shard, raw


def _batched(documents: Iterator[tuple[Shard, Raw]]) -> Iterator[tuple[list[tuple[Shard, Raw]], bool]]:
    """Parts of bounded size, and whether it is the last (which may be empty)."""
    rows: list[tuple[Shard, Raw]] = []
    size = 0
    for document in documents:
        rows.append(document)
        size += len(document[1].content)
        if len(rows) >= PART_DOCUMENTS or size >= PART_BYTES:
            yield rows, False
            rows, size = [], 0
    yield rows, True


def _order(unit: Unit, parts: list[Record]) -> str:
    """What a worker needs to know of a unit, as text."""
    pieces = [asdict(piece) for piece in unit.pieces]
    return json.dumps({"unit": unit.number, "pieces": pieces, "parts": len(parts),
                       "documents": sum(part.documents for part in parts)}, default=str)


def _piece(values: dict[str, Any]) -> Piece:
    shard = values["shard"]
    return Piece(**values | {"shard": Shard(**shard | {"path": Path(shard["path"])})})


def consulted(settings: StepSettings) -> list[Any]:
    """The classifiers and benchmarks that documents are held against: their files by size and time."""
    paths = [path for name, path in input_paths(settings).items() if not name.startswith("sources.")]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def identity(unit: Unit) -> list[Any]:
    """What would make the unit another one: its files by size and time, and the parts of them."""
    return [[vars(piece.shard), status(piece.shard.path).st_mtime_ns, piece.begin, piece.end] for piece in unit.pieces]
