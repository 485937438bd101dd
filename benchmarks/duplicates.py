"""Duplicates: recall and precision on real text with planted edits and on the Atlas, growth, memory, speed.

    python benchmarks/duplicates.py [--full] [--text FOLDER]

The Atlas's pages are those of 100 tokens and more. Real text is the folder's documents whose hash is odd; thresholds
were chosen on the others. A copy is found when it and its original share a representative; a removed document is right
when its representative is of its own family. A planted sentence is found when it is cut whole; a cut sentence is right
when it was planted or stands (token similarity 0.7) in as many documents as the setting asks.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from _edits import EDITS, pieces, tokens_of
from _harness import Case, arguments, installed, measure_interleaved, report

from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as invent
from headwater.corpus.deduplication.clusters import Clusters, estimate_from, representatives
from headwater.corpus.deduplication.cutting import Cut, remove_sentences
from headwater.corpus.deduplication.minhash import (
    BandKeys,
    MinHashSettings,
    band_keys,
    detection_probability,
    exact_jaccard,
)
from headwater.corpus.deduplication.repeated import SentenceSettings, sentence_keys, verdicts
from headwater.corpus.deduplication.sentences import split
from headwater.corpus.judging.length import tokens

TEXT = Path(__file__).resolve().parents[2] / "shared/data/text"
BATCH = 64
LENGTHS = (60, 100, 200, 400, 1000)
PAGE = 4000
"""Characters of a document in which sentences are planted."""
QUICK = ("block replaced", "tokens substituted", "typos")
"""Edits of sentences in the quick run."""
PEERS = ("datasketch", "rensa", "numpy", "pyarrow")


def documents(root: Path, language: str) -> list[str]:
    """The held-out half of the folder's running text, in an order drawn by hash."""
    found = []
    for file in sorted(root.glob(f"{language}/*/docs.jsonl")) + sorted(root.glob(f"{language}/c4_demo/*.jsonl")):
        found += [json.loads(line)["text"] for line in file.read_text("utf-8").split("\n") if line]
    for file in sorted(root.glob("en/standard_ebooks/*.txt") if language == "en" else root.glob("zh/luxun/*.txt")):
        text = file.read_text("utf-8")
        found += [text[start:start + 6000] for start in range(0, len(text), 6000)]
    keyed = sorted((hashlib.blake2b(text.encode()).digest(), text) for text in found)
    return [text for digest, text in keyed if digest[0] % 2]


def excerpts(texts: list[str], count: int) -> list[str]:
    """`count` pieces of the texts, none overlapping another, equally many of each length."""
    wanted = dict.fromkeys(LENGTHS, count // len(LENGTHS))
    found = []
    for number, text in enumerate(texts):
        parts, start = pieces(text), 0
        for length in random.Random(number).sample(LENGTHS, len(LENGTHS)):
            if wanted[length] and len(parts) // 2 >= start + length:
                found.append("".join(parts[2 * start:2 * (start + length) + 1]))
                wanted[length], start = wanted[length] - 1, start + length
    return found


def keys_of(texts: list[str], settings: MinHashSettings) -> BandKeys:
    found = [band_keys(texts[start:start + BATCH], settings) for start in range(0, len(texts), BATCH)]
    return BandKeys(*(np.concatenate(column) for column in zip(*found)))


def cluster(keys: BandKeys, texts: list[str], settings: MinHashSettings) -> Clusters:
    lengths = np.array([len(text) for text in texts])
    return representatives(keys.keys.T, estimate_from(lambda rows: keys.sketch[rows]), lengths, settings.similarity)


def scores(kept: np.ndarray, family: np.ndarray) -> tuple[float, float]:
    """Recall over families of two (an original and its copy, each family's first and last), and precision."""
    removed = np.flatnonzero(kept != np.arange(len(kept)))
    half = len(kept) // 2
    right = family[kept[removed]] == family[removed]
    return float((kept[:half] == kept[half:]).mean()), float(right.mean()) if len(removed) else 1.0


def document_rows(root: Path, count: int, rates: tuple[float, ...]) -> Iterator[Case]:
    settings = MinHashSettings()
    strict = MinHashSettings(loose=None, similarity=0)
    for language in ("en", "zh"):
        texts = documents(root, language)
        originals = excerpts(texts, count)
        first = [keys_of(originals, chosen) for chosen in (settings, strict)]
        for kind, edit in EDITS.items():
            for rate in rates:
                draw = random.Random(1)
                every = originals + [edit(text, rate, texts, draw) for text in originals]
                family = np.arange(len(every)) % len(originals)
                found = []
                for chosen, before in zip((settings, strict), first):
                    after = keys_of(every[len(originals):], chosen)
                    keys = BandKeys(*(np.concatenate(pair) for pair in zip(before, after)))
                    found.append(scores(cluster(keys, every, chosen).representative, family))
                case = f"documents {language}, {kind}, {rate:.0%}, {len(originals)} pairs"
                yield Case.compare(case, "recall", found[0][0], "14 x 8 bands alone", found[1][0])
                yield Case.compare(case, "precision", found[0][1], "14 x 8 bands alone", found[1][1])


def curve_rows(pairs: int) -> Iterator[Case]:
    """Recall of the main bands at planted Jaccard similarities, against 1 - (1 - s^8)^14."""
    settings = MinHashSettings(loose=None, similarity=0)
    for similarity in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9):
        shared = round(400 * similarity / (1 + similarity))
        texts = []
        for pair in range(pairs):
            words = [f"w{pair}x{number}" for number in range(408)]
            texts += [" ".join(words[:204]), " ".join(words[:shared + 4] + words[204:404 - shared])]
        kept = cluster(keys_of(texts, settings), texts, settings).representative
        expected = detection_probability(exact_jaccard(texts[0], texts[1], settings.ngram), settings)
        yield Case.compare(f"14 x 8 bands, Jaccard {similarity}, {pairs} pairs", "recall",
                           float((kept[::2] == kept[1::2]).mean()), "1 - (1 - s^8)^14", expected)


def cuts_of(texts: list[str], settings: SentenceSettings) -> list[Cut]:
    found = [sentence_keys(texts[start:start + BATCH], settings) for start in range(0, len(texts), BATCH)]
    counts = np.concatenate([np.diff(keys.bounds) for keys in found])
    keys, sketch = np.concatenate([one.keys for one in found]), np.concatenate([one.sketch for one in found])
    marks = verdicts(np.concatenate([one.exact for one in found]), np.repeat(np.arange(len(texts)), counts),
                     np.concatenate([one.figures for one in found]), lambda band: keys[:, band],
                     lambda rows: sketch[rows], settings)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    return [remove_sentences(text, marks[bounds[place]:bounds[place + 1]], settings)
            for place, text in enumerate(texts)]


def sentence_rows(root: Path, count: int, rates: tuple[float, ...], kinds: tuple[str, ...]) -> Iterator[Case]:
    settings = SentenceSettings()
    for language in ("en", "zh"):
        every = [text[:PAGE] for text in documents(root, language)]
        texts, others = every[:count], every[count:] or every
        yield from natural_rows(language, texts, settings)
        for kind in kinds:
            for rate in rates:
                for share in (0.5, 1.0):
                    pages, planted = plant(texts, others, partial(EDITS[kind], share=rate), share, language)
                    recall, precision = sentence_scores(pages, planted, cuts_of(pages, settings), settings)
                    case = f"sentences {language}, {kind}, {rate:.0%} of {share:.0%}, {len(texts)} documents"
                    yield Case(case, "recall", recall, "-")
                    yield Case(case, "precision", precision, "-")


def natural_rows(language: str, texts: list[str], settings: SentenceSettings) -> Iterator[Case]:
    """What is cut where nothing was planted."""
    cuts = cuts_of(texts, settings)
    judge = Repeats(texts, settings.documents)
    removed = [sentence for cut in cuts for sentence in cut.removed]
    case = f"sentences {language}, nothing planted, {len(texts)} documents"
    yield Case(case, "sentences cut", len(removed), "-")
    yield Case(case, "precision", float(np.mean([judge(sentence) for sentence in removed])), "-")


def plant(texts: list[str], others: list[str], edit: Callable[..., str], share: float,
          language: str) -> tuple[list[str], list[tuple[int, str]]]:
    """Sixty sentences of other texts in five to ten of these each, so large a share of the instances edited."""
    draw = random.Random(7)
    least, space = (8, " ") if language == "en" else (14, "")
    pool = sorted({sentence for text in others for sentence in _sentences(text)
                   if least <= len(tokens_of(sentence)) <= 45 and _whole(sentence)})
    pages, planted = list(texts), []
    for template in draw.sample(pool, 60):
        for page in draw.sample(range(len(texts)), draw.randint(5, 10)):
            sentence = " ".join(edit(template, others=others, draw=draw).split()) if draw.random() < share else template
            sentence = sentence.rstrip(".!?。！？").translate(str.maketrans("。！？!?", "，，，,,")).replace(". ", ", ")
            sentence += "." if language == "en" else "。"
            spots = [part.end for part in split(pages[page]) if part.kind == "prose"
                     and len(pages[page][part.start:part.end]) > 15
                     and pages[page][part.start:part.end].rstrip().endswith((".", "!", "?", "。", "！", "？"))]
            if not spots:
                continue
            before, after = pages[page][:(spot := draw.choice(spots))], pages[page][spot:]
            if draw.random() < 0.5:
                pages[page] = before.rstrip() + space + sentence + before[len(before.rstrip()):] + after
            else:
                line = after.find("\n") + 1 or len(after)
                pages[page] = f"{before}{after[:line].rstrip()}\n{sentence}\n{after[line:]}"
            planted.append((page, sentence))
    return pages, planted


def _sentences(text: str) -> Iterator[str]:
    return (text[part.start:part.end].strip() for part in split(text) if part.kind == "prose")


def _whole(sentence: str) -> bool:
    return ((sentence[0].isupper() or "\u4e00" <= sentence[0] <= "\u9fff") and sentence[-1] in ".!?。！？"
            and sentence.count('"') % 2 == 0
            and all(sentence.count(one) == sentence.count(other) for one, other in ("“”", "《》", "()", "（）", "[]")))


class Repeats:
    """Says whether a sentence stands, about, in so many documents."""

    def __init__(self, texts: list[str], least: int) -> None:
        self.least, self.where = least, defaultdict(set)
        self.holding: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
        for number, text in enumerate(texts):
            for sentence in _sentences(text):
                self.where[tuple(tokens(sentence))].add(number)
        for words in self.where:
            for pair in pairwise(words):
                self.holding[pair].add(words)

    def __call__(self, sentence: str) -> bool:
        words = tuple(tokens(sentence))
        shared: dict[tuple[str, ...], int] = defaultdict(int)
        for pair in set(pairwise(words)):
            for other in self.holding[pair]:
                shared[other] += 1
        found = set(self.where[words])
        for other in sorted(shared, key=lambda one: -shared[one])[:300]:
            if len(found) < self.least and SequenceMatcher(None, words, other, autojunk=False).ratio() >= 0.7:
                found |= self.where[other]
        return len(found) >= self.least


def sentence_scores(pages: list[str], planted: list[tuple[int, str]], cuts: list[Cut],
                    settings: SentenceSettings) -> tuple[float, float]:
    own: dict[int, list[str]] = defaultdict(list)
    for page, sentence in planted:
        own[page].append(" ".join(tokens(sentence)))
    found, right, wrong = 0, 0, []
    for page, cut in enumerate(cuts):
        gone = [" ".join(tokens(sentence)) for sentence in cut.removed]
        found += sum(sentence in " ".join(gone) for sentence in own[page])
        for sentence in gone:
            if any(sentence in one or one in sentence for one in own[page]):
                right += 1
            else:
                wrong.append(sentence)
    judge = Repeats(pages, settings.documents) if wrong else None
    right += sum(judge(sentence) for sentence in wrong) if judge else 0
    return found / len(planted), right / max(1, sum(len(cut.removed) for cut in cuts))


def atlas_rows() -> Iterator[Case]:
    """Copies and boilerplate of the Atlas (small), its labels the truth."""
    with tempfile.TemporaryDirectory() as folder:
        invent(AtlasSettings(size="small"), Path(folder))
        pages = [json.loads(line) for line in (Path(folder) / "pages/labels.jsonl").read_text("utf-8").splitlines()]
    settings, sentences = MinHashSettings(), SentenceSettings()
    for language in ("en", "zh"):
        own = [page for page in pages if page["lang"] == language and len(tokens(page["text"] or "")) >= 100]
        texts = [page["text"] for page in own]
        kept = cluster(keys_of(texts, settings), texts, settings).representative
        place = {page["file"]: number for number, page in enumerate(own)}
        family = np.array([place.get(page["of"], number) for number, page in enumerate(own)])
        for kind in ("exact_copy", "near_copy"):
            copies = [number for number, page in enumerate(own) if page["kind"] == kind]
            yield Case(f"Atlas {language}, {kind}, {len(copies)} copies", "recall",
                       float((kept[copies] == kept[family[copies]]).mean()), "-")
        removed = np.flatnonzero(kept != np.arange(len(kept)))
        spun = np.array([own[number]["kind"] == "machine_spun" for number in removed])
        right = family[kept[removed]] == family[removed]
        yield Case(f"Atlas {language}, {len(removed)} documents removed", "precision", float(right.mean()), "-")
        yield Case(f"Atlas {language}, {len(removed) - spun.sum()} removed, machine-spun pages aside", "precision",
                   float(right[~spun].mean()), "-")
        own = [page for number, page in enumerate(own) if kept[number] == number]
        texts = [page["text"] for page in own]
        cuts = cuts_of(texts, sentences)
        planted = [(number, sentence) for number, page in enumerate(own) if page["kind"] == "boilerplate"
                   for sentence in page["planted"]]
        recall, precision = sentence_scores(texts, planted, cuts, sentences)
        case = f"Atlas {language}, boilerplate, {len(planted)} sentences"
        yield from (Case(case, "recall", recall, "-"), Case(case, "precision", precision, "-"))


def speed_rows(texts: list[str], repeats: int) -> Iterator[Case]:
    settings, sentences = MinHashSettings(), SentenceSettings()
    batches = [texts[start:start + BATCH] for start in range(0, len(texts), BATCH)]
    functions: dict[str, Callable[[], object]] = {
        "band keys": lambda: [band_keys(batch, settings) for batch in batches],
        "sentence keys": lambda: [sentence_keys(batch, sentences) for batch in batches]}
    if installed("datasketch"):
        from datasketch import MinHash

        functions["datasketch"] = lambda: list(MinHash.generator(
            [[" ".join(gram).encode() for gram in _grams(tokens(text), 5)] for text in texts], num_perm=112))
        functions["datasketch sentences"] = lambda: list(MinHash.generator(
            [[" ".join(gram).encode() for gram in _grams(tokens(sentence), 2)]
             for text in texts for sentence in _sentences(text)], num_perm=72))
    seconds = measure_interleaved(functions, repeats)
    for ours, peer, case in (("band keys", "datasketch", "112 + 72 permutations, with shingling"),
                             ("sentence keys", "datasketch sentences", "sentences, 72 permutations, with splitting")):
        if peer in seconds:
            yield Case.compare(case, "documents/s", len(texts) / seconds[ours], peer, len(texts) / seconds[peer])
        else:
            yield Case(case, "documents/s", len(texts) / seconds[ours], f"{peer} (not installed)")


def _grams(words: list[str], size: int) -> list[list[str]]:
    return [words[start:start + size] for start in range(max(1, len(words) - size + 1))]


def main() -> None:
    options = arguments(__doc__, ("--text", {"type": Path, "default": TEXT, "help": "folder of real text"}))
    rates = (0.02, 0.05, 0.1) if options.full else (0.1,)
    rows = [*curve_rows(1000 if options.full else 300), *atlas_rows()]
    if options.text.is_dir():
        texts = [text for language in ("en", "zh") for text in excerpts(documents(options.text, language), 500)]
        rows += speed_rows(texts, 7 if options.full else 3)
        rows += document_rows(options.text, 1000 if options.full else 200, rates)
        rows += sentence_rows(options.text, 600 if options.full else 200, rates,
                              tuple(kind for kind in EDITS if kind != "header and footer") if options.full else QUICK)
    else:
        rows.append(Case("real text", "recall", None, f"no text at {options.text.name}"))
    report("duplicates", rows, {}, PEERS)


if __name__ == "__main__":
    main()
