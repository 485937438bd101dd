"""The funnel: documents, tokens and bytes into and out of every step, per language, with the reasons of removal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from headwater.corpus.commits import File, read_batches
from headwater.corpus.decontamination.contamination import ContaminationSettings
from headwater.corpus.ledger import Ledger
from headwater.corpus.steps import EXTRACT
from headwater.storage import Store

UNKNOWN = "unknown"
PER_REASON = 3
"""Examples kept of what a step removed for one reason."""
Mask = NDArray[np.bool_]


def funnel(ledger: Ledger, validation: Mask, changes: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The whole funnel as plain values: `steps` in order, then what was kept per split; `changes` counts, by step,
    what was changed in documents that stay.

    Bytes are those of the pages as read up to the step "extract", and of their extracted text (UTF-8) after it; tokens
    are counted from there on (before it: 0). A document counts under the language it is later found to have,
    "unknown" where it never got that far.
    """
    splits = {"train": ~validation, "validation": validation}
    kept = ledger.step == len(ledger.steps)
    return {"steps": [_step(ledger, number) | {"changes": changes.get(name, {})}
                      for number, name in enumerate(ledger.steps)],
            "kept": {name: _totals(ledger, kept & part) for name, part in splits.items()}}


def _languages(ledger: Ledger, chosen: Mask) -> list[tuple[str, Mask]]:
    present = np.unique(ledger.language.codes[chosen])
    return sorted((ledger.language.names[code] or UNKNOWN, ledger.language.codes == code) for code in present)


def _step(ledger: Ledger, number: int) -> dict[str, Any]:
    entered, left = ledger.step >= number, ledger.step > number
    extracted = ledger.steps.index(EXTRACT)

    def sizes(chosen: Mask, after: int) -> tuple[int, int]:
        """Bytes and tokens of these documents once `after` steps are done: what later steps cut is still there."""
        if after <= extracted:
            return int(ledger.raw_bytes[chosen].sum()), 0
        totals = [ledger.text_bytes[chosen].sum(), ledger.tokens[chosen].sum()]
        for step, cuts in ledger.cuts.items():
            if step >= after:
                own = chosen[cuts.rows]
                totals = [totals[0] + cuts.bytes[own].sum(), totals[1] + cuts.tokens[own].sum()]
        return int(totals[0]), int(totals[1])

    def counts(chosen: Mask) -> dict[str, int]:
        into, out = entered & chosen, left & chosen
        (bytes_in, tokens_in), (bytes_out, tokens_out) = sizes(into, number), sizes(out, number + 1)
        return {"documents_in": int(into.sum()), "documents_out": int(out.sum()), "bytes_in": bytes_in,
                "bytes_out": bytes_out, "tokens_in": tokens_in, "tokens_out": tokens_out}

    reasons = np.bincount(ledger.reason.codes[entered & ~left], minlength=len(ledger.reason.names))
    listed = sorted(((name, int(count)) for name, count in zip(ledger.reason.names, reasons) if count),
                    key=lambda item: (-item[1], item[0]))
    return {"step": ledger.steps[number], **counts(np.ones(len(ledger), np.bool_)),
            "languages": {name: counts(chosen) for name, chosen in _languages(ledger, entered)},
            "reasons": dict(listed)}


def _totals(ledger: Ledger, chosen: Mask) -> dict[str, Any]:
    def counts(part: Mask) -> dict[str, int]:
        return {"documents": int(part.sum()), "characters": int(ledger.characters[part].sum()),
                "bytes": int(ledger.text_bytes[part].sum()), "tokens": int(ledger.tokens[part].sum())}

    return {**counts(chosen), "languages": {name: counts(chosen & own) for name, own in _languages(ledger, chosen)}}


def examples(store: Store, files: list[File], steps: list[str]) -> dict[str, list[dict[str, str]]]:
    """Of every step some of the documents it removed, `PER_REASON` of each reason, drawn by their ids."""
    chosen: dict[tuple[str, str], list[dict[str, str]]] = {}
    for batch in read_batches(store, files):
        for row in batch.to_pylist():
            drawn = chosen.setdefault((row["step"], row["reason"]), [])
            drawn.append(row)
            if len(drawn) > 4 * PER_REASON:
                drawn[:] = sorted(drawn, key=lambda one: one["id"])[:PER_REASON]
    found: dict[str, list[dict[str, str]]] = {step: [] for step in steps}
    for (step, _), rows in sorted(chosen.items()):
        found[step].extend(sorted(rows, key=lambda one: one["id"])[:PER_REASON])
    return {step: rows for step, rows in found.items() if rows}


def masked(store: Store, files: list[File]) -> dict[str, int]:
    """Private data masked in the examined documents, by kind."""
    counts: dict[str, int] = {}
    for batch in read_batches(store, files, ["masked"]):
        for kinds in batch["masked"].to_pylist():
            for kind, count in kinds:
                counts[f"{kind} masked"] = counts.get(f"{kind} masked", 0) + count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def leaked(store: Store, files: list[File], settings: ContaminationSettings) -> dict[str, Any]:
    """The benchmarks' questions that stand in the examined documents, for an evaluation that asks them: each with its
    place as in `Question` and how many documents hold it, whatever became of these."""
    counts: Counter[str] = Counter()
    documents = 0
    for batch in read_batches(store, files, ["leaks"]):
        for names in batch["leaks"].to_pylist():
            counts.update(set(names))
            documents += bool(names)
    questions = []
    for name, count in sorted(counts.items()):
        # A label may hold slashes itself: the longest that fits is meant.
        label = max((one.label for one in settings.benchmarks if name.startswith(f"{one.label}/")), key=len)
        file, _, row = name.removeprefix(f"{label}/").rpartition("#")
        questions.append({"benchmark": label, "file": file, "row": int(row), "documents": count})
    return {"action": settings.action, "documents": documents,
            "benchmarks": [{"name": one.label, "path": str(one.path)} for one in settings.benchmarks],
            "questions": questions}


def funnel_table(values: dict[str, Any]) -> Table:
    """The funnel as a rich table, one row per step and one per split."""
    table = Table(title="Corpus funnel")
    for heading in ("step", "documents in", "removed", "documents out", "MB out", "why"):
        table.add_column(heading, justify="left" if heading in ("step", "why") else "right", no_wrap=heading != "why")
    for step in values["steps"]:
        why = ", ".join(f"{reason} {count:,}" for reason, count in {**step["reasons"], **step["changes"]}.items())
        removed = step["documents_in"] - step["documents_out"]
        table.add_row(step["step"], f"{step['documents_in']:,}", f"{removed:,}", f"{step['documents_out']:,}",
                      f"{step['bytes_out'] / 1e6:,.1f}", why)
    for split, totals in values["kept"].items():
        languages = ", ".join(f"{name} {part['documents']:,}" for name, part in totals["languages"].items())
        table.add_row(f"-> {split}", "", "", f"{totals['documents']:,}", f"{totals['bytes'] / 1e6:,.1f}", languages)
    return table
