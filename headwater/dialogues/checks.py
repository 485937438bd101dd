"""Dialogues that are nearly the same, and questions of benchmarks inside them, sought by the corpus's own means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from headwater.corpus.decontamination.benchmarks import BenchmarkSource
from headwater.corpus.decontamination.contamination import ContaminationSettings, LeakIndex
from headwater.corpus.deduplication.clusters import estimate_from, representatives
from headwater.corpus.deduplication.minhash import I64, MinHashSettings, band_keys
from headwater.dialogues.reading import Dialogue
from headwater.progress import say, track
from headwater.settings import Settings

_BATCH = 64
Action = Literal["drop", "keep"]
T = TypeVar("T")


class CheckSettings(Settings):
    """What is sought in the dialogues, and what becomes of those in which it is found. All is counted aloud."""

    copies: Action = "keep"
    """Of dialogues that are nearly the same, the longest stays alone (drop). A copy of a validation dialogue is one
    too. What is written from templates is alike without being a copy: keep."""
    similarity: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Least share of their runs of three words or Chinese characters that two copies have in common."""
    benchmarks: list[BenchmarkSource] = []
    """Benchmarks whose questions no dialogue should hold."""
    leaks: Action = "drop"
    """Dialogues that hold a question of a benchmark."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.leaks != "drop" and not self.benchmarks:
            raise ValueError("leaks without benchmarks has no effect: give benchmarks")
        return self


class Checked(NamedTuple, Generic[T]):
    """What is left of the dialogues, and how many were found."""

    dialogues: list[T]
    copies: int
    """Those that another one stands for."""
    leaks: int
    """Those with a question of a benchmark, among what is left without copies."""


def checked(dialogues: list[Dialogue], settings: CheckSettings, held_out: Sequence[Dialogue] = ()
            ) -> Checked[Dialogue]:
    """Count copies, among the dialogues and of the `held_out` ones, and leaked questions; drop them as set.

    Takes about 400 bytes for each dialogue while copies are sought.
    """
    return checked_by(dialogues, settings, held_out, compared=said, searched=said, name="dialogues")


def checked_by(dialogues: list[T], settings: CheckSettings, held_out: Sequence[T], *, compared: Callable[[T], str],
               searched: Callable[[T], str], name: str) -> Checked[T]:
    """`checked` of anything: the words in which copies are alike, and those in which a benchmark's are sought."""
    texts = [compared(dialogue) for dialogue in (*held_out, *dialogues)]
    chosen = _representatives(texts, len(held_out), MinHashSettings(similarity=settings.similarity))[len(held_out) :]
    copied = [number != place for place, number in enumerate(chosen.tolist(), len(held_out))]
    of_held_out = sum(number < len(held_out) for number in chosen.tolist())
    for count, what in ((of_held_out, "one that is held back"), (sum(copied) - of_held_out, "another")):
        if count:
            _tell(count, len(dialogues), name, f"are nearly the same as {what}", settings.copies)
    if settings.copies == "drop":
        dialogues = [dialogue for dialogue, copy in zip(dialogues, copied) if not copy]
    leaked = _leaked([searched(dialogue) for dialogue in dialogues], settings, name) if settings.benchmarks else set()
    if settings.leaks == "drop":
        return Checked([dialogue for place, dialogue in enumerate(dialogues) if place not in leaked],
                       sum(copied), len(leaked))
    return Checked(dialogues, sum(copied), len(leaked))


def said(dialogue: Dialogue) -> str:
    """What is said in a dialogue; a system message is shared by too many to tell them apart."""
    return "\n".join(message["content"] for message in dialogue.messages if message["role"] != "system")


def _representatives(texts: list[str], first: int, settings: MinHashSettings) -> I64:
    """Which text stands for each: the longest of its cluster, one of the `first` ones before all others."""
    if not texts:
        return np.zeros(0, np.int64)
    found = [band_keys(texts[start : start + _BATCH], settings) for start in range(0, len(texts), _BATCH)]
    keys, sketches = (np.concatenate([getattr(one, name) for one in found]) for name in ("keys", "sketch"))
    lengths = np.array([len(text) for text in texts])
    lengths[:first] += lengths.max()
    return representatives((keys[:, band] for band in range(settings.all_bands)),
                           estimate_from(lambda rows: sketches[rows]), lengths, settings.similarity).representative


def _leaked(texts: list[str], settings: CheckSettings, name: str) -> set[int]:
    """The places of those that hold a question."""
    index = LeakIndex.build(ContaminationSettings(benchmarks=tuple(settings.benchmarks)))
    found, by_benchmark = set(), Counter[str]()
    for place, text in enumerate(track(texts, f"{name}: looking for benchmarks")):
        names = {leak.benchmark for leak in index.leaks(text)}
        by_benchmark.update(names)
        found |= {place} if names else set()
    which = ", ".join(f"{name} {count:,}" for name, count in by_benchmark.most_common()) or "none"
    _tell(len(found), len(texts), name, f"hold a question of a benchmark ({which})", settings.leaks)
    return found


def _tell(count: int, every: int, name: str, what: str, action: Action) -> None:
    say(f"of {every:,} {name}, {count:,} {what}" + (": left out" if count and action == "drop" else ""))
