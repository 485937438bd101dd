"""What happens to one document by itself; each step keeps it, changes it, or says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from headwater.corpus.classifying.machine import MachineJudge, MachineSettings
from headwater.corpus.classifying.toxicity import ToxicityJudge, ToxicitySettings
from headwater.corpus.decontamination.contamination import ContaminationSettings, LeakIndex, remove_leaks
from headwater.corpus.deduplication.duplicates import exact_key
from headwater.corpus.deduplication.minhash import MinHashSettings
from headwater.corpus.deduplication.repeated import SentenceSettings
from headwater.corpus.extraction.extract import Extractor, extract, has_tags, not_html
from headwater.corpus.judging.language import check_languages, identify
from headwater.corpus.judging.length import count_tokens
from headwater.corpus.judging.quality import QualitySettings, clean_lines, judge
from headwater.corpus.judging.score import score_document
from headwater.corpus.judging.scripts import script_shares
from headwater.corpus.judging.statistics import measure
from headwater.corpus.mix import MixSettings
from headwater.corpus.privacy.private import PrivateSettings, count_private, find_private, mask_private
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.licence import page_licence
from headwater.corpus.reading.readers import Raw
from headwater.corpus.reading.tidying import tidy
from headwater.errors import HeadwaterError
from headwater.settings import Settings

READ, EXTRACT, LANGUAGE, LENGTH, QUALITY = "read", "extract", "language", "length", "quality"
MACHINE, CONTAMINATION, TOXICITY, PRIVATE = "machine_text", "contamination", "toxicity", "private_data"
EXACT, NEAR, SENTENCES, MIX = "exact_duplicates", "near_duplicates", "repeated_sentences", "mix"
NO_KEY = bytes(16)
EXCERPT = 200
"""Characters kept of a removed document's text."""


class StepSettings(Settings):
    """The steps and their thresholds; a step is off when its setting is null, 0 or false."""

    extractor: Extractor | None = "fast"
    """What finds a page's main text; null keeps all of its text."""
    comments: bool = False
    """Keep readers' comments below the main text."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] | None = ("en", "zh")
    """Languages to keep; null keeps every one (it is still identified)."""
    min_tokens: Annotated[int, Field(ge=0)] = 100
    """Shortest document, in words and Han characters."""
    quality: QualitySettings | None = QualitySettings()
    """Rules that a text worth learning keeps."""
    machine_text: MachineSettings | None = MachineSettings()
    """Remove text that a machine made, or a scanner misread."""
    contamination: ContaminationSettings | None = None
    """Benchmarks whose questions must not be learned."""
    toxicity: ToxicitySettings | None = ToxicitySettings()
    """Remove documents with abuse."""
    private_data: PrivateSettings | None = PrivateSettings()
    """Mask private data, or remove documents that hold some."""
    exact_duplicates: bool = True
    """Remove copies that differ in nothing but case, width or white space."""
    near_duplicates: MinHashSettings | None = MinHashSettings()
    """Remove copies that differ a little; of each cluster the longest stays, of equally long ones the first."""
    repeated_sentences: SentenceSettings | None = SentenceSettings()
    """Cut sentences that many documents share."""
    mix: MixSettings | None = None
    """Weights of the sources or languages in the training split; null writes every document once."""

    def steps(self) -> list[str]:
        """The names of the steps that are on, in the order in which they run."""
        switches = {
            READ: True, EXTRACT: True, LANGUAGE: self.languages is not None, LENGTH: self.min_tokens > 0,
            QUALITY: self.quality is not None, MACHINE: self.machine_text is not None,
            CONTAMINATION: self.contamination is not None, TOXICITY: self.toxicity is not None,
            PRIVATE: self.private_data is not None, EXACT: self.exact_duplicates,
            NEAR: self.near_duplicates is not None, SENTENCES: self.repeated_sentences is not None,
            MIX: self.mix is not None}
        return [step for step, on in switches.items() if on]


@dataclass
class Examined:
    """A document after the steps that look at it alone; `step` names the one that removed it ("" when kept).

    `raw_bytes` is its size as read (with markup), `text_bytes` its text's in UTF-8, `characters` and `tokens` the
    text's length; `scripts` are its letters' shares by writing system, `traditional` how its Chinese is written;
    `tokens_cut` and `bytes_cut` say by how much each step that changed the text made it shorter. `score` is its
    quality, `masked` counts private data by kind, `leaks` lists the benchmark questions found. A removed
    document keeps only the first 200 characters of its text. `id` is 16 bytes that name the text (the place, where
    there is none), `key` is equal for exact copies.
    """

    url: str
    step: str = ""
    reason: str = ""
    detail: str = ""
    text: str = ""
    licence: str = ""
    language: str = ""
    language_share: float = 0.0
    traditional: bool = False
    scripts: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    tokens_cut: dict[str, int] = field(default_factory=dict)
    bytes_cut: dict[str, int] = field(default_factory=dict)
    score: float = 1.0
    masked: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    raw_bytes: int = 0
    text_bytes: int = 0
    characters: int = 0
    id: bytes = b""
    key: bytes = NO_KEY


class Removal(Exception):
    """A step's verdict: the reason (one of a few words, counted in the funnel) and the particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Verdict:
    """What a step said of a document: `removed` with its reason, or kept with what was measured or changed; a step
    that compares documents has not `judged` one alone."""

    step: str
    removed: str
    detail: str
    judged: bool = True


class Examiner:
    """Runs a document's own steps; holds what they need (classifiers, the benchmarks' n-grams)."""

    def __init__(self, settings: StepSettings, leaks: LeakIndex | None = None) -> None:
        """leaks: the index of `settings.contamination`, built here when not given."""
        self.settings = settings
        check_languages(settings.languages or ())
        self._machine = MachineJudge(settings.machine_text) if settings.machine_text else None
        self._toxicity = ToxicityJudge(settings.toxicity) if settings.toxicity else None
        self._leaks = leaks
        if leaks is None and settings.contamination:
            self._leaks = LeakIndex.build(settings.contamination)
        steps: dict[str, Callable[[Examined, Raw], str]] = {
            READ: self._read, EXTRACT: self._extract, LANGUAGE: self._language, LENGTH: self._length,
            QUALITY: self._quality, MACHINE: self._machine_text, CONTAMINATION: self._contamination,
            TOXICITY: self._abuse, PRIVATE: self._private}
        # The language is identified and the score taken even where nothing is removed for it.
        on = {*settings.steps(), LANGUAGE, QUALITY}
        self._steps = [(name, step) for name, step in steps.items() if name in on]

    def examine(self, raw: Raw) -> Examined:
        """Never raises for a bad document: what goes wrong is the reason of its removal."""
        found = Examined(tidy(raw.url), licence=tidy(raw.licence))
        for verdict in self._verdicts(found, raw):
            if verdict.removed:
                found.step, found.reason, found.detail = verdict.step, verdict.removed, verdict.detail
                break
        else:
            found.key = exact_key(found.text)
        found.id = content_id(found.text or found.url)
        if found.step:
            found.text = found.text[:EXCERPT]
        return found

    def explain(self, raw: Raw) -> tuple[Examined, list[Verdict]]:
        """The document and every step's verdict, those after a removal too as far as there is a text."""
        found, said = Examined(tidy(raw.url), licence=tidy(raw.licence)), []
        for verdict in self._verdicts(found, raw):
            said.append(verdict)
            if verdict.removed and verdict.step in (READ, EXTRACT):
                break
        return found, said

    def _verdicts(self, found: Examined, raw: Raw) -> Iterator[Verdict]:
        for name, step in self._steps:
            try:
                yield Verdict(name, "", step(found, raw))
            except Removal as removal:
                yield Verdict(name, removal.reason, tidy(removal.detail))
            except (HeadwaterError, KeyboardInterrupt, SystemExit, GeneratorExit):
                raise  # a package that is missing, a service that is down: no document's fault
            except BaseException as error:  # a panic of a Rust library is no Exception, and still that page's fault
                yield Verdict(name, "error", tidy(f"{type(error).__name__}: {error}")[:EXCERPT])

    def _read(self, found: Examined, raw: Raw) -> str:
        found.raw_bytes = len(raw.content)
        if raw.problem:
            raise Removal(raw.problem, raw.detail)
        if raw.html and (kind := not_html(raw.content)):
            raise Removal("not HTML" if kind != "empty" else "empty", kind)
        declared = [raw.charset, declared_charset(raw.content)] if raw.html else [raw.charset]
        try:
            found.text, encoding = decode(raw.content, *declared)
        except UnicodeError as error:
            raise Removal("unknown encoding", str(error)) from None
        if raw.html and not has_tags(found.text):
            raise Removal("not HTML", "text without a tag")
        return f"{found.raw_bytes:,} bytes of {encoding}"

    def _extract(self, found: Examined, raw: Raw) -> str:
        page, found.text = found.text, ""
        if raw.html and not found.licence:
            found.licence = page_licence(page)
        found.text = extract(page, self.settings.extractor, comments=self.settings.comments) if raw.html else tidy(page)
        self._resize(found, EXTRACT)
        if not found.text:
            raise Removal("no text")
        return f"{found.characters:,} of {len(page):,} characters"

    def _resize(self, found: Examined, step: str) -> None:
        tokens, text_bytes = found.tokens, found.text_bytes
        found.characters, found.text_bytes = len(found.text), len(found.text.encode())
        found.tokens = count_tokens(found.text)
        if step != EXTRACT:
            found.tokens_cut[step], found.bytes_cut[step] = tokens - found.tokens, text_bytes - found.text_bytes

    def _language(self, found: Examined, raw: Raw) -> str:
        language = identify(found.text)
        found.language, found.language_share, found.traditional = language.code, language.share, language.traditional
        found.scripts = script_shares(found.text)
        told = f"{language.code} {language.share:.2f}"
        if self.settings.languages is not None and language.code not in self.settings.languages:
            raise Removal("other language", told)
        letters = ", ".join(f"{name} {share:.2f}" for name, share in found.scripts.items())
        return f"{told}{', traditional' if language.traditional else ''} (letters: {letters})"

    def _length(self, found: Examined, raw: Raw) -> str:
        told = f"{found.tokens} tokens"
        if found.tokens < self.settings.min_tokens:
            raise Removal("too short", told)
        return told

    def _quality(self, found: Examined, raw: Raw) -> str:
        settings = self.settings.quality
        if settings is None:
            found.score = score_document(measure(found.text, found.language), found.language)
            return ""
        told = ""
        if settings.lines is not None:
            cleaned = clean_lines(found.text, found.language, settings.lines)
            if cleaned.dropped:
                found.text = cleaned.text
                self._resize(found, QUALITY)
                told = "; lines dropped: " + ", ".join(f"{name} {count}" for name, count in cleaned.dropped.items())
        verdict = judge(found.text, found.language, settings)
        found.score = score_document(verdict.statistics, found.language)
        if not verdict.passes:
            raise Removal(verdict.family, "; ".join(verdict.broken))
        return f"score {found.score:.2f}{told}"

    def _machine_text(self, found: Examined, raw: Raw) -> str:
        assert self._machine is not None
        told = []
        for reason, score in (("machine-made", self._machine.machine_made(found.text, found.language)),
                              ("OCR damage", self._machine.ocr_damaged(found.text, found.language))):
            if score is None:
                continue
            limit = "no threshold" if score.threshold is None else f"threshold {score.threshold:.3f}"
            told.append(f"{reason} {score.probability:.3f} ({limit})")
            if score.flagged:
                raise Removal(reason, told[-1])
        return ", ".join(told)

    def _contamination(self, found: Examined, raw: Raw) -> str:
        assert self._leaks is not None
        assert self.settings.contamination is not None
        leaks = self._leaks.leaks(found.text)
        found.leaks = [leak.question for leak in leaks]
        if not leaks:
            return "no question of the benchmarks"
        told = ", ".join(f"{name} {leak.share:.2f}: {found.text[leak.start:leak.end][:EXCERPT // 2]!r}"
                         for name, leak in zip(found.leaks, leaks))
        if self.settings.contamination.action == "drop":
            raise Removal("benchmark question", told)
        found.text = remove_leaks(found.text, leaks, self.settings.contamination)
        self._resize(found, CONTAMINATION)
        if found.tokens < max(1, self.settings.min_tokens):
            raise Removal("too short without its benchmark questions", told)
        return f"cut: {told}"

    def _abuse(self, found: Examined, raw: Raw) -> str:
        assert self._toxicity is not None
        toxicity = self._toxicity(found.text, found.language)
        if toxicity.toxic:
            worst = toxicity.passages[0] if toxicity.passages else None
            quoted = "" if worst is None else f": {found.text[worst.start:worst.end].strip()[:EXCERPT // 2]}"
            raise Removal("abuse", f"{toxicity.score:.2f}{quoted}")
        return f"worst passage {toxicity.score:.2f}"

    def _private(self, found: Examined, raw: Raw) -> str:
        assert self.settings.private_data is not None
        private = find_private(found.text, self.settings.private_data)
        if not private:
            return "none"
        counts = count_private(private)
        told = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        if self.settings.private_data.action == "drop":
            raise Removal("private data", told)
        found.masked = counts
        found.text = mask_private(found.text, private)
        self._resize(found, PRIVATE)
        return f"masked: {told}"


def content_id(text: str) -> bytes:
    """16 bytes that name the text."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
