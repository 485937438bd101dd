"""What happens to one document: read, extract, language, length; each step keeps it or says why not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from headwater.corpus.duplicates import exact_key
from headwater.corpus.encodings import declared_charset, decode
from headwater.corpus.extract import Extractor, extract, has_tags, not_html, tidy
from headwater.corpus.language import identify
from headwater.corpus.length import count_tokens
from headwater.corpus.licence import page_licence
from headwater.corpus.minhash import MinHashSettings
from headwater.corpus.mix import MixSettings
from headwater.corpus.readers import Raw
from headwater.corpus.scripts import script_shares
from headwater.settings import Settings

READ, EXTRACT, LANGUAGE, LENGTH = "read", "extract", "language", "length"
EXACT, NEAR, MIX = "exact_duplicates", "near_duplicates", "mix"
NO_KEY = bytes(16)
EXCERPT = 200
"""Characters kept of a removed document's text."""


class StepSettings(Settings):
    """The steps and their thresholds; a step is off when its setting is null, 0 or false."""

    extractor: Extractor | None = "trafilatura"
    """What finds a page's main text; null keeps all of its text."""
    comments: bool = False
    """Keep readers' comments below the main text."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] | None = ("en", "zh")
    """Languages to keep; null keeps every one (it is still identified)."""
    min_tokens: Annotated[int, Field(ge=0)] = 100
    """Shortest document, in words and Han characters."""
    exact_duplicates: bool = True
    """Remove copies that differ in nothing but case, width or white space."""
    near_duplicates: MinHashSettings | None = MinHashSettings()
    """Remove copies that differ a little; of each cluster the first stays."""
    mix: MixSettings | None = None
    """Weights of the sources or languages in the training split; null writes every document once."""

    def steps(self) -> list[str]:
        """The names of the steps that are on, in the order in which they run."""
        switches = {READ: True, EXTRACT: True, LANGUAGE: self.languages is not None, LENGTH: self.min_tokens > 0,
                    EXACT: self.exact_duplicates, NEAR: self.near_duplicates is not None, MIX: self.mix is not None}
        return [step for step, on in switches.items() if on]


@dataclass
class Examined:
    """A document after the steps that look at it alone; `step` names the one that removed it ("" when kept).

    `raw_bytes` is its size as read (with markup), `text_bytes` its text's in UTF-8, `characters` and `tokens` the
    text's length; `scripts` are its letters' shares by writing system, `traditional` how its Chinese is written. A
    removed document keeps only the first 200 characters of its text. `id` is 16 bytes that name the text (the place,
    where there is none), `key` is equal for exact copies.
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
    score: float = 1.0
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


def examine(raw: Raw, settings: StepSettings) -> Examined:
    """Run the document's own steps. Never raises for a bad document: what goes wrong is the reason of its removal."""
    found = Examined(tidy(raw.url), licence=tidy(raw.licence))
    for found.step, step in ((READ, _read), (EXTRACT, _extract), (LANGUAGE, _language), (LENGTH, _length)):
        try:
            step(found, raw, settings)
        except Removal as removal:
            found.reason, found.detail = removal.reason, tidy(removal.detail)
            break
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a Rust library is no Exception, and still that page's fault
            found.reason, found.detail = "error", tidy(f"{type(error).__name__}: {error}")[:EXCERPT]
            break
    else:
        found.step, found.key = "", exact_key(found.text)
    found.id = content_id(found.text or found.url)
    if found.step:
        found.text = found.text[:EXCERPT]
    return found


def content_id(text: str) -> bytes:
    """16 bytes that name the text."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def _read(found: Examined, raw: Raw, settings: StepSettings) -> None:
    found.raw_bytes = len(raw.content)
    if raw.problem:
        raise Removal(raw.problem, raw.detail)
    if raw.html and (kind := not_html(raw.content)):
        raise Removal("not HTML" if kind != "empty" else "empty", kind)
    declared = [raw.charset, declared_charset(raw.content)] if raw.html else [raw.charset]
    try:
        found.text, _ = decode(raw.content, *declared)
    except UnicodeError as error:
        raise Removal("unknown encoding", str(error)) from None
    if raw.html and not has_tags(found.text):
        raise Removal("not HTML", "text without a tag")


def _extract(found: Examined, raw: Raw, settings: StepSettings) -> None:
    page, found.text = found.text, ""
    if raw.html and not found.licence:
        found.licence = page_licence(page)
    found.text = extract(page, settings.extractor, comments=settings.comments) if raw.html else tidy(page)
    found.characters, found.text_bytes = len(found.text), len(found.text.encode())
    if not found.text:
        raise Removal("no text")
    found.tokens = count_tokens(found.text)


def _language(found: Examined, raw: Raw, settings: StepSettings) -> None:
    language = identify(found.text)
    found.language, found.language_share, found.traditional = language.code, language.share, language.traditional
    found.scripts = script_shares(found.text)
    if settings.languages is not None and language.code not in settings.languages:
        raise Removal("other language", f"{language.code} {language.share:.2f}")


def _length(found: Examined, raw: Raw, settings: StepSettings) -> None:
    if found.tokens < settings.min_tokens:
        raise Removal("too short", f"{found.tokens} tokens")
