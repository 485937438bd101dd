"""The committing runner: documents are read in groups, Daft examines a group, each group is renamed into place when it
is complete; a run that is started again goes on after the groups it finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.artifacts import atomic_folder, hash_json, read_json, sweep_temporaries, write_json
from headwater.corpus.dataset import PartWriter
from headwater.corpus.minhash import signatures
from headwater.corpus.readers import Raw, read
from headwater.corpus.sources import Shard, compression
from headwater.corpus.steps import Examined, StepSettings, examine
from headwater.errors import HeadwaterError, MissingExtraError
from headwater.progress import bar

if TYPE_CHECKING:
    import daft

CURSOR = "cursor.json"
GROUP_DOCUMENTS, GROUP_BYTES = 16384, 32 << 20
"""A group ends at this many documents or bytes as read: what is in memory at once, and what a killed run can lose.
Daft's own sources were tried and run ahead of the functions without bound, a whole file in memory."""
BATCH_DOCUMENTS = 32
PACKED = 4
"""Bytes that a byte of a compressed file is expected to become, for the time left."""
PROCESSES_FROM = 8 << 20
"""Bytes of a group from which worker processes (0.5 s to start, one per core) beat threads, which the GIL holds."""

RAW = pa.schema([("source", pa.string()), ("licence", pa.string()), ("url", pa.string()),
                 ("content", pa.large_binary()), ("html", pa.bool_()), ("charset", pa.string()),
                 ("problem", pa.string()), ("detail", pa.string())])
EXAMINED = pa.schema([("url", pa.string()), ("step", pa.string()), ("reason", pa.string()), ("detail", pa.string()),
                      ("text", pa.large_string()), ("language", pa.string()), ("tokens", pa.int32()),
                      ("raw_characters", pa.int64()), ("characters", pa.int64()), ("id", pa.string()),
                      ("key", pa.binary()), ("signature", pa.binary())])
STAGED = pa.schema([RAW.field("source"), RAW.field("licence"), *EXAMINED])


@dataclass
class Group:
    """Consecutive documents. `next_shard` and `next_document` say where the group after it begins."""

    rows: list[dict[str, Any]]
    size: int
    next_shard: int
    next_document: int
    share: float
    """Estimate of how much of `next_shard` is read."""


def cut_groups(shards: list[Shard], shard: int = 0, document: int = 0) -> Iterator[Group]:
    """The documents of all shards, read group by group, from that document of that shard on."""
    rows: list[dict[str, Any]] = []
    size = 0
    for number in range(shard, len(shards)):
        origin = {"source": shards[number].source, "licence": shards[number].licence}
        skipped, here = document if number == shard else 0, 0
        for index, raw in enumerate(islice(read(shards[number]), skipped, None), skipped + 1):
            rows.append(origin | vars(raw))
            size, here = size + len(raw.content), here + len(raw.content)
            if len(rows) == GROUP_DOCUMENTS or size >= GROUP_BYTES:
                yield Group(rows, size, number, index, min(0.99, here / _expected_bytes(shards[number])))
                rows, size = [], 0
    if rows:
        yield Group(rows, size, len(shards), 0, 0.0)


def _expected_bytes(shard: Shard) -> int:
    packed = compression(shard.path) is not None or shard.format == "parquet"
    return max(1, shard.size * (PACKED if packed else 1))


def run_groups(shards: list[Shard], settings: StepSettings, work: Path) -> list[Path]:
    """Examine every document; returns the groups' folders below `work`, in order, each holding `STAGED` rows.

    Groups that a killed run completed from the same files and settings are kept. Raises `MissingExtraError` when
    Daft is not installed.
    """
    _forget_other_work(work, _fingerprint(shards, settings))
    folders = sorted(work.glob("group-*"))
    following = read_json(folders[-1] / CURSOR) if folders else [0, 0]
    documents = 0
    with bar("corpus: reading files", len(shards), start=following[0]) as shown:
        for group in cut_groups(shards, *following):
            folders.append(work / f"group-{len(folders):06}")
            with atomic_folder(folders[-1]) as staging:
                _run_group(group, settings, staging)
            documents += len(group.rows)
            shown.note(f"{documents:,} documents")
            shown.advance(group.next_shard + group.share - shown.done)
    return folders


def _run_group(group: Group, settings: StepSettings, staging: Path) -> None:
    writer = PartWriter(staging, STAGED)
    try:
        for batch in examine_group(group, settings).to_arrow_iter():
            writer.write(pa.Table.from_batches([batch]).select(STAGED.names))
    except (RuntimeError, ConnectionError) as error:  # how Daft tells that a worker is gone
        if isinstance(error, RuntimeError) and "UDF process" not in str(error):
            raise
        raise HeadwaterError("a worker process ended unexpectedly (killed, or out of memory)",
                             where=group.rows[0]["url"],
                             fix="give the same command again: it goes on after the last complete group") from error
    writer.close()
    write_json(staging / CURSOR, [group.next_shard, group.next_document])


def examine_group(group: Group, settings: StepSettings) -> daft.DataFrame:
    """The Daft pipeline over one group: its documents, examined, in order (the columns of `STAGED`)."""
    daft = import_daft()
    function = daft.func.batch(return_dtype=_struct(EXAMINED), unnest=True, batch_size=BATCH_DOCUMENTS,
                               use_process=group.size >= PROCESSES_FROM)(_Examine(settings))
    raw = daft.from_arrow(pa.Table.from_pylist(group.rows, RAW))
    return raw.select("source", "licence", function(*(daft.col(name) for name in RAW.names[2:])))


class _Examine:
    """The batch function that Daft calls, in this process or in its workers."""

    __name__ = "examine"

    def __init__(self, settings: StepSettings) -> None:
        self.settings = settings

    def __call__(self, *columns: Any) -> pa.Array:
        rows = zip(*(column.to_pylist() for column in columns))
        documents = [examine(Raw(url, content, html, charset, problem, detail), self.settings)
                     for url, content, html, charset, problem, detail in rows]
        values = [vars(document) for document in documents]
        for value, signature in zip(values, _signatures(documents, self.settings)):
            value["signature"] = signature
        return pa.array(values, pa.struct(list(EXAMINED)))


def _signatures(documents: list[Examined], settings: StepSettings) -> Iterator[bytes]:
    if settings.near_duplicates is None:
        yield from (b"" for _ in documents)
        return
    texts = ["" if document.step else document.text for document in documents]
    for signature, present in zip(*signatures(texts, settings.near_duplicates)):
        yield signature.tobytes() if present else b""


def _struct(schema: pa.Schema) -> Any:
    from daft import DataType

    return DataType.struct({field.name: DataType.from_arrow_type(field.type) for field in schema})


def import_daft() -> Any:
    """Daft with its native runner, no telemetry and no bars of its own. Raises `MissingExtraError`."""
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
    try:
        import daft
    except ImportError as error:
        raise MissingExtraError(f"the corpus stage needs Daft ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    return daft


def _fingerprint(shards: list[Shard], settings: StepSettings) -> str:
    files = [(shard.path, shard.size, shard.path.stat().st_mtime_ns, shard.format, shard.source, shard.licence,
              shard.text_column) for shard in shards]
    return hash_json([settings.model_dump(mode="json"), files])


def _forget_other_work(work: Path, fingerprint: str) -> None:
    mark = work / "fingerprint.json"
    if work.exists() and (not mark.exists() or read_json(mark) != fingerprint):
        shutil.rmtree(work)
    if not work.exists():
        write_json(mark, fingerprint)
    sweep_temporaries(work)
