"""What would happen to a document of a file, step by step, and why."""

from __future__ import annotations

from collections.abc import Iterator
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
from headwater.corpus.reading.readers import Raw, read
from headwater.corpus.reading.sources import Format, Source, list_shards
from headwater.corpus.steps import EXACT, MIX, NEAR, SENTENCES, Examined, Examiner, StepSettings, Verdict
from headwater.documents import corpus_files, read_documents
from headwater.errors import InputError
from headwater.progress import print_result
from headwater.settings import InputPath

_BATCH = 256


class ExplainSettings(StepSettings):
    """The steps as the corpus stage has them, and which document to explain."""

    document: int = Field(default=1, ge=1)
    """Which document of the file, counted from one."""
    format: Format | None = None
    """What the file is, whatever its suffix."""
    text_column: str = "text"
    """Where JSON lines and Parquet hold the text."""
    against: InputPath | None = None
    """A corpus among whose documents copies are sought; the document itself, known by its address or by its path from
    the source's folder on, is none."""
    characters: int = Field(default=1500, ge=0)
    """How much of the resulting text is shown."""


def explain(file: Path, settings: ExplainSettings) -> None:
    """Print every step's verdict on one document of `file`, and its text as it would be kept.

    Raises `InputError` when the file is missing or holds fewer documents.
    """
    found, verdicts = Examiner(settings).explain(_document(file, settings))
    verdicts += _among_others(found, file, settings)
    print_result(_table(found.url, verdicts))
    removed = next((verdict for verdict in verdicts if verdict.removed), None)
    fate = "kept" if removed is None else f"removed by {removed.step.replace('_', ' ')}: {escape(removed.removed)}"
    told = [f"{found.tokens:,} tokens", f"{found.characters:,} characters"]
    told += [f"score {found.score:.2f}"] if found.text else []
    told += [f"licence {escape(found.licence)}"] if found.licence else []
    print_result(f"\n[bold]{fate}[/]; {', '.join(told)}\n")
    if settings.characters and found.text:
        print_result("\n".join(_shown(found, settings.characters)))


def _document(file: Path, settings: ExplainSettings) -> Raw:
    if file.is_dir():
        raise InputError("this is a folder", where=file, fix="give one of its files")
    shards = list_shards([Source(path=file, format=settings.format or "auto", text_column=settings.text_column)])
    raw = next(islice((raw for shard in shards for raw in read(shard)), settings.document - 1, None), None)
    if raw is None:
        raise InputError(f"there is no document {settings.document}", where=file, fix="give a smaller document=N")
    return raw


def _table(url: str, verdicts: list[Verdict]) -> Table:
    table = Table(title=escape(url), title_justify="left")
    for heading in ("step", "verdict", "what was found"):
        table.add_column(heading, overflow="fold")
    for verdict in verdicts:
        told = f"[red]{escape(verdict.removed)}[/]" if verdict.removed else "kept" if verdict.judged else "not judged"
        table.add_row(verdict.step.replace("_", " "), told, escape(verdict.detail))
    return table


def _shown(found: Examined, characters: int) -> Iterator[str]:
    """The text's beginning, a sentence a line with its score; indentation stays."""
    for one in score_sentences(found.text, found.language):
        if one.start >= characters:
            break
        line = found.text.rfind("\n", 0, one.start) + 1
        indent = found.text[line:one.start] if not found.text[line:one.start].strip() else ""
        yield f"[dim]{one.score:.2f}[/] {indent}{escape(found.text[one.start:min(one.end, characters)])}"
    if len(found.text) > characters:
        yield f"[dim]... {len(found.text) - characters:,} more characters[/]"


def _among_others(found: Examined, file: Path, settings: ExplainSettings) -> list[Verdict]:
    """The verdicts of the steps that compare documents: copies where there is a corpus to look in."""
    verdicts = {step: Verdict(step, "", "is seen among other documents only" + (
        "" if step in (SENTENCES, MIX) else " (against=CORPUS seeks copies)"), judged=False)
        for step in settings.steps() if step in (EXACT, NEAR, SENTENCES, MIX)}
    if found.text and settings.against is not None:
        verdicts |= {one.step: one for one in _copies(found, file, settings.against, settings) if one.step in verdicts}
    return list(verdicts.values())


def _copies(found: Examined, file: Path, corpus: Path, settings: StepSettings) -> Iterator[Verdict]:
    """Whether the corpus holds the document under another address, exactly or nearly."""
    path = (file.absolute().parent / found.url).as_posix()  # a corpus names files by their paths from the source on
    near = settings.near_duplicates or MinHashSettings()
    own, key = band_keys([found.text], near), exact_key(found.text)
    exact, best = "", (0.0, "")
    rows = (row for row in read_documents(corpus_files(corpus, "train"), ["text", "url"])
            if not path.endswith(f"/{row['url']}") and (row["url"] != found.url or _is_place(found.url, file)))
    while batch := list(islice(rows, _BATCH)):
        texts = [row["text"] for row in batch]
        exact = exact or next((row["url"] for row in batch if exact_key(row["text"]) == key), "")
        keys = band_keys(texts, near)
        met = np.flatnonzero(((keys.keys == own.keys) & (own.keys != 0)).any(axis=1))
        sketches = np.concatenate([own.sketch, keys.sketch[met]]).__getitem__
        alike = estimate_from(sketches)(np.zeros(len(met), np.int64), np.arange(1, len(met) + 1))
        for place, similarity in zip(met, alike):
            best = max(best, (float(similarity), batch[place]["url"]))
    yield Verdict(EXACT, "exact copy" if exact else "", f"copy of {exact}" if exact else "no copy there")
    told = f"most alike: {best[1]}, estimated similarity {best[0]:.2f}" if best[1] else "nothing alike there"
    yield Verdict(NEAR, "near copy" if best[1] and best[0] >= near.similarity else "", told)


def _is_place(url: str, file: Path) -> bool:
    """Whether an address is no document's own, but its place in the file."""
    return url.partition("#")[0] == file.name
