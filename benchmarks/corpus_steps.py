"""The steps of the corpus on one document each: how often language, length, machine text and toxicity are right on
real text, what the mix reaches, and how many documents a second each step judges.

    python benchmarks/corpus_steps.py [--full] [--data FOLDER]

Language: a paragraph of 100 to 400 characters of every document whose folder names its language, and whether the
Chinese of DRCD (traditional) and CMRC 2018 (simplified) is told apart. Wrong removals: clean text of both languages
(`_quality_texts.py`), the pages in which people judged the main text, and pages of an invented world; how much of that
world's planted text is found. Mix: both languages brought to equal shares of the kept tokens, from the real sizes.
`--quick` takes every eighth document.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from _harness import Case, arguments, report
from _quality_texts import clean_texts

from headwater.artifacts import read_jsonl
from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as invent
from headwater.corpus.classifying.machine import MachineJudge
from headwater.corpus.classifying.toxicity import ToxicityJudge
from headwater.corpus.extraction.extract import extract
from headwater.corpus.judging.language import identify
from headwater.corpus.judging.length import HAN, count_tokens
from headwater.corpus.judging.quality import QualitySettings, judge
from headwater.corpus.judging.score import score_sentences
from headwater.corpus.mix import MixSettings, copies
from headwater.corpus.privacy.private import find_private
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.tidying import tidy

DATA = Path(__file__).resolve().parents[2] / "shared/data"
LANGUAGES = ("en", "zh")
HAN_ONE = re.compile(f"[{HAN}]")
Texts = dict[str, list[str]]


def paragraphs(data: Path, language: str) -> Iterator[str]:
    """Of every document in that language's folder its first paragraph of 100 to 400 characters, of which a third is Han
    in Chinese and none in English (manuals begin with code, translations with the original)."""
    for file in sorted((data / "text" / language).glob("*/docs.jsonl")):
        for row in read_jsonl(file):
            found = next((line for line in tidy(row["text"]).split("\n") if 100 <= len(line) <= 400
                          and (len(HAN_ONE.findall(line)) * 3 >= len(line)) == (language == "zh")), None)
            if found is not None:
                yield found


def languages(data: Path, every: int) -> list[Case]:
    cases = []
    for language in LANGUAGES:
        texts = list(islice(paragraphs(data, language), 0, None, every))
        right = np.mean([identify(text).code == language for text in texts])
        cases.append(Case(f"{language}: {len(texts):,} paragraphs", "language right", float(right), "none"))
    for name, traditional in (("drcd/DRCD_test.json", True), ("cmrc2018/squad-style-data/cmrc2018_dev.json", False)):
        articles = json.loads((data / "benchmarks" / name).read_text("utf-8"))["data"]
        texts = [tidy(part["context"]) for article in articles for part in article["paragraphs"]][::every]
        found = [identify(text) for text in texts]
        right = np.mean([one.code == "zh" and one.traditional == traditional for one in found])
        cases.append(Case(f"{name.split('/')[0]}: {len(texts):,} paragraphs", "script right", float(right), "none"))
    return cases


def labelled_pages(data: Path, every: int) -> Texts:
    """The main text, as the fast extractor finds it, of the real pages, at least 100 tokens, each once."""
    found: dict[str, str] = {}
    shards = list(list_shards([Source(path=data / "html", format="html")]))[::every]
    for raw in (raw for shard in shards for raw in read(shard)):
        try:
            text = extract(decode(raw.content, declared_charset(raw.content))[0], "fast")
        except UnicodeError:
            continue
        if count_tokens(text) >= 100:
            found.setdefault(text, identify(text).code)
    return {language: [text for text, one in found.items() if one == language] for language in LANGUAGES}


def invented(every: int) -> tuple[Texts, dict[str, Texts]]:
    """The Atlas's clean pages, and its planted ones by kind."""
    clean: Texts = {language: [] for language in LANGUAGES}
    planted: dict[str, Texts] = {}
    with tempfile.TemporaryDirectory() as scratch:
        invent(AtlasSettings(seed=11), Path(scratch))
        pages = Path(scratch) / "pages"
        for label in read_jsonl(pages / "labels.jsonl"):
            if label["lang"] not in LANGUAGES or label["kind"] not in ("clean", "machine_spun", "ocr_damaged", "abuse"):
                continue
            content = (pages / label["file"]).read_bytes()
            text = extract(decode(content, declared_charset(content))[0], "fast")
            group = clean if label["kind"] == "clean" else planted.setdefault(label["kind"], {one: [] for one in
                                                                                           LANGUAGES})
            group[label["lang"]].append(text)
    return {language: texts[::every] for language, texts in clean.items()}, planted


def flagged(name: str, group: str, texts: Texts, verdict: Callable[[str, str], bool]) -> list[Case]:
    return [Case(f"{name}: {len(texts[language]):,} {group}, {language}", "share removed",
                 float(np.mean([verdict(text, language) for text in texts[language]])), "none")
            for language in LANGUAGES if texts[language]]


def removals(data: Path, every: int) -> list[Case]:
    machine, toxicity = MachineJudge(), ToxicityJudge()
    clean = {language: [one.text for one in clean_texts(data, language)][::every] for language in LANGUAGES}
    pages, (world, planted) = labelled_pages(data, every), invented(every)
    verdicts: dict[str, tuple[str, Callable[[str, str], bool]]] = {
        "machine-made": ("machine_spun", lambda text, language: flag(machine.machine_made(text, language))),
        "OCR damage": ("ocr_damaged", lambda text, language: flag(machine.ocr_damaged(text, language))),
        "abuse": ("abuse", lambda text, language: toxicity(text, language).toxic)}
    cases = []
    for name, (kind, verdict) in verdicts.items():
        for group, texts in (("clean texts", clean), ("real pages", pages), ("clean invented pages", world),
                             *([(f"planted pages ({kind})", planted[kind])] if kind in planted else [])):
            cases += flagged(name, group, texts, verdict)
    cases += flagged("abuse", "clean texts in short pages", short_pages(clean), verdicts["abuse"][1])
    rows = list(read_jsonl(data / "filters/agt2025_human_vs_ai/agt2025.jsonl"))[::every]
    for label, group in ((1, "texts of GPT-4.5 and DeepSeek-R1"), (0, "texts of people beside them")):
        texts = {language: [row["text"] for row in rows if row["label"] == label and row["lang"] == language]
                 for language in LANGUAGES}
        cases += flagged("machine-made", group, texts, verdicts["machine-made"][1])
    return cases + mixing(clean) + speeds(clean)


def short_pages(texts: Texts) -> Texts:
    """The texts cut at line ends into pages of little more than 100 tokens, where one sentence is a large share."""
    found: Texts = {language: [] for language in texts}
    for language, wholes in texts.items():
        for whole in wholes:
            page, size = [], 0
            for line in whole.split("\n"):
                page.append(line)
                size += count_tokens(line)
                if size >= 100:
                    found[language].append("\n".join(page))
                    page, size = [], 0
    return found


def flag(score: object) -> bool:
    return bool(getattr(score, "flagged", False))


def mixing(clean: Texts) -> list[Case]:
    """How far the languages' shares stray from one half, and whether a larger mix holds a smaller one."""
    tokens = {language: np.array([count_tokens(text) for text in clean[language]]) for language in LANGUAGES}
    sizes = np.concatenate([tokens[language] for language in LANGUAGES])
    groups = np.repeat(np.arange(len(LANGUAGES), dtype=np.int32), [len(tokens[language]) for language in LANGUAGES])
    draw = np.random.default_rng(0).random(len(sizes))
    settings = MixSettings(by="language", shares={"en": 1, "zh": 1}, tokens=int(1.5 * sizes.sum()))
    written, shares = copies(settings, groups, list(LANGUAGES), sizes, np.ones(len(sizes)), draw)
    smaller, _ = copies(settings.model_copy(update={"tokens": int(sizes.sum())}), groups, list(LANGUAGES), sizes,
                        np.ones(len(sizes)), draw)
    return [Case("mix: en and zh alike, 1.5 times the tokens", "largest distance from the target share",
                 max(abs(share.share - share.target) for share in shares), "none"),
            Case("mix: the same with fewer tokens", "share of its documents that the larger one holds as often",
                 float(np.mean(smaller <= written)), "none")]


def speeds(clean: Texts) -> list[Case]:
    """Documents of 3 kB a second of this process, by step and language."""
    machine, toxicity, quality = MachineJudge(), ToxicityJudge(), QualitySettings()
    functions: dict[str, Callable[[str, str], object]] = {
        "identify": lambda text, _: identify(text), "count_tokens": lambda text, _: count_tokens(text),
        "judge": lambda text, language: judge(text, language, quality),
        "machine_made": machine.machine_made, "ocr_damaged": machine.ocr_damaged, "toxicity": toxicity,
        "find_private": lambda text, _: find_private(text), "score_sentences": score_sentences}
    cases = []
    for language in LANGUAGES:
        size = 1000 if language == "zh" else 3000
        texts = [text[:size] for text in clean[language] if len(text) >= size][:150]
        for name, function in functions.items():
            best = min(timed(function, texts, language) for _ in range(3))
            cases.append(Case(f"{name}, {language}", "3 kB documents per CPU second", len(texts) / best, "none"))
    return cases


def timed(function: Callable[[str, str], object], texts: list[str], language: str) -> float:
    start = time.process_time()
    for text in texts:
        function(text, language)
    return time.process_time() - start


def main() -> None:
    options = arguments(__doc__, ("--data", {"type": Path, "default": DATA}))
    if not options.data.is_dir():
        report("corpus_steps", [Case("all", "share", None, "the real data (../shared) is not here")], ceilings={})
        return
    every = 1 if options.full else 8
    cases = [*languages(options.data, every), *removals(options.data, every)]
    report("corpus_steps", cases, ceilings={})


if __name__ == "__main__":
    main()
