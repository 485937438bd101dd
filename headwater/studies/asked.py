"""Text to train on in which needles are asked for, so that a small model learns to look back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from headwater.context.retrieval import Haystack, Language, Task, answered, question
from headwater.context.texts import corpus_texts
from headwater.studies.learners import Text
from headwater.train.batches import IGNORE, Batch, Sample, counted, last_seen, lay, own_rows
from headwater.train.streams import StreamBatches

CHARACTERS = 400_000
"""Of each language that needles are hidden in."""
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def haystacks(text: Text, split: str) -> dict[Language, Haystack]:
    """Of each language that the split has."""
    found: dict[Language, list[str]] = {language: [] for language in LANGUAGES}
    left = dict.fromkeys(LANGUAGES, CHARACTERS)
    for tongue, words in corpus_texts(text.corpus, split):
        for language in LANGUAGES:
            if tongue == language and left[language] > 0:
                found[language].append(words[: left[language]])
                left[language] -= len(words)
        if max(left.values()) <= 0:
            break
    return {language: Haystack(texts, text.tokenizer, language) for language, texts in found.items() if texts}


class AskedBatches:
    """Rows of a text's stream, the last `asked` of each batch instead a question with its answer, as long as the row:
    one of the tasks, in one of the languages, its needle at any depth."""

    def __init__(self, stream: StreamBatches, hay: dict[Language, Haystack], tasks: Sequence[Task], asked: int,
                 seed: int) -> None:
        self.stream, self.hay, self.tasks, self.asked, self.seed = stream, hay, tasks, asked, seed

    @property
    def batches_per_epoch(self) -> float:
        return self.stream.batches_per_epoch

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        plain = self.stream.batch(step, rank, ranks)
        rows = [row for row in own_rows(self.stream.rows, rank, ranks) if row >= self.stream.rows - self.asked]
        if not rows:
            return plain
        written = lay([[self._sample(step, row)] for row in rows], self.stream.length, pad=self.stream.pad)
        kept = len(plain.tokens) - len(rows)
        return Batch(*(torch.cat((one[:kept], two)) for one, two in zip(plain, written, strict=True)))

    def _sample(self, step: int, row: int) -> Sample:
        draw = np.random.default_rng([self.seed, step, row])
        language = list(self.hay)[int(draw.integers(len(self.hay)))]
        task = self.tasks[int(draw.integers(len(self.tasks)))]
        asked = question(task, self.hay[language], self.stream.length, float(draw.random()), draw)
        ids = np.array(answered(asked, self.hay[language].tokenizer), dtype=np.int64)[: self.stream.length]
        size = len(ids)
        return Sample(ids, np.append(ids[1:], IGNORE), counted(size, 1), last_seen(size, 0), np.full(size, -1))
