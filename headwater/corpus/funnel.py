"""The funnel: documents and characters into and out of every step, per language, with the reasons of removal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from headwater.corpus.ledger import Ledger
from headwater.corpus.steps import EXTRACT

UNKNOWN = "unknown"


def funnel(ledger: Ledger, validation: NDArray[np.bool_]) -> dict[str, Any]:
    """The whole funnel as plain values: `steps` in order, then what was kept per split.

    Characters are those of the pages as read before the step "extract" and of their extracted text after it. A
    document counts under the language it is later found to have, "unknown" where it never got that far.
    """
    languages = np.array([language or UNKNOWN for language in ledger.language], object)
    splits = {"train": ~validation, "validation": validation}
    kept = ledger.step == len(ledger.steps)
    return {"steps": [_step(ledger, number, languages) for number in range(len(ledger.steps))],
            "kept": {name: _totals(ledger, kept & part, languages) for name, part in splits.items()}}


def _step(ledger: Ledger, number: int, languages: NDArray) -> dict[str, Any]:
    entered, left = ledger.step >= number, ledger.step > number
    name = ledger.steps[number]
    before = ledger.raw_characters if number <= ledger.steps.index(EXTRACT) else ledger.characters
    after = ledger.raw_characters if number < ledger.steps.index(EXTRACT) else ledger.characters
    removed = ledger.reason[entered & ~left]

    def counts(chosen: NDArray[np.bool_]) -> dict[str, int]:
        return {"documents_in": int((entered & chosen).sum()), "documents_out": int((left & chosen).sum()),
                "characters_in": int(before[entered & chosen].sum()), "characters_out": int(after[left & chosen].sum())}

    present = sorted(set(languages[entered]))
    return {"step": name, **counts(np.ones(len(entered), np.bool_)),
            "languages": {language: counts(languages == language) for language in present},
            "reasons": dict(sorted(Counter(removed.tolist()).items(), key=lambda item: (-item[1], item[0])))}


def _totals(ledger: Ledger, chosen: NDArray[np.bool_], languages: NDArray) -> dict[str, Any]:
    def counts(part: NDArray[np.bool_]) -> dict[str, int]:
        return {"documents": int(part.sum()), "characters": int(ledger.characters[part].sum()),
                "tokens": int(ledger.tokens[part].sum())}

    return {**counts(chosen), "languages": {language: counts(chosen & (languages == language))
                                            for language in sorted(set(languages[chosen]))}}


def funnel_table(values: dict[str, Any]) -> Table:
    """The funnel as a rich table, one row per step and one per split."""
    table = Table(title="Corpus funnel")
    for heading in ("step", "documents in", "removed", "documents out", "characters out", "why"):
        table.add_column(heading, justify="left" if heading in ("step", "why") else "right", no_wrap=heading != "why")
    for step in values["steps"]:
        why = ", ".join(f"{reason} {count:,}" for reason, count in step["reasons"].items())
        removed = step["documents_in"] - step["documents_out"]
        table.add_row(step["step"], f"{step['documents_in']:,}", f"{removed:,}", f"{step['documents_out']:,}",
                      f"{step['characters_out']:,}", why)
    for split, totals in values["kept"].items():
        languages = ", ".join(f"{name} {part['documents']:,}" for name, part in totals["languages"].items())
        table.add_row(f"-> {split}", "", "", f"{totals['documents']:,}", f"{totals['characters']:,}", languages)
    return table
