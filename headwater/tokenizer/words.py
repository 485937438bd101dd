"""Words of a text as the vocabulary's trainer counts them: bounded in length and in number, by language."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from functools import cache

import numpy as np
from numpy.typing import NDArray

from headwater.progress import Bar
from headwater.workers import worker_processes

LONGEST = 16
"""Characters of a word of Han: a clause is cut, so that its parts meet again in other clauses."""
MOST = 1_000_000
"""Different words kept of a language; beyond it a sample stands for those counted least often."""
BATCH = 1 << 20
"""Characters counted at a time."""
STRETCH = 1 << 20
"""Characters of a text whose words are listed at a time; a word across its end counts as two."""
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


@cache
def word_pattern() -> re.Pattern[str]:
    """What a word is. No word holds a line break; every other character is in one."""
    letters = rf"[^\W\d_{_HAN}]"
    mark = rf"(?![\0-\u02ff\u3000-\u3029\u4e00-\u9fff\uff00-\uffff])[{_marks()}]"  # most characters are told at once
    return re.compile(
        rf" ?[{_HAN}]{{1,{LONGEST}}}"  # Han, apart from other letters
        rf"| ?{letters}{{1,40}}(?:{mark}{letters}{{0,40}}){{0,40}}"  # letters of other scripts with their marks
        r"|\d"  # every digit by itself
        r"| ?(?:[^\w\s]|_){1,32}"  # punctuation and signs
        r"| {1,31}(?= \S)| {1,32}|[^\S\n ]{1,32}")  # indentation (its last space is the word's), other white space


def _marks() -> str:
    """The combining marks of Unicode (an accent written for itself), as the inside of a character class."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("M")]
    starts = [code for code, before in zip(codes, [-2, *codes]) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], -2]) if code != after - 1]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends))


class Words:
    """How often each word stands in the texts of each language, in a table of bounded size.

    `counts[language]` has at most 2 * `most` words at any time and about `most` in the end. Where there are more, those
    counted often are kept with their counts, and of the others a sample, drawn with probability count / threshold, in
    which each counts as the threshold (threshold sampling: Duffield, Lund and Thorup 2005, "Learn more, sample less").
    So the expected weight of every word, and of every pair of letters that pieces are learnt from, is what a table
    without bound would hold. To forget the rare ones would cost Chinese dear: most of its clauses are said once. The
    same texts give the same counts.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.counts: dict[str, Counter[str]] = {}
        self.characters: dict[str, int] = {}
        self._draw = np.random.default_rng(0)

    def add(self, language: str, found: Mapping[str, int], characters: int) -> None:
        """Count the words of one batch of texts."""
        counts = self.counts.setdefault(language, Counter())
        counts.update(found)
        self.characters[language] = self.characters.get(language, 0) + characters
        if len(counts) > 2 * self.most:
            self._sample(language)

    def finish(self) -> Words:
        """Bring every language down to about `most` words."""
        for language, counts in self.counts.items():
            if len(counts) > self.most:
                self._sample(language)
        return self

    def weighted(self, shares: Mapping[str, float] | None = None) -> list[tuple[str, int]]:
        """(word, weight) of all languages together, heaviest first, ties in the words' order.

        shares: what part of the characters each language shall have (any scale; one not named has none); as they are
        when not given.
        """
        scales = self._scales(shares)
        total: Counter[str] = Counter()
        for language, counts in self.counts.items():
            if scale := scales[language]:
                total.update({word: round(count * scale) for word, count in counts.items()})
        return sorted(((word, weight) for word, weight in total.items() if weight),
                      key=lambda item: (-item[1], item[0]))

    def _scales(self, shares: Mapping[str, float] | None) -> dict[str, float]:
        """By how much each language's counts are multiplied; the smallest factor is one, so that nothing is rounded
        away."""
        read = {language: max(1, count) for language, count in self.characters.items()}
        factors = {one: 1.0 if shares is None else shares.get(one, 0.0) / read[one] for one in read}
        least = min((factor for factor in factors.values() if factor), default=1.0)
        return {one: factor / least for one, factor in factors.items()}

    def _sample(self, language: str) -> None:
        counts = self.counts[language]
        sizes = np.fromiter(counts.values(), np.float64, len(counts))
        limit = threshold(sizes, self.most)
        kept = self._draw.random(len(sizes)) * limit < sizes
        weights = np.maximum(sizes, limit)
        self.counts[language] = Counter({word: weight for word, weight, keep in zip(counts, weights.tolist(), kept)
                                         if keep})


def threshold(sizes: NDArray[np.float64], count: int) -> float:
    """The t for which sum(min(1, sizes / t)) is `count`, for more sizes than that."""
    falling = np.sort(sizes)[::-1]
    rest = np.cumsum(falling[::-1])[::-1][:count]  # what the k-th and all smaller ones hold together
    limits = rest / (count - np.arange(count))
    return float(limits[np.argmax(falling[:count] <= limits)])


def count_words(documents: Iterable[tuple[str, str]], *, most: int = MOST, processes: int = 1,
                shown: Bar | None = None) -> Words:
    """Count the words of (text, language) documents, read once, in so many processes; their number changes nothing."""
    words = Words(most)
    with ExitStack() as stack:
        pool: Executor | None = None
        if processes > 1:
            pool = stack.enter_context(worker_processes(processes))
        for (language, texts), found in _mapped(pool, _batches(documents), 2 * processes):
            words.add(language, found, sum(map(len, texts)))
            if shown is not None:
                shown.advance(len(texts))
    return words.finish()


def words_of(texts: list[str]) -> Counter[str]:
    """The words of some texts, long ones stretch by stretch. NUL, which cannot pass to the trainer, is left out."""
    counts: Counter[str] = Counter()
    find = word_pattern().findall
    for text in texts:
        for start in range(0, len(text), STRETCH):
            counts.update(find(text[start:start + STRETCH].replace("\0", "")))
    return counts


Batch = tuple[str, list[str]]


def _batches(documents: Iterable[tuple[str, str]]) -> Iterator[Batch]:
    """Texts of one language together, about `BATCH` characters; a batch is done when it is full."""
    waiting: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for text, language in documents:
        waiting.setdefault(language, []).append(text)
        sizes[language] = sizes.get(language, 0) + len(text)
        if sizes[language] >= BATCH:
            yield language, waiting.pop(language)
            del sizes[language]
    yield from waiting.items()


def _mapped(pool: Executor | None, batches: Iterable[Batch], ahead: int) -> Iterator[tuple[Batch, Counter[str]]]:
    """Each batch with its words, in order; with a pool so many batches are under way."""
    if pool is None:
        yield from ((batch, words_of(batch[1])) for batch in batches)
        return
    under_way: deque[tuple[Batch, Future[Counter[str]]]] = deque()
    for batch in batches:
        under_way.append((batch, pool.submit(words_of, batch[1])))
        if len(under_way) > ahead:
            done, future = under_way.popleft()
            yield done, future.result()
    yield from ((done, future.result()) for done, future in under_way)
