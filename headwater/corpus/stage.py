"""The corpus stage: sources to train, validation and removed documents, and the funnel between them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from headwater.artifacts import atomic_folder, sweep_temporaries, write_json
from headwater.corpus.columns import check_columns
from headwater.corpus.dataset import KEPT, REMOVED, PartWriter
from headwater.corpus.extract import extract
from headwater.corpus.funnel import funnel, funnel_table
from headwater.corpus.language import identify
from headwater.corpus.ledger import NO_TWIN, Ledger, staged_batches
from headwater.corpus.runner import import_daft, run_groups
from headwater.corpus.sources import Shard, Source, list_shards
from headwater.corpus.steps import EXCERPT, NEAR, StepSettings
from headwater.errors import InputError
from headwater.progress import bar, show

Figures = dict[str, float]
WORK = ".work"


def _atlas() -> list[Source]:
    return [Source(path=Path("${atlas}/pages"), format="html", name="atlas")]


class CorpusSettings(StepSettings):
    """The sources, the steps (see `StepSettings`) and the share of documents held out for validation."""

    sources: Annotated[list[Source], Field(min_length=1)] = Field(default_factory=_atlas)
    """Files and folders of raw documents."""
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the kept documents that is held out, drawn by their content."""


def run(settings: CorpusSettings, out: Path) -> Figures:
    """Write `out/{train,validation,removed}/*.parquet` and `out/funnel.json`; returns the funnel's figures.

    Killed and called again it goes on from the last complete group of files and writes the same bytes. Raises
    `InputError` for a missing or empty source, a table without the text column, or when no document is left.
    """
    shards = list_shards(settings.sources)
    check_columns(shards)
    _check_extras(shards, settings)
    out.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(out)
    groups = run_groups(shards, settings, out / WORK)
    ledger = Ledger(groups, settings)
    with bar("corpus: comparing documents"):
        ledger.deduplicate()
    validation = ledger.validation(settings.validation_share)
    values = funnel(ledger, validation)
    _write(ledger, validation, groups, out)
    write_json(out / "funnel.json", values)
    show(funnel_table(values))
    if not len(ledger.kept):
        raise _nothing_left(values, settings, out)
    shutil.rmtree(out / WORK)
    return _figures(values)


def _check_extras(shards: list[Shard], settings: CorpusSettings) -> None:
    """Import what the run will need now, so that a missing package is said before the work and not after."""
    import_daft()
    identify("a text")
    if any(shard.format in ("html", "warc") for shard in shards):
        extract("<p>a text</p>", settings.extractor)


def _write(ledger: Ledger, validation: NDArray[np.bool_], groups: list[Path], out: Path) -> None:
    with (atomic_folder(out / "train") as train, atomic_folder(out / "validation") as held,
          atomic_folder(out / "removed") as removed, bar("corpus: writing documents", len(ledger.step)) as shown):
        writers = [PartWriter(train, KEPT), PartWriter(held, KEPT), PartWriter(removed, REMOVED)]
        first = 0
        for batch in staged_batches(groups):
            rows = np.arange(first, first + batch.num_rows)
            kept = ledger.step[rows] == len(ledger.steps)
            table = pa.Table.from_batches([batch])
            writers[0].write(table.filter(kept & ~validation[rows]).select(KEPT.names))
            writers[1].write(table.filter(kept & validation[rows]).select(KEPT.names))
            writers[2].write(_removed_rows(table.filter(~kept), rows[~kept], ledger))
            first += batch.num_rows
            shown.advance(batch.num_rows)
        for writer in writers:
            writer.close()


def _removed_rows(table: pa.Table, rows: NDArray[np.int64], ledger: Ledger) -> pa.Table:
    details = [_detail(ledger, row, detail) for row, detail in zip(rows, table["detail"].to_pylist())]
    excerpts = [text[:EXCERPT] for text in table["text"].to_pylist()]
    steps = [ledger.steps[number] for number in ledger.step[rows]]
    return pa.table({"id": table["id"], "url": table["url"], "source": table["source"], "step": steps,
                     "reason": ledger.reason[rows].tolist(), "detail": details, "excerpt": excerpts}, REMOVED)


def _detail(ledger: Ledger, row: int, detail: str) -> str:
    if ledger.twin[row] == NO_TWIN:
        return detail
    text = f"copy of {ledger.id[ledger.twin[row]]}"
    near = ledger.steps[ledger.step[row]] == NEAR
    return f"{text}, estimated similarity {ledger.similarity[row]:.2f}" if near else text


def _nothing_left(values: dict[str, Any], settings: CorpusSettings, out: Path) -> InputError:
    found = values["steps"][0]["documents_in"]
    where = ", ".join(str(source.path) for source in settings.sources)
    if not found:
        return InputError("the sources hold no document at all", where=where, fix="give a source with documents")
    lost = [f"{step['step']} removed {step['documents_in'] - step['documents_out']} ({', '.join(step['reasons'])})"
            for step in values["steps"] if step["documents_in"] > step["documents_out"]]
    return InputError(f"no document is left of {found}: {'; '.join(lost)}", where=where,
                      fix=f"see {out / 'removed'} for each document's reason, then change the sources or that step")


def _figures(values: dict[str, Any]) -> Figures:
    kept = values["kept"].values()
    figures: Figures = {"documents": values["steps"][0]["documents_in"],
                        "kept": sum(split["documents"] for split in kept)}
    for step in values["steps"]:
        figures[f"removed.{step['step']}"] = step["documents_in"] - step["documents_out"]
    figures["validation"] = values["kept"]["validation"]["documents"]
    for name in ("characters", "tokens"):
        figures[name] = sum(split[name] for split in kept)
    for language in sorted({name for split in kept for name in split["languages"]}):
        figures[f"kept.{language}"] = sum(split["languages"].get(language, {"documents": 0})["documents"]
                                          for split in kept)
    return figures
