"""The pass between: sentences that many documents share are cut from each, and what is left is measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.corpus.commits import Pass, Record, read_batches
from headwater.corpus.deduplication.cutting import remove_sentences
from headwater.corpus.deduplication.keys import SENTENCE_KEYS, Columns, band
from headwater.corpus.deduplication.minhash import U8
from headwater.corpus.deduplication.repeated import REPEATED, SentenceSettings, verdicts
from headwater.corpus.judging.length import count_tokens
from headwater.corpus.ledger import Ledger, slices
from headwater.corpus.passes.engine import EngineSettings, map_units
from headwater.corpus.passes.examining import EXAMINED
from headwater.corpus.steps import EXCERPT, SENTENCES
from headwater.progress import bar
from headwater.storage import Store

CUT, WORK, VERDICTS = "cut", ".work/cut", ".work/verdicts"
CUTS = pa.schema([("row", pa.int64()), ("text", pa.large_string()), ("removed", pa.list_(pa.string())),
                  ("tokens", pa.int64()), ("characters", pa.int64()), ("text_bytes", pa.int64())])
"""`row` is the document's among those of its examined file."""
SAMPLED = 12
"""Sentences shown of those cut."""


def cut_sentences(ledger: Ledger, settings: SentenceSettings, examined: Pass, engine: EngineSettings, scratch: Path,
                  basis: Any) -> Pass:
    """Find the repeated sentences among the documents still kept and cut them; the pass then names `CUTS` files, one
    for each file of documents that loses a sentence. The sentence keys are laid out in the folder `scratch`."""
    done = Pass(ledger.store, WORK)
    done.start(basis)
    units = [unit for unit in sorted(examined.records) if not done.is_done(unit)]
    if not units:
        return done
    with bar("corpus: comparing sentences"):
        judged = _judge(ledger, settings, examined, scratch)
    orders = []
    for unit in units:
        names = [record.files[EXAMINED].name for record in examined.parts(unit) if record.files]
        judgements = [_save(ledger.store, judged.get(name), f"{VERDICTS}/{unit:06}-{number:06}.parquet")
                      for number, name in enumerate(names)]
        orders.append(json.dumps({"unit": unit, "examined": names, "verdicts": judgements,
                                  "done": len(done.parts(unit))}))
    with bar("corpus: cutting repeated sentences, units", len(examined.records),
             start=len(examined.records) - len(units)) as shown:
        for _ in map_units(_Work(ledger.store, settings), orders, engine,
                           size=sum(file.bytes for file in ledger.files)):
            shown.advance()
    return Pass(ledger.store, WORK)


def read_cuts(ledger: Ledger, cuts: Pass, examined: Pass) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row of the ledger, what is left of that document) for every document that lost a sentence."""
    first = {file.name: rows.start for file, rows in slices(ledger.files)}
    for unit, parts in sorted(cuts.records.items()):
        names = [record.files[EXAMINED].name for record in examined.parts(unit) if record.files]
        for name, part in zip(names, parts):
            for batch in read_batches(cuts.store, list(part.files.values()),
                                      ["row", "tokens", "characters", "text_bytes"]):
                for values in batch.to_pylist():
                    yield first[name] + values["row"], values


def count_cuts(cuts: Pass) -> dict[str, int]:
    """Sentences cut, and the documents that lost one; nothing when there are none."""
    documents = sentences = 0
    for batch in read_batches(cuts.store, cuts.files(CUT), ["removed"]):
        documents += batch.num_rows
        sentences += len(batch["removed"].flatten())
    return {"sentences cut": sentences, "documents shortened": documents} if sentences else {}


def sampled_cuts(cuts: Pass) -> list[dict[str, str]]:
    """Some of the sentences cut, drawn by their hash, each with the number of documents that held that wording."""
    drawn: dict[bytes, tuple[str, int]] = {}
    for batch in read_batches(cuts.store, cuts.files(CUT), ["removed"]):
        for sentences in batch["removed"].to_pylist():
            for sentence in {" ".join(sentence.split()) for sentence in sentences}:
                key = hashlib.blake2b(sentence.encode(), digest_size=8).digest()
                drawn[key] = sentence[:EXCERPT], drawn.get(key, ("", 0))[1] + 1
            if len(drawn) > 20 * SAMPLED:
                drawn = dict(sorted(drawn.items())[:SAMPLED])  # who is among the least hashes at the end always was
    return [{"step": SENTENCES, "reason": "sentence cut", "detail": f"in {count:,} documents in this wording",
             "url": "", "excerpt": sentence} for _, (sentence, count) in sorted(drawn.items())[:SAMPLED]]


def _judge(ledger: Ledger, settings: SentenceSettings, examined: Pass, scratch: Path) -> dict[str, pa.Table]:
    """By examined file, the verdicts on the sentences of each document of it that loses one."""
    files = [(record.files[EXAMINED], record.files.get(SENTENCE_KEYS)) for _, parts in sorted(examined.records.items())
             for record in parts if record.files]
    if not any(keys is not None for _, keys in files):
        return {}  # no document is left
    columns = Columns(scratch / SENTENCE_KEYS, ledger.store, [keys for _, keys in files if keys is not None])
    first = {file.name: rows.start for file, rows in slices(ledger.files)}
    counts = [0 if keys is None else keys.rows for _, keys in files]
    documents = columns["document"] + np.repeat([first[file.name] for file, _ in files], counts)
    gone = (ledger.step != len(ledger.steps))[documents]
    found = verdicts(np.where(gone, np.uint64(0), columns["exact"]), documents, np.array(columns["figures"]),
                     lambda number: np.where(gone, np.uint64(0), columns[band(number)]), columns.sketches, settings)
    bounds = np.cumsum([0, *counts])
    judged = {}
    for (file, _), start, end in zip(files, bounds, bounds[1:]):
        rows, places = np.unique(documents[start:end] - first[file.name], return_index=True)
        losing = [(row, part) for row, part in zip(rows.tolist(), np.split(found[start:end], places[1:]))
                  if (part == REPEATED).any()]
        if losing:
            judged[file.name] = pa.table({"row": [row for row, _ in losing],
                                          "verdicts": [part.tobytes() for _, part in losing]})
    return judged


def _save(store: Store, table: pa.Table | None, name: str) -> str | None:
    if table is None:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.put(name, sink.getvalue().to_pybytes())
    return name


class _Work:
    """Cuts the sentences of a unit's documents, a part for each part that was examined."""

    def __init__(self, store: Store, settings: SentenceSettings) -> None:
        self.store, self.settings = store, settings

    def __call__(self, order: str) -> str:
        values = json.loads(order)
        commits = Pass(self.store, WORK)
        parts = list(zip(values["examined"], values["verdicts"]))
        for number, (examined, judged) in enumerate(parts):
            if number >= values["done"]:
                table = CUTS.empty_table() if judged is None else self._cut(examined, judged)
                commits.commit(Record(values["unit"], number, table.num_rows, number == len(parts) - 1), {CUT: table})
        if not parts and not values["done"]:
            commits.commit(Record(values["unit"], 0, 0, True), {})
        return ""

    def _cut(self, examined: str, judged: str) -> pa.Table:
        with self.store.open(examined) as texts, self.store.open(judged) as verdicts_:
            texts, table = pq.read_table(texts, columns=["text"])["text"], pq.read_table(verdicts_)
        rows = []
        for row, blob in zip(table["row"].to_pylist(), table["verdicts"].to_pylist()):
            found: U8 = np.frombuffer(blob, np.uint8)
            cut = remove_sentences(texts[row].as_py(), found, self.settings)
            if cut.removed:
                rows.append({"row": row, "text": cut.text, "removed": list(cut.removed),
                             "tokens": count_tokens(cut.text), "characters": len(cut.text),
                             "text_bytes": len(cut.text.encode())})
        return pa.Table.from_pylist(rows, CUTS)
