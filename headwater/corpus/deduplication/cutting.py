"""Cuts repeated sentences out of a text and leaves the rest readable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from headwater.corpus.deduplication.minhash import U8
from headwater.corpus.deduplication.repeated import COMPANION, REPEATED, SentenceSettings
from headwater.corpus.deduplication.sentences import MARKER, Sentence, split

_PAIRS = ("“”", "「」", "『』", "（）", "()", "【】", "《》", "[]", ("<!--", "-->"))
_CONNECTIVE = re.compile(
    r"(?:however|but|therefore|thus|hence|moreover|furthermore|besides|nevertheless|nonetheless|otherwise|instead"
    r"|consequently|meanwhile|also|yet|still|then|so|for example|for instance|in addition|as a result|in contrast"
    r"|on the other hand|that is)\b"
    r"|但是?|然而|不过|可是|因此|所以|于是|此外|另外|而且|并且|否则|同时|例如|比如|相反|反之|也就是说|换句话说|这样一来",
    re.IGNORECASE)
_OPENING = re.compile(r"[\s\"'“‘「『（(*_]*")


@dataclass(frozen=True)
class Cut:
    """`text` without the sentences listed in `removed` (without the blanks around them)."""

    text: str
    removed: tuple[str, ...]


def remove_sentences(text: str, verdicts: U8, settings: SentenceSettings) -> Cut:
    """Cut the repeated sentences; `verdicts` [len(split(text))] are those of `repeated.verdicts`.

    Of each paragraph: a companion goes with a neighbour that goes; when the sentences that go make up
    `settings.block_share` of it, all of it goes, its line with it; otherwise its list mark stays. A run of sentences
    that goes must not take one half of a pair of quotes or brackets and leave the other, nor leave a connective
    ("However", "因此") at the paragraph's beginning; else it stays. Raises ValueError when the verdicts are not those
    of this text.
    """
    sentences = split(text)
    if len(verdicts) != len(sentences):
        raise ValueError(f"{len(verdicts)} verdicts for {len(sentences)} sentences")
    if not (verdicts == REPEATED).any():
        return Cut(text, ())
    written, removed = [""], []
    for paragraph, marks in _paragraphs(text, sentences, verdicts):
        chosen = _chosen(text, paragraph, marks, settings.block_share)
        removed += [text[one.start:one.end].strip() for one, gone in zip(paragraph, chosen) if gone]
        line = _rest(text, paragraph, chosen)
        if line.strip() or not (chosen[0] or (paragraph[0].kind == "blank" and removed and _blank_before(written))):
            written.append(line)
    return Cut("".join(written).strip("\n"), tuple(removed))


def _paragraphs(text: str, sentences: list[Sentence], verdicts: U8) -> Iterator[tuple[list[Sentence], list[int]]]:
    """The sentences of each line and their verdicts."""
    line = 0
    numbers = []
    for sentence in sentences:
        numbers.append(line)
        line += text[sentence.end - 1] == "\n"
    for _, group in groupby(range(len(sentences)), key=numbers.__getitem__):
        places = list(group)
        yield [sentences[place] for place in places], [int(verdicts[place]) for place in places]


def _chosen(text: str, paragraph: list[Sentence], marks: list[int], block_share: float) -> list[bool]:
    """Which sentences of the paragraph go."""
    chosen = [mark == REPEATED for mark in marks]
    for places in (range(1, len(marks)), range(len(marks) - 2, -1, -1)):
        for place, neighbour in zip(places, (at - places.step for at in places)):
            chosen[place] |= marks[place] == COMPANION and chosen[neighbour]
    sizes = [sentence.end - sentence.start for sentence in paragraph]
    if sum(size for size, gone in zip(sizes, chosen) if gone) >= block_share * sum(sizes):
        return [True] * len(chosen)
    for first, last in list(_runs(chosen)):
        cut = text[_begin(text, paragraph[first]):paragraph[last - 1].end]
        halved = not _balanced(cut) and not _balanced(_rest(text, paragraph, chosen))
        if halved or (first == 0 and _connective(text, paragraph[last])):
            chosen[first:last] = [False] * (last - first)
    return chosen


def _runs(chosen: list[bool]) -> Iterator[tuple[int, int]]:
    """First and one past last of every run of chosen sentences."""
    for gone, group in groupby(range(len(chosen)), key=chosen.__getitem__):
        places = list(group)
        if gone:
            yield places[0], places[-1] + 1


def _begin(text: str, sentence: Sentence) -> int:
    """Where the sentence's own words begin, after the line's mark."""
    marker = MARKER.match(text, sentence.start, sentence.end)
    return marker.end() if marker and text[sentence.start - 1:sentence.start] in ("", "\n") else sentence.start


def _connective(text: str, sentence: Sentence) -> bool:
    opening = _OPENING.match(text, sentence.start, sentence.end)
    return _CONNECTIVE.match(text, opening.end() if opening else sentence.start, sentence.end) is not None


def _balanced(part: str) -> bool:
    return part.count('"') % 2 == 0 and all(part.count(pair[0]) == part.count(pair[1]) for pair in _PAIRS)


def _rest(text: str, paragraph: list[Sentence], chosen: list[bool]) -> str:
    """What stays of the line: its mark, the sentences kept, its end; nothing when all sentences go."""
    if all(chosen):
        return ""
    if not any(chosen):
        return text[paragraph[0].start:paragraph[-1].end]
    mark = text[paragraph[0].start:_begin(text, paragraph[0])] if chosen[0] else ""
    kept = "".join(text[one.start:one.end] for one, gone in zip(paragraph, chosen) if not gone)
    end = "\n" if text[paragraph[-1].end - 1] == "\n" else ""
    return mark + kept.rstrip() + end


def _blank_before(written: list[str]) -> bool:
    return len(written) == 1 or not written[-1].strip()
