"""Benchmark questions inside documents: n-grams of tokens, found near each other (PaLM's and GPT-3's rules joined)."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.corpus.decontamination.benchmarks import Benchmark, BenchmarkSource, Question, read_benchmark
from headwater.corpus.decontamination.short_questions import ARRAYS as SHORT_ARRAYS
from headwater.corpus.decontamination.short_questions import ShortQuestions
from headwater.corpus.decontamination.token_places import I64, U64, ngrams, places
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import Settings

FORMAT = 2
_ARRAYS = ("sizes", "owners", "grams", "bounds", "posts", "bitmap")
_WORD_SALT, _HAN_SALT = 1, 2


class ContaminationSettings(Settings):
    """Benchmarks that must not be trained on, and what counts as one of their questions.

    A question is cut into n-grams of tokens (words, or characters where most tokens are Chinese). It is found where
    enough of them stand in a stretch of the document not much longer than itself. A question shorter than an n-gram
    is sought whole, letter by letter, and by n-grams with its choices and with its answer; is it too short for all
    of these, it is not sought (the build says how many).
    """

    benchmarks: Annotated[tuple[BenchmarkSource, ...], Field(min_length=1)]
    """Folders or files of questions."""
    words: Annotated[int, Field(ge=2, le=50)] = 8
    """Tokens in an n-gram of a question in words."""
    characters: Annotated[int, Field(ge=2, le=50)] = 10
    """Tokens in an n-gram of a Chinese question."""
    whole: Annotated[int, Field(ge=4)] = 14
    """Least letters of a question too short for n-grams that is sought whole, a Chinese character being two."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Least share of a question's n-grams; with 0 the first one found counts."""
    shortest: Annotated[int, Field(ge=1)] = 13
    """Least tokens that the found n-grams span (all, of a shorter question), whatever the share."""
    common: Annotated[int, Field(ge=1)] = 8
    """An n-gram of more questions than this is a phrase of the benchmark ("which of the following is true of the"):
    it proves nothing."""
    action: Literal["drop", "cut"] = "drop"
    """drop: remove the document. cut: remove the passage, `margin` characters on either side and the sentences it
    touches."""
    margin: Annotated[int, Field(ge=0)] = 200
    """Characters that a cut takes on either side (GPT-3: 200): the choices and the answer stand there."""
    pieces: Annotated[int, Field(ge=1)] = 10
    """A document cut into more pieces than this is dropped (GPT-3)."""


@dataclass(frozen=True)
class Leak:
    """A question inside a document: `file` and `row` as in `Question`, `share` of its n-grams found; the n-grams
    found span the document's characters `start` to `end`."""

    benchmark: str
    file: str
    row: int
    share: float
    start: int
    end: int

    @property
    def question(self) -> str:
        """Names the question, for the report and for leaving it out of an evaluation."""
        return f"{self.benchmark}/{self.file}#{self.row}"


class LeakIndex:
    """The n-grams of every question. Build it once; worker processes `load` what it saved, memory-mapped.

    Takes about 30 bytes per distinct n-gram (24 in the arrays, 2 to 4 in the bitmap) and the questions' names;
    50,000 questions of 40 tokens each take about 45 MB. Deterministic; holds no text of any question.
    """

    def __init__(self, settings: ContaminationSettings, names: list[tuple[str, str, int]],
                 arrays: dict[str, NDArray[Any]], short: ShortQuestions, unchecked: int) -> None:
        self.settings, self.names, self.unchecked = settings, names, unchecked
        self._arrays, self._short = arrays, short
        self._sizes, self._owners, self._grams, self._bounds, self._posts, self._bitmap = (
            arrays[name] for name in _ARRAYS)
        self._shift = np.uint64(64 - (8 * len(self._bitmap) - 1).bit_length())

    @classmethod
    def build(cls, settings: ContaminationSettings) -> LeakIndex:
        """Read and index the benchmarks, saying what each was recognised as.

        Raises `InputError` for a benchmark that is missing, damaged or of an unknown form.
        """
        read = [read_benchmark(source) for source in settings.benchmarks]
        index = cls.of_questions((question for one in read for question in one.questions), settings)
        for line in map(Benchmark.describe, read):
            say(line)
        if index.unchecked:
            say(f"{index.unchecked:,} of {len(index.names):,} questions are too short or too common to be sought")
        return index

    @classmethod
    def of_questions(cls, questions: Iterable[Question], settings: ContaminationSettings) -> LeakIndex:
        """Index questions at hand; the settings' benchmarks are not read."""
        asked = list(questions)
        keys = [_unit(question.text, settings) for question in asked]
        owners = list(range(len(asked)))
        few = np.flatnonzero(_uncommon(keys, settings.common)[1] == 0)
        for number in map(int, few):
            found = _with_more(asked[number], settings)
            keys += found
            owners += [number] * len(found)
        short, whole = ShortQuestions.of(((int(number), asked[number].text, asked[number].options) for number in few),
                                         settings.whole)
        arrays = _arrays(keys, owners, settings.common)
        sought = whole | {owner for owner, size in zip(owners, arrays["sizes"], strict=True) if size}
        names = [(question.benchmark, question.file, question.row) for question in asked]
        return cls(settings, names, arrays, short, len(asked) - len(sought))

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in self._all_arrays().values())

    def save(self, folder: Path) -> None:
        """Write the index into a folder (plain .npy arrays and one JSON file)."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self._all_arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        about = {"format": FORMAT, "settings": self.settings.model_dump(mode="json"), "names": self.names,
                 "unchecked": self.unchecked}
        (folder / "index.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LeakIndex:
        """Open a saved index, its arrays memory-mapped. Raises `InputError` for a folder that holds none."""
        try:
            about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
            short = {name: np.load(folder / f"short_{name}.npy", allow_pickle=False) for name in SHORT_ARRAYS}
            names = [(benchmark, file, row) for benchmark, file, row in about["names"]]
            unchecked = int(about["unchecked"])
            settings = ContaminationSettings.parse(about["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a saved index of questions ({error})", where=folder, fix="build it again") from None
        return cls(settings, names, arrays, ShortQuestions(short), unchecked)

    def _all_arrays(self) -> dict[str, NDArray[Any]]:
        return self._arrays | {f"short_{name}": array for name, array in self._short.arrays.items()}

    def leaks(self, text: str) -> list[Leak]:
        """The questions found in a document, in the order of their places."""
        best: dict[int, Leak] = {}
        for owner, leak in (*self._whole_leaks(text), *self._leaks_of_ngrams(text)):
            if owner not in best or leak.share > best[owner].share:
                best[owner] = leak
        return sorted(best.values(), key=lambda leak: (leak.start, leak.end, leak.question))

    def _whole_leaks(self, text: str) -> Iterator[tuple[int, Leak]]:
        for owner, start, end in self._short.find(text):
            yield owner, Leak(*self.names[owner], 1.0, start, end)

    def _leaks_of_ngrams(self, text: str) -> Iterator[tuple[int, Leak]]:
        tokens = places(text)
        passes = _passes(self.settings)
        found = [self._found(tokens.hashes, size, salt) for size, salt in passes]
        ends_at = np.concatenate([at + size - 1 for (at, _), (size, _) in zip(found, passes, strict=True)])
        starts_at, grams = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if not len(grams):
            return
        for unit, starts, ends, numbers in self._candidates(starts_at, ends_at, grams):
            hit = _window(starts, ends, numbers, *self._needs(unit, int(ends[0] - starts[0] + 1)))
            if hit is not None:
                first, last, count = hit
                owner = int(self._owners[unit])
                yield owner, Leak(*self.names[owner], count / int(self._sizes[unit]), int(tokens.starts[first]),
                                  int(tokens.ends[last]))

    def _found(self, hashes: U64, size: int, salt: int) -> tuple[I64, I64]:
        """Where the document's n-grams are some question's, and the n-grams' numbers."""
        keys = ngrams(hashes, size, salt)
        slots = keys >> self._shift
        likely = np.flatnonzero((self._bitmap[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)) & 1)
        if not len(likely):
            return likely, likely
        at = np.searchsorted(self._grams, keys[likely])
        at[at == len(self._grams)] = 0
        same = self._grams[at] == keys[likely]
        return likely[same], at[same]

    def _candidates(self, starts: I64, ends: I64, grams: I64) -> Iterable[tuple[int, I64, I64, I64]]:
        """(unit, first tokens, last tokens, n-grams) of each unit of which enough n-grams are in the document."""
        counts = self._bounds[grams + 1] - self._bounds[grams]
        base = np.repeat(self._bounds[grams] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        units = self._posts[base + np.arange(len(base))]
        hit = np.repeat(np.arange(len(grams)), counts)
        order = np.lexsort((starts[hit], units))
        units, hit = units[order], hit[order]
        edges = np.flatnonzero(np.diff(units, prepend=-1))
        for first, last in zip(edges, [*edges[1:], len(units)], strict=True):
            unit, chosen = int(units[first]), hit[first:last]
            if last - first >= max(1, np.ceil(self.settings.share * self._sizes[unit])):
                yield unit, starts[chosen], ends[chosen], grams[chosen]

    def _needs(self, unit: int, size: int) -> tuple[int, int]:
        """Distinct n-grams needed of a unit, and the widest stretch of tokens that may hold them."""
        total, settings = int(self._sizes[unit]), self.settings
        enough = max(int(np.ceil(settings.share * total - 1e-9)), min(total, settings.shortest - size + 1), 1)
        return enough, int(1.5 * (total + size)) + 10


def remove_leaks(text: str, leaks: list[Leak], settings: ContaminationSettings) -> str:
    """The document without the leaked passages, or "" where too little is left of it.

    A passage grows by `margin` characters on either side, then to the ends of the sentences or lines it touches.
    """
    spans: list[tuple[int, int]] = []
    for leak in sorted(leaks, key=lambda leak: leak.start):
        start = _sentence_start(text, max(0, leak.start - settings.margin))
        end = _sentence_end(text, min(len(text), leak.end + settings.margin))
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    cuts = [0, *(place for span in spans for place in span), len(text)]
    kept = [piece for start, end in zip(cuts[::2], cuts[1::2], strict=True) if (piece := text[start:end].strip())]
    return "" if len(kept) > settings.pieces else "\n".join(kept)


def _sentence_start(text: str, at: int) -> int:
    marks = [text.rfind(mark, 0, at) + len(mark) for mark in ("\n", "。", "！", "？", ". ", "! ", "? ")
             if text.rfind(mark, 0, at) >= 0]
    return max(marks, default=0)


def _sentence_end(text: str, at: int) -> int:
    marks = [found + len(mark) for mark in ("\n", "。", "！", "？", ". ", "! ", "? ")
             if (found := text.find(mark, max(0, at - 1))) >= 0]
    return min(marks, default=len(text))


def _passes(settings: ContaminationSettings) -> tuple[tuple[int, int], tuple[int, int]]:
    return (settings.words, _WORD_SALT), (settings.characters, _HAN_SALT)


def _with_more(question: Question, settings: ContaminationSettings) -> list[U64]:
    """The n-grams of a short question with its choices, and with its answer."""
    units = [_unit(f"{question.text}\n{more}", settings) for more in ("\n".join(question.options), question.answer)
             if more.strip()]
    return [unit for unit in units if len(unit)]


def _unit(text: str, settings: ContaminationSettings) -> U64:
    tokens = places(text)
    size, salt = _passes(settings)[int(2 * tokens.han > len(tokens.hashes))]
    return np.unique(ngrams(tokens.hashes, size, salt))


def _arrays(keys: list[U64], owners: list[int], common: int) -> dict[str, NDArray[Any]]:
    """`grams` [G] are sorted; n-gram g stands in the units posts[bounds[g]:bounds[g+1]]; `sizes`, `owners` [units]."""
    (flat, units), sizes = _uncommon(keys, common)
    grams, first = np.unique(flat, return_index=True)
    bits = max(16, (16 * len(grams)).bit_length())
    bitmap = np.zeros(1 << (bits - 3), np.uint8)
    slots = grams >> np.uint64(64 - bits)
    np.bitwise_or.at(bitmap, slots >> np.uint64(3), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8))
    return {"sizes": sizes, "owners": np.array(owners, np.int64), "grams": grams,
            "bounds": np.append(first, len(flat)), "posts": units, "bitmap": bitmap}


def _uncommon(keys: list[U64], common: int) -> tuple[tuple[U64, I64], I64]:
    """The sorted n-grams of all units that are no common phrase, the unit of each, and how many every unit has."""
    flat = np.concatenate([np.zeros(0, np.uint64), *keys])
    units = np.repeat(np.arange(len(keys)), [len(unit) for unit in keys])
    order = np.argsort(flat, kind="stable")
    flat, units = flat[order], units[order]
    wholes = np.array([_whole(unit) for unit in keys], np.uint64)
    use = _spread(flat, wholes[units]) <= common
    return (flat[use], units[use]), np.bincount(units[use], minlength=len(keys))


def _whole(unit: U64) -> np.uint64:
    """One number for all of a unit, equal for copies of a question."""
    return np.uint64(np.bitwise_xor.reduce(unit))


def _spread(flat: U64, wholes: U64) -> I64:
    """Of every entry of the sorted n-grams: in how many different questions its n-gram stands (copies count once)."""
    order = np.lexsort((wholes, flat))
    grams, texts = flat[order], wholes[order]
    new = np.ones(len(grams), np.bool_)
    new[1:] = (grams[1:] != grams[:-1]) | (texts[1:] != texts[:-1])
    _, which = np.unique(flat, return_inverse=True)
    return np.bincount(which[order[new]], minlength=which.max(initial=-1) + 1)[which]


def _window(starts: I64, ends: I64, grams: I64, enough: int, widest: int) -> tuple[int, int, int] | None:
    """The first stretch of at most `widest` tokens with the most distinct n-grams: (first, last token, count)."""
    held: dict[int, int] = {}
    best: tuple[int, int, int] | None = None
    left = 0
    for right in range(len(starts)):
        held[int(grams[right])] = held.get(int(grams[right]), 0) + 1
        floor = bisect_left(starts, int(ends[right]) - widest + 1, left, right + 1)
        for gone in grams[left:floor]:
            held[int(gone)] -= 1
            if not held[int(gone)]:
                del held[int(gone)]
        left = max(left, floor)
        if len(held) >= enough and (best is None or len(held) > best[2]):
            best = int(starts[left]), int(ends[right]), len(held)
    return best
