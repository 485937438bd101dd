"""How good a text is, from 0 to 1: a document by its statistics, every sentence of it by its own characters.

Each statistic lies between what is typical of clean text and the limit that hardly any clean text passes; d is how far
it has gone from the one towards the other (0 on the good side of typical, 1 at the limit). The score is
2 ** -sqrt(sum of d squared): 1 for typical text, 1/2 for one at the limit of a single statistic, and the less the more
statistics stray. Both values come from real clean texts (`headwater.corpus.thresholds`, first halves of the
sources).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headwater.corpus.judging.statistics import BLANK, HAN, LETTER, Statistics, characters


class Reference(NamedTuple):
    """A statistic's value in typical clean text, and the one hardly any clean text passes."""

    typical: float
    limit: float


REFERENCES: dict[str, dict[str, Reference]] = {
    "zh": {
        "letters": Reference(0.84, 0.5), "marks": Reference(0.081, 0.03), "function_words": Reference(0.31, 0.1),
        "punctuated_lines": Reference(0.73, 0), "bullet_lines": Reference(0.051, 0.9),
        "ellipsis_lines": Reference(0, 0.09), "ellipses": Reference(0, 0.009), "hashes": Reference(0.006, 0.09),
        "dup_line_chars": Reference(0, 0.4), "top_2gram_chars": Reference(0.02, 0.2),
        "top_4gram_chars": Reference(0.015, 0.2), "dup_5gram_chars": Reference(0.028, 0.6),
        "dup_10gram_chars": Reference(0.002, 0.4), "short_lines": Reference(0.023, 0.8),
        "newlines": Reference(0.054, 0.3), "digits": Reference(0.014, 0.3), "symbols": Reference(0.06, 0.3),
        "unpunctuated": Reference(0.03, 0.6), "broken": Reference(0, 0.006), "lorem_ipsum": Reference(0, 1)},
    "en": {
        "stop_words": Reference(8, 1), "letters": Reference(0.89, 0.6), "marks": Reference(0.045, 0.01),
        "function_words": Reference(0.147, 0.02), "punctuated_lines": Reference(0.19, 0),
        "bullet_lines": Reference(0.017, 0.9), "ellipsis_lines": Reference(0, 0.2), "ellipses": Reference(0, 0.03),
        "hashes": Reference(0.011, 0.2), "dup_line_chars": Reference(0.008, 0.6),
        "top_2gram_chars": Reference(0.014, 0.3), "top_4gram_chars": Reference(0.011, 0.4),
        "dup_5gram_chars": Reference(0.036, 0.5), "dup_10gram_chars": Reference(0.009, 0.5),
        "short_lines": Reference(0.32, 0.9), "newlines": Reference(0.14, 0.8), "digits": Reference(0.011, 0.3),
        "symbols": Reference(0.046, 0.2), "unpunctuated": Reference(0.09, 0.4), "broken": Reference(0, 0.006),
        "lorem_ipsum": Reference(0, 1)}}
"""Of whole documents, per language. Three limits are not the derived ones: the Chinese share of function characters
is that of prose (of poems it is 0.02), English `broken` is the Chinese figure, and one "lorem ipsum" is a limit."""
LANGUAGE_BOUND = frozenset(("stop_words", "function_words"))
"""Statistics that say nothing of a text in a language other than English and Chinese; it is scored by the others."""
SENTENCES = {"zh": {"letters": Reference(0.76, 0.43), "length": Reference(18, 6)},
             "en": {"letters": Reference(0.80, 0.45), "length": Reference(27, 7)}}
"""Of single sentences: share of letters and Han, and length in characters; the lower quartile and the 5 % quantile of
finished sentences in clean text (of each source, then the median over sources)."""
UNFINISHED, REPEATED = 0.5, 1.0
"""How far towards the limit a sentence without an end has gone, and one that the document has said before."""

_END = r"[.!?]+[\"'”’)\]]*(?=\s|$)"
_SENTENCE = re.compile(rf"(?>(?:[^\n。！？｡….!?]++|(?!{_END})[.!?])*)(?:[。！？｡…]+[”’」』）\"')]*|{_END}|(?=\n)|$)")
_FINISHED = frozenset("。！？｡…”’」』）.!?\"')]；;：:")


class SentenceScore(NamedTuple):
    """`text[start:end]` is the sentence."""

    start: int
    end: int
    score: float


def score_document(statistics: Statistics, language: str, probabilities: Sequence[float] = ()) -> float:
    """The quality of a document from 0 to 1, rounded to four digits; an empty one has 0.

    `probabilities` are what classifiers say against the text (machine-made, toxic, ...): each multiplies the score by
    its complement.
    """
    if not statistics.words:
        return 0.0
    references = REFERENCES["zh" if language == "zh" else "en"]
    strayed = [_strayed(getattr(statistics, name), reference) for name, reference in references.items()
               if language in REFERENCES or name not in LANGUAGE_BOUND]
    score = _from_distance(strayed)
    for probability in probabilities:
        score *= 1 - min(max(probability, 0.0), 1.0)
    return round(score, 4)


def score_sentences(text: str, language: str) -> list[SentenceScore]:
    """The quality of every sentence of a tidied text, in order, by its letters, its length, whether it ends as a
    sentence does, and whether the text has said it before. A line's end ends a sentence."""
    references = SENTENCES["zh" if language == "zh" else "en"]
    spans = [span for match in _SENTENCE.finditer(text) if (span := _stripped(text, *match.span()))[0] < span[1]]
    letters = _letters(text, spans)
    seen: set[str] = set()
    found = []
    for (start, end), share in zip(spans, letters):
        sentence = text[start:end]
        strayed = [_strayed(share, references["letters"]), _strayed(end - start, references["length"]),
                   0.0 if sentence[-1] in _FINISHED else UNFINISHED, REPEATED if sentence in seen else 0.0]
        seen.add(sentence)
        found.append(SentenceScore(start, end, round(_from_distance(strayed), 4)))
    return found


def _strayed(value: float, reference: Reference) -> float:
    return max(0.0, (value - reference.typical) / (reference.limit - reference.typical))


def _from_distance(strayed: Sequence[float]) -> float:
    return 2.0 ** -math.sqrt(sum(distance * distance for distance in strayed))


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _letters(text: str, spans: list[tuple[int, int]]) -> list[float]:
    """The share of letters and Han among each span's visible characters."""
    _, kinds = characters(text)
    visible = np.append(0, np.cumsum(kinds != BLANK))
    letters = np.append(0, np.cumsum((kinds == HAN) | (kinds == LETTER)))
    bounds = np.array(spans, np.int64).reshape(-1, 2)
    share = (letters[bounds[:, 1]] - letters[bounds[:, 0]]) / (visible[bounds[:, 1]] - visible[bounds[:, 0]])
    return [float(value) for value in share]
