"""Quality rules and score: what they keep of real clean text and remove of raw pages and junk, per language.

    python benchmarks/quality.py [--full] [--data FOLDER]

Clean texts are split in halves by the SHA-1 of their document's name; Chinese thresholds come from the first half of
the sources in `DERIVED_FROM` (`derived` below compares them with the settings), every figure from the second half.
The peer is datatrove's pair of Gopher filters with its default settings and its tokenizer of that language.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _harness import Case, arguments, installed, report
from _quality_texts import CLEAN_KINDS, DERIVED_FROM, Clean, clean_texts, junk, raw_pages

from headwater.corpus.judging.quality import QualitySettings, judge
from headwater.corpus.judging.score import score_document, score_sentences
from headwater.corpus.judging.statistics import measure
from headwater.corpus.thresholds import derive

DATA = Path(__file__).resolve().parents[2] / "shared/data"
SETTINGS = QualitySettings()
PEER = "datatrove Gopher"
DATATROVE = {"en": "eng_Latn", "zh": "cmn_Hani"}


def passing(texts: list[str], language: str) -> tuple[float, Counter[str]]:
    """The share of texts that pass, and how many break each rule."""
    verdicts = [judge(text, language, SETTINGS) for text in texts]
    rules = Counter(" ".join(rule.split()[:2]) for verdict in verdicts for rule in verdict.broken)
    return float(np.mean([verdict.passes for verdict in verdicts])), rules


def datatrove_passing(texts: list[str], language: str) -> float | None:
    """The same share of datatrove's Gopher filters; None where it is not installed."""
    if installed("datatrove") is None:
        return None
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    filters = [GopherRepetitionFilter(language=DATATROVE[language]), GopherQualityFilter(language=DATATROVE[language])]
    return float(np.mean([all(each.filter(Document(text=text, id="0")) is True for each in filters)
                          for text in texts]))


def area_under_curve(better: list[float], worse: list[float]) -> float:
    """The probability that one of `better` is above one of `worse`, ties half."""
    ranked = np.sort(worse)
    below = np.searchsorted(ranked, better, "left") + np.searchsorted(ranked, better, "right")
    return float(np.mean(below) / 2 / len(ranked))


def judged(language: str, clean: list[Clean], data: Path, sample: int, peer_sample: int) -> list[Case]:
    """Every row of one language."""
    held_out: dict[str, list[str]] = {}
    for each in clean:
        if not each.first_half:
            held_out.setdefault(each.source, []).append(each.text)
    pages, rests = raw_pages(data, language)
    every = [text for texts in held_out.values() for text in texts]
    random.Random(0).shuffle(every)
    bad = {"raw page": pages, "left out by the extractor": rests, **junk(every, language, sample)}
    pooled = {f"all {kind}": [text for source in sources for text in held_out.get(source, [])]
              for kind, sources in CLEAN_KINDS.items()}
    for texts in pooled.values():
        random.Random(0).shuffle(texts)
    rows = []
    for kind, groups in (("clean", held_out), ("clean", pooled), ("junk", bad)):
        for name, texts in groups.items():
            share, rules = passing(texts, language)
            theirs = datatrove_passing(texts[:peer_sample], language)
            print(f"{language} {kind} {name}: {share:.3f} of {len(texts)} pass; {dict(rules.most_common(4))}")
            rows.append(Case(f"{language} {kind}: {name}", "share passing", share, PEER, theirs))
    clean_scores = scores(every, language)
    junk_scores = [score for kind, texts in bad.items() if kind not in ("raw page", "left out by the extractor")
                   for score in scores(texts, language)]
    for case, better, worse in (("clean over raw pages", clean_scores, scores(pages, language)),
                                ("clean over what is left out", clean_scores, scores(rests, language)),
                                ("raw pages over junk", scores(pages, language), junk_scores),
                                ("clean over junk", clean_scores, junk_scores)):
        rows.append(Case(f"{language} score: {case}", "AUC", area_under_curve(better, worse), "none"))
    return rows + speeds(every, language)


def scores(texts: list[str], language: str) -> list[float]:
    return [score_document(measure(text, language), language) for text in texts]


def speeds(texts: list[str], language: str) -> list[Case]:
    """Texts of 3 kB in a second of this process's CPU time, the best of five rounds."""
    size = 1000 if language == "zh" else 3000
    cut = [text[:size] for text in texts if len(text) >= size][:200]
    rows = []
    for name, function in (("judge", lambda text: judge(text, language, SETTINGS)),
                           ("score_sentences", lambda text: score_sentences(text, language))):
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for text in cut:
                function(text)
            best = min(best, time.process_time() - start)
        rows.append(Case(f"{language} {name}", "3 kB documents per CPU second", len(cut) / best, "none"))
    return rows


def derived(clean: list[Clean]) -> None:
    """Print the Chinese thresholds as the first halves give them, beside the settings."""
    sources: dict[str, list] = {}
    for each in clean:
        if each.first_half and each.source in DERIVED_FROM:
            sources.setdefault(each.source, []).append(measure(each.text, "zh"))
    settings = {rule: limit for _, family in SETTINGS.chinese or () if family for rule, limit in family}
    for threshold in derive(sources):
        print(f"zh {threshold.rule}: derived {threshold.limit:g}, set {settings.get(threshold.rule)}, "
              f"typical {threshold.typical:.3g}")


def main() -> None:
    options = arguments(__doc__, ("--data", {"type": Path, "default": DATA}))
    rows = []
    for language in ("zh", "en"):
        clean = clean_texts(options.data, language)
        if language == "zh":
            derived(clean)
        rows += judged(language, clean, options.data, *((200, 200) if options.full else (60, 15)))
    report("quality", rows, {"documents per CPU second wanted": 1500}, ("datatrove", "numpy"))


if __name__ == "__main__":
    main()
