"""Abuse in a text, passage by passage: words of abuse in their context, and a trained classifier."""

from __future__ import annotations

import math
import re
from bisect import bisect, bisect_left
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from headwater.corpus.classifying.insults import DOUBLE, INNOCENT, MILD, Term, find_terms
from headwater.corpus.classifying.linear import Classifier
from headwater.corpus.classifying.perspective import Perspective, PerspectiveSettings
from headwater.corpus.judging.length import count_tokens
from headwater.settings import InputPath, Settings

_SENTENCE = re.compile(r"[^\n。！？!?.;；]*[\n。！？!?.;；]+[\"'”’」』)）]*|[^\n。！？!?.;；]+$")
_TERM = "\0"
"""Stands for a word of abuse in `_CALLED`."""
_CALLED = re.compile(
    rf"(?<![a-z])(?:you are|you were|you're|u r|ur|(?:you|your|u)(?:\W{{1,3}}\w+){{0,3}}\W{{0,3}}{_TERM})(?![a-z])"
    rf"|{_TERM}(?:\W{{1,3}}\w+)?\W{{1,3}}(?:you|u)(?![a-z])"
    rf"|[你您]们?(?:[这那真才个是种也算配]|就是|不要脸|[死臭大老小太全家都头]{{0,6}}{_TERM})|{_TERM}[吧，]?[你您]",
    re.IGNORECASE)
"""Where somebody is told what he is: "you are", 你这, or a word of abuse beside "you"."""
_MENTION = re.compile(r"(?<![a-z])(?:words?|terms?|slurs?|insults?|insulting|pejorative|derogatory|offensive|called|"
                      r"nicknamed|etymology|epithets?|meaning|means|expression|phrase)(?![a-z])|一词|词语|词汇|蔑称|贬义|贬称|俚语|"
                      r"粗话|脏话|骂人|辱骂|侮辱性|意为|意思是|称为|称作|绰号|外号|歧视性", re.IGNORECASE)
_QUOTATION = re.compile("[\"“‘「『《][^\"“”‘’「」『』《》\n]+[\"”’」』》]|(?<!\\w)'[^'\n]{1,24}'(?!\\w)")
_SPEECH = re.compile("[“”「」『』]")
_SPOKEN_OF = 0.25
"""What a word of abuse counts that is quoted, or spoken of as a word."""
_ENOUGH = 2.5
"""Weight of words beyond which more of them add nothing."""
_SHORT = 24
"""Tokens to which short sentences are put together; a word of abuse counts in full in so short a passage."""


class ToxicitySettings(Settings):
    """How abuse is judged: by passages of a sentence or a few short ones, so that a long page cannot hide one."""

    engine: Literal["own", "perspective"] = "own"
    """The own words and classifier, or Google's Perspective API (its key from PERSPECTIVE_API_KEY)."""
    classifier: Literal["toxicity"] | InputPath = "toxicity"
    """A shipped classifier, or the path of one trained by 'headwater corpus classifier'."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Score from which a passage is abuse; null takes 0.9 for English and 0.7 for others, chosen on clean books,
    manuals, articles and real pages, and with a classifier of your own what that was calibrated to."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the tokens that such passages must hold before the document is abuse."""
    lone_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share that one such passage with at most one word of abuse must hold: a page that reports an insult is none."""
    passages: Annotated[int, Field(ge=0)] = 3
    """Worst passages reported."""
    perspective: PerspectiveSettings = PerspectiveSettings()
    """Limits of the service."""


@dataclass(frozen=True)
class Passage:
    """text[start:end] and its score in [0, 1]."""

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Toxicity:
    """`score` is that of the worst passage, `toxic` the verdict on the whole; `passages` are the worst ones at or above
    the threshold, worst first; `terms` the words of abuse in them; `share` the share of the text's tokens that such
    passages hold."""

    score: float
    toxic: bool
    passages: tuple[Passage, ...]
    terms: tuple[str, ...]
    share: float


class ToxicityJudge:
    """Scores texts. Raises `InputError` for classifier weights that are not there, `SettingsError` without a key."""

    def __init__(self, settings: ToxicitySettings | None = None, *, perspective: Perspective | None = None) -> None:
        self.settings = settings or ToxicitySettings()
        self._remote = perspective
        if self.settings.engine == "perspective" and perspective is None:
            self._remote = Perspective.from_environment(self.settings.perspective)
        self._classifier = Classifier.load(self.settings.classifier, task="toxicity") if self._remote is None else None

    def __call__(self, text: str, language: str) -> Toxicity:
        """Judge one text; a language the classifier was not trained on is judged by its words alone."""
        spans = passages(text)
        terms = sorted(find_terms(text), key=lambda term: term.start)
        if self._remote is not None:
            scores = self._remote.scores([text[start:end] for start, end in spans], language)
        else:
            scores = self._own_scores(text, language, spans, terms)
        return self._verdict(text, language, spans, scores, terms)

    def _own_scores(self, text: str, language: str, spans: list[tuple[int, int]], terms: list[Term]) -> list[float]:
        assert self._classifier is not None
        found = [weigh(text[start:end], own, start) for (start, end), own in zip(spans, _shared_out(terms, spans))]
        threshold = self._classifier.threshold(language)
        if threshold is None or not spans:
            return [_squash(WORDS_ALONE + LEXICAL_ODDS * weight) for weight, _ in found]
        odds = self._classifier.log_odds([plain for _, plain in found]) - math.log(threshold / (1 - threshold))
        return [_squash(float(value) + (LEXICAL_ODDS * weight if weight else WORDLESS_ODDS)
                        + SPEECH_ODDS * bool(_SPEECH.search(text[start:end])))
                for value, (weight, _), (start, end) in zip(odds, found, spans)]

    def _default_threshold(self, language: str) -> float:
        if self._remote is None and self.settings.classifier != SHIPPED_CLASSIFIER:
            return _squash(WORDLESS_ODDS)  # of a passage without a word of abuse at the classifier's threshold
        return DEFAULT_THRESHOLDS.get(language, DEFAULT_THRESHOLD)

    def _verdict(self, text: str, language: str, spans: list[tuple[int, int]], scores: list[float], terms: list[Term]
                 ) -> Toxicity:
        threshold = self.settings.threshold or self._default_threshold(language)
        ranked = sorted((Passage(start, end, score) for (start, end), score in zip(spans, scores)),
                        key=lambda passage: (-passage.score, passage.start))
        bad = [passage for passage in ranked if passage.score >= threshold]
        own = _shared_out(terms, [(passage.start, passage.end) for passage in bad])
        words = {term.word for found in own for term in found if term.weight}
        held = sum(count_tokens(text[passage.start:passage.end]) for passage in bad)
        share = held / count_tokens(text) if held else 0.0
        enough = self.settings.share if len(bad) > 1 or len(words) > 1 else self.settings.lone_share
        toxic = bool(bad) and share >= enough
        return Toxicity(ranked[0].score if ranked else 0.0, toxic, tuple(bad[:self.settings.passages]),
                        tuple(sorted(words)), share)


SHIPPED_CLASSIFIER = "toxicity"
LEXICAL_ODDS = 2.5
"""Log-odds that one unit of lexical weight adds to the classifier's."""
WORDLESS_ODDS = -1.0
"""What is taken from the classifier's where there is no word of abuse."""
SPEECH_ODDS = -1.5
"""What is taken from both in somebody's reported speech."""
WORDS_ALONE = -4.0
"""Log-odds before any word of abuse, in a language that the classifier does not know."""
DEFAULT_THRESHOLDS, DEFAULT_THRESHOLD = {"en": 0.9}, 0.7
"""English passages of 0.7 to 0.9 are hot, mostly not abusive; of the Chinese ones a quarter of the plain insults is."""


def toxicity(text: str, language: str, settings: ToxicitySettings | None = None) -> Toxicity:
    """Judge one text with the engine of the settings (a `ToxicityJudge` keeps it loaded)."""
    return ToxicityJudge(settings)(text, language)


def passages(text: str) -> list[tuple[int, int]]:
    """Spans of one sentence, or of a few short ones of the same line."""
    spans: list[tuple[int, int]] = []
    room = 0
    for match in _SENTENCE.finditer(text):
        size = count_tokens(match[0])
        if not size:
            continue
        joined = spans and room >= size and "\n" not in text[spans[-1][1] - 1:match.start() + 1]
        if joined:
            spans[-1] = (spans[-1][0], match.end())
            room -= size
        else:
            spans.append((match.start(), match.end()))
            room = _SHORT - size
    return spans


def weigh(passage: str, terms: list[Term], start: int = 0) -> tuple[float, str]:
    """Weight from 0 to 2.5 of the words of abuse in a passage that begins at `start` of its text, and the passage
    without the words that may be none, so that the classifier judges what stands around them, and with the others
    undisguised.

    Those are words in a quotation or in a sentence about words, which count a quarter, and words of two meanings
    where nobody is called one and no plainer word stands beside them: only one counts. In a long passage all count
    less.
    """
    if not terms:
        return 0.0, passage
    called = bool(_CALLED.search(_replaced(passage, [(term, _TERM) for term in terms if term.weight], start)))
    doubtful = not called and all(term.weight <= DOUBLE for term in terms)
    spoken_of = set(terms if _MENTION.search(passage) else _quoted(passage, terms, start))
    weights = [(max(MILD, term.weight) if called and term.weight else term.weight)
               * (_SPOKEN_OF if term in spoken_of else 1) for term in terms]
    said = [(term, "" if doubtful or term in spoken_of or term.weight == INNOCENT else term.word) for term in terms]
    total = max(weights) if doubtful else sum(weights)
    weight = min(_ENOUGH, total * min(1.0, 2 * _SHORT / max(1, count_tokens(passage))))
    return weight, _replaced(passage, said, start)


def _shared_out(terms: list[Term], spans: list[tuple[int, int]]) -> list[list[Term]]:
    """The terms that begin in each span; the terms in the order of their places."""
    starts = [term.start for term in terms]
    return [terms[bisect_left(starts, start):bisect_left(starts, end)] for start, end in spans]


def _quoted(passage: str, terms: list[Term], start: int) -> list[Term]:
    """The terms in quotations that hold less than half of the passage."""
    spans = [match.span() for match in _QUOTATION.finditer(passage) if len(match[0]) < len(passage) / 2]
    at = [bisect(spans, (term.start - start, 0)) - 1 for term in terms]
    return [term for term, number in zip(terms, at) if number >= 0 and term.end - start < spans[number][1]]


def _replaced(passage: str, terms: list[tuple[Term, str]], start: int) -> str:
    """The passage with other texts in the place of these terms."""
    pieces, done = [], 0
    for term, instead in terms:
        pieces += [passage[done:term.start - start], instead]
        done = term.end - start
    return "".join(pieces) + passage[done:]


def _squash(odds: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))
