"""What would happen to the documents of one file, step by step, and why."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import Field
from rich.markup import escape
from rich.table import Table

from headwater.corpus.deduplication.clusters import estimate_from
from headwater.corpus.deduplication.duplicates import exact_key
from headwater.corpus.deduplication.minhash import MinHashSettings, band_keys
from headwater.corpus.judging.score import score_sentences
from headwater.corpus.reading.readers import read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.steps import EXACT, NEAR, Examiner, StepSettings, Verdict
from headwater.documents import corpus_files, read_documents
from headwater.errors import InputError
from headwater.progress import print_result
from headwater.settings import InputPath

_BATCH = 256


class ExplainSettings(StepSettings):
    """The steps as the corpus stage has them, and which document to explain."""

    document: int = Field(default=1, ge=1)
    """Which document of the file, counted from one."""
    text_column: str = "text"
    """Where JSON lines and Parquet hold the text."""
    against: InputPath | None = None
    """A corpus among whose documents copies are sought."""
    characters: int = Field(default=1500, ge=0)
    """How much of the resulting text is shown."""


def explain(file: Path, settings: ExplainSettings) -> None:
    """Print every step's verdict on one document of `file`, and its text as it would be kept.

    Raises `InputError` when the file is missing or holds fewer documents.
    """
    shards = list_shards([Source(path=file, text_column=settings.text_column)])
    raw = next(islice((raw for shard in shards for raw in read(shard)), settings.document - 1, None), None)
    if raw is None:
        raise InputError(f"there is no document {settings.document}", where=file, fix="give a smaller document=N")
    found, verdicts = Examiner(settings).explain(raw)
    if found.text and settings.against is not None:
        verdicts += _copies(found.text, settings.against, settings)
    print_result(_table(found.url, verdicts))
    removed = next((verdict for verdict in verdicts if verdict.removed), None)
    fate = "kept" if removed is None else f"removed by {removed.step}: {escape(removed.removed)}"
    print_result(f"\n[bold]{fate}[/]; {found.tokens:,} tokens, {found.characters:,} characters, score {found.score:.2f}"
                 f"{f', licence {escape(found.licence)}' if found.licence else ''}\n")
    if settings.characters and found.text:
        print_result(_shown(found.text, found.language, settings.characters))


def _table(url: str, verdicts: list[Verdict]) -> Table:
    table = Table(title=escape(url), title_justify="left")
    for heading in ("step", "verdict", "what was found"):
        table.add_column(heading, overflow="fold")
    for verdict in verdicts:
        told = f"[red]{escape(verdict.removed)}[/]" if verdict.removed else "kept"
        table.add_row(verdict.step.replace("_", " "), told, escape(verdict.detail))
    return table


def _shown(text: str, language: str, characters: int) -> str:
    """The text's beginning, a sentence a line with its score."""
    lines = [f"[dim]{one.score:.2f}[/] {escape(' '.join(text[one.start:one.end].split()))}"
             for one in score_sentences(text[:characters], language)]
    rest = len(text) - characters
    return "\n".join([*lines, *([f"[dim]... {rest:,} more characters[/]"] if rest > 0 else [])])


def _copies(text: str, corpus: Path, settings: StepSettings) -> list[Verdict]:
    """Whether the corpus holds the document already, exactly or nearly."""
    near = settings.near_duplicates or MinHashSettings()
    own = band_keys([text], near)
    exact, best = "", (0.0, "")
    rows = read_documents(corpus_files(corpus, "train"), ["text", "url"])
    while batch := list(islice(rows, _BATCH)):
        texts = [row["text"] for row in batch]
        exact = exact or next((row["url"] for row in batch if exact_key(row["text"]) == exact_key(text)), "")
        keys = band_keys(texts, near)
        met = np.flatnonzero(((keys.keys == own.keys) & (own.keys != 0)).any(axis=1))
        sketches = np.concatenate([own.sketch, keys.sketch[met]]).__getitem__
        alike = estimate_from(sketches)(np.zeros(len(met), np.int64), np.arange(1, len(met) + 1))
        for place, similarity in zip(met, alike):
            best = max(best, (float(similarity), batch[place]["url"]))
    told = f"most alike: {best[1]}, estimated similarity {best[0]:.2f}" if best[1] else "nothing alike"
    is_near = bool(best[1]) and best[0] >= near.similarity
    return [Verdict(EXACT, "exact copy" if exact and settings.exact_duplicates else "", exact and f"copy of {exact}"),
            Verdict(NEAR, "near copy" if is_near and settings.near_duplicates is not None else "", told)]
