"""The second pass: what was decided of every document is carried out, unit by unit: text that is kept, and an account
of what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.corpus.commits import File, Pass, Record
from headwater.corpus.judging.score import score_sentences
from headwater.corpus.ledger import Ledger, slices
from headwater.corpus.passes.cuts import CUT
from headwater.corpus.passes.engine import EngineSettings, map_units
from headwater.corpus.passes.examining import EXAMINED
from headwater.corpus.steps import EXCERPT, content_id
from headwater.progress import bar
from headwater.storage import Store

WRITTEN, DECIDED = ".work/written", ".work/decided"
TRAIN, VALIDATION, REMOVED_SPLIT = "train", "validation", "removed"
SPLITS = (TRAIN, VALIDATION, REMOVED_SPLIT)

KEPT = pa.schema([("text", pa.large_string()), ("language", pa.string()), ("language_share", pa.float32()),
                  ("traditional", pa.bool_()), ("scripts", pa.map_(pa.string(), pa.float32())), ("url", pa.string()),
                  ("source", pa.string()), ("licence", pa.string()), ("id", pa.string()), ("tokens", pa.int32()),
                  ("score", pa.float32()), ("sentences", pa.list_(pa.struct(
                      [("start", pa.int32()), ("end", pa.int32()), ("score", pa.float32())])))])
REMOVED = pa.schema([("id", pa.string()), ("url", pa.string()), ("source", pa.string()), ("language", pa.string()),
                     ("step", pa.string()), ("reason", pa.string()), ("detail", pa.string()),
                     ("excerpt", pa.string())])
DECISIONS = pa.schema([("step", pa.string()), ("reason", pa.string()), ("detail", pa.string()),
                       ("validation", pa.bool_()), ("copies", pa.int16())])
"""Per document of a part: the step that removed it ("" when kept), and how often it is written."""



def write_units(ledger: Ledger, validation: NDArray[np.bool_], copies: NDArray[np.int16], examined: Pass,
                cuts: Pass | None, engine: EngineSettings, basis: Any) -> dict[str, list[File]]:
    """Carry out the ledger's decisions; returns each split's files in order, further copies of a document after the
    first ones of all. `basis` is what the decisions follow from: from another basis nothing is reused.

    `validation` [N] chooses the documents held out, `copies` [N] says how often a kept one is written, `cuts` has the
    texts that lost sentences.
    """
    done = Pass(ledger.store, WRITTEN, place="")
    done.start(basis)
    left = [unit for unit in sorted(examined.records) if not done.is_done(unit)]
    rows = {file.name: row for file, row in slices(ledger.files)}
    units = len(examined.records)
    with bar("corpus: writing documents, units", units, start=units - len(left)) as shown:
        orders = []
        for unit in left:
            names = [part.files[EXAMINED].name for part in examined.parts(unit) if part.files]
            decided = [_decide(ledger, rows[name], validation, copies, f"{DECIDED}/{unit:06}-{number:06}.parquet")
                       for number, name in enumerate(names)]
            cut = [part.files[CUT].name if CUT in part.files else None for part in cuts.parts(unit)] if cuts else []
            orders.append(json.dumps({"unit": unit, "examined": names, "decided": decided,
                                      "cut": cut or [None] * len(names), "done": len(done.parts(unit))}))
        for _ in map_units(_Work(ledger.store), orders, engine, size=sum(file.bytes for file in ledger.files)):
            shown.advance()
    complete = Pass(ledger.store, WRITTEN, place="")
    found = {kind for parts in complete.records.values() for part in parts for kind in part.files}
    kinds = sorted(found, key=lambda kind: (len(kind), kind))  # epoch-2 before epoch-10
    splits = {split: [file for kind in kinds if kind.split("/")[0] == split for file in complete.files(kind)]
              for split in SPLITS}
    _sweep(ledger.store, kinds, {file.name for files in splits.values() for file in files})
    return splits


def _decide(ledger: Ledger, rows: slice, validation: NDArray[np.bool_], copies: NDArray[np.int16], name: str) -> str:
    """Write the decisions on one file of documents."""
    numbers = range(rows.start, rows.stop)
    steps = [*ledger.steps, ""]
    table = pa.table({"step": [steps[step] for step in ledger.step[rows]],
                      "reason": [ledger.reason.names[code] for code in ledger.reason.codes[rows]],
                      "detail": [ledger.detail(row) for row in numbers],
                      "validation": validation[rows], "copies": copies[rows]}, DECISIONS)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    ledger.store.put(name, sink.getvalue().to_pybytes())
    return name


def _sweep(store: Store, kinds: list[str], named: set[str]) -> None:
    """Remove what an earlier attempt left and nothing names."""
    for folder in {*SPLITS, *kinds}:
        for name in store.names(folder, ".parquet"):
            if name not in named:
                store.remove_file(name)


class _Work:
    """Writes a unit's documents, a part for each part that was examined."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, order: str) -> str:
        values = json.loads(order)
        commits = Pass(self.store, WRITTEN, place="")
        names = list(zip(values["examined"], values["decided"], values["cut"]))
        for part, (examined, decided, cut) in enumerate(names):
            if part < values["done"]:
                continue
            table, decisions = self._read(examined), self._read(decided)
            if cut is not None:
                table = _with_cuts(table, self._read(cut))
            commits.commit(Record(values["unit"], part, table.num_rows, part == len(names) - 1),
                           dict(_splits(table, decisions)))
        if not names and not values["done"]:
            commits.commit(Record(values["unit"], 0, 0, True), {})
        return ""

    def _read(self, name: str) -> pa.Table:
        with self.store.open(name) as stream:
            return pq.read_table(stream)


def _with_cuts(table: pa.Table, cuts: pa.Table) -> pa.Table:
    """The documents without their repeated sentences; a new text has a new id."""
    columns = {name: table[name].to_pylist() for name in ("text", "tokens", "id")}
    for row, text, tokens in zip(*(cuts[name].to_pylist() for name in ("row", "text", "tokens"))):
        columns["text"][row], columns["tokens"][row], columns["id"][row] = text, tokens, content_id(text)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table


def _scored(table: pa.Table) -> pa.Table:
    """With the score of every sentence."""
    scores = [[sentence._asdict() for sentence in score_sentences(text, language)]
              for text, language in zip(table["text"].to_pylist(), table["language"].to_pylist())]
    return table.append_column(KEPT.field("sentences"), pa.array(scores, KEPT.field("sentences").type))


def _splits(table: pa.Table, decisions: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of every split; the second copies of the training split, if any, as `train/epoch-2`, and so on."""
    removed = np.array([bool(step) for step in decisions["step"].to_pylist()], np.bool_)
    held = decisions["validation"].to_numpy(zero_copy_only=False)
    copies = decisions["copies"].to_numpy()
    kept = table.set_column(table.schema.get_field_index("id"), "id", _hex(table["id"])).filter(~removed)
    kept = _scored(kept).select(KEPT.names).cast(KEPT)
    held, copies = held[~removed], copies[~removed]
    yield TRAIN, kept.filter(~held)
    for epoch in range(2, int(copies.max(initial=1)) + 1):
        yield f"{TRAIN}/epoch-{epoch}", kept.filter(~held & (copies >= epoch))
    yield VALIDATION, kept.filter(held)
    yield REMOVED_SPLIT, _account(table.filter(removed), decisions.filter(removed))


def _account(table: pa.Table, decisions: pa.Table) -> pa.Table:
    """Of every removed document the step and the reason, and how it began."""
    details = [decided or own for decided, own in zip(decisions["detail"].to_pylist(), table["detail"].to_pylist())]
    return pa.table({"id": _hex(table["id"]), "url": table["url"], "source": table["source"],
                     "language": table["language"], "step": decisions["step"], "reason": decisions["reason"],
                     "detail": details, "excerpt": [text[:EXCERPT] for text in table["text"].to_pylist()]}, REMOVED)


def _hex(ids: pa.ChunkedArray) -> pa.Array:
    return pa.array([value.hex() for value in ids.to_pylist()], pa.string())
