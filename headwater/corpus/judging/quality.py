"""Rules that tell text worth learning from what only fills pages: the C4, Gopher and FineWeb families.

English thresholds are the published ones: Gopher (Rae et al. 2021, table A1), C4 (Raffel et al. 2020, section 2.2),
FineWeb (Penedo et al. 2024, section 3.6). Chinese ones are derived: every rule keeps 99.5 % of the clean documents of
each of seventeen sources (manuals, books, encyclopaedias, articles, laws, recipes, poems), in the units of
`statistics.Statistics`; `headwater.corpus.thresholds` derives them anew. Texts in other languages pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headwater.corpus.judging.length import count_tokens
from headwater.corpus.judging.statistics import LINE_ENDS, Statistics, measure
from headwater.settings import Settings


class Rules(Settings):
    """A family of rules. `max_NAME` removes a text whose statistic NAME is above it, `min_NAME` one below it; null
    switches the rule off."""

    def broken(self, statistics: Statistics) -> Iterator[str]:
        """Every rule that the text breaks, with what was measured: "dup_line_chars 0.34 > 0.2"."""
        for rule, limit in self:
            side, _, name = rule.partition("_")
            value = getattr(statistics, name)
            if limit is not None and (value < limit if side == "min" else value > limit):
                yield f"{name} {_number(value)} {'<' if side == 'min' else '>'} {_number(limit)}"


class GopherQuality(Rules):
    """Gopher's document rules."""

    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3
    max_mean_word_length: float | None = 10
    max_hashes: float | None = 0.1
    """Number signs per word."""
    max_ellipses: float | None = 0.1
    """Ellipses per word."""
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    """Share of words with a letter."""
    min_stop_words: int | None = 2
    """Different ones among the, be, to, of, and, that, have, with."""


class GopherRepetition(Rules):
    """Gopher's repetition rules, as shares of lines, paragraphs and characters."""

    max_dup_lines: float | None = 0.30
    max_dup_line_chars: float | None = 0.20
    max_dup_paragraphs: float | None = 0.30
    max_dup_paragraph_chars: float | None = 0.20
    max_top_2gram_chars: float | None = 0.20
    """Characters in the most frequent n-gram; the 3 and 4 likewise."""
    max_top_3gram_chars: float | None = 0.18
    max_top_4gram_chars: float | None = 0.16
    max_dup_5gram_chars: float | None = 0.15
    """Characters in repeated n-grams; the 6 to 10 likewise."""
    max_dup_6gram_chars: float | None = 0.14
    max_dup_7gram_chars: float | None = 0.13
    max_dup_8gram_chars: float | None = 0.12
    max_dup_9gram_chars: float | None = 0.11
    max_dup_10gram_chars: float | None = 0.10


class C4(Rules):
    """C4's page rules (its line rules are `LineRules`)."""

    min_sentences: int | None = 5
    max_curly_brackets: float | None = None
    """Per character. C4 has 0 and so drops every page with program text in most languages; off here."""
    max_lorem_ipsum: int | None = 0
    """Occurrences."""


class FineWeb(Rules):
    """FineWeb's own rules."""

    min_punctuated_lines: float | None = 0.12
    max_short_lines: float | None = 0.67
    max_newlines: float | None = 0.3
    """Per word."""
    max_dup_line_chars: float | None = 0.1
    """As the paper has it; the code published with it has 0.01 by default."""


class Characters(Rules):
    """What the letters and marks say: shares of characters. Off in English, where nothing is published; these
    thresholds are derived from clean English as the Chinese are."""

    min_letters: float | None = 0.6
    max_digits: float | None = 0.3
    max_symbols: float | None = 0.2
    min_marks: float | None = 0.01
    max_marks: float | None = 0.2
    min_function_words: float | None = 0.02
    """Stop words per word."""
    max_unpunctuated: float | None = 0.4
    """Share of characters in lines without any punctuation."""
    max_broken: float | None = 0.006
    """Characters that a wrong decoding leaves, per character; clean English has none, this is the Chinese figure."""


class ChineseGopherQuality(Rules):
    """Gopher's document rules in Chinese units; a word's mean length means nothing here."""

    min_words: int | None = 50
    """Han characters and other words, in lines that hold Han."""
    max_words: int | None = 160_000
    """Gopher's 100,000 at 1.6 characters a word."""
    max_hashes: float | None = 0.07
    max_ellipses: float | None = 0.009
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.09
    min_stop_words: int | None = 5
    """Different function characters (的, 是, 不, 之, ...)."""


class ChineseGopherRepetition(Rules):
    """Gopher's repetition rules over Han lines; n-grams are of 1.6 n characters, rounded."""

    max_dup_lines: float | None = 0.6
    max_dup_line_chars: float | None = 0.5
    max_dup_paragraphs: float | None = 0.6
    max_dup_paragraph_chars: float | None = 0.5
    max_top_2gram_chars: float | None = 0.2
    max_top_3gram_chars: float | None = 0.2
    max_top_4gram_chars: float | None = 0.3
    max_dup_5gram_chars: float | None = 0.6
    max_dup_6gram_chars: float | None = 0.5
    max_dup_7gram_chars: float | None = 0.5
    max_dup_8gram_chars: float | None = 0.5
    max_dup_9gram_chars: float | None = 0.5
    max_dup_10gram_chars: float | None = 0.5


class ChineseC4(Rules):
    """C4's page rules; brackets are no sign of junk among formulas and code."""

    min_sentences: int | None = 1
    max_lorem_ipsum: int | None = 0


class ChineseFineWeb(Rules):
    """FineWeb's rules; poems and lists leave no share of punctuated lines that all clean text has."""

    max_short_lines: float | None = 0.8
    """Lines of at most 10 characters that do not end as sentences do."""
    max_newlines: float | None = 0.4


class ChineseCharacters(Rules):
    """What the characters say."""

    min_letters: float | None = 0.5
    min_han: float | None = 0.02
    """Of all lines, program text included."""
    max_digits: float | None = 0.3
    max_symbols: float | None = 0.3
    min_marks: float | None = 0.03
    max_marks: float | None = 0.3
    min_function_words: float | None = 0.02
    """Function characters per Han character; poems have few."""
    max_unpunctuated: float | None = 0.6
    max_broken: float | None = 0.006


class EnglishRules(Settings):
    """The rules of English texts; a family is off when null."""

    gopher_quality: GopherQuality | None = GopherQuality()
    gopher_repetition: GopherRepetition | None = GopherRepetition()
    c4: C4 | None = C4()
    fineweb: FineWeb | None = FineWeb()
    characters: Characters | None = None


class ChineseRules(Settings):
    """The rules of Chinese texts, in either script; a family is off when null."""

    gopher_quality: ChineseGopherQuality | None = ChineseGopherQuality()
    gopher_repetition: ChineseGopherRepetition | None = ChineseGopherRepetition()
    c4: ChineseC4 | None = ChineseC4()
    fineweb: ChineseFineWeb | None = ChineseFineWeb()
    characters: ChineseCharacters | None = ChineseCharacters()


class LineRules(Settings):
    """C4's line rules: lines that break one are dropped and the others kept."""

    punctuated: bool = False
    """Drop lines that do not end as a sentence does: headings, list items and code too. FineWeb leaves this out."""
    min_words: int = 3
    """Of a line, in words (in Chinese, Han characters and other words)."""
    max_word_length: int = 1000
    """In characters; Chinese is not written in words."""
    javascript: bool = True
    """Drop lines that ask for JavaScript."""
    policy: bool = True
    """Drop lines about cookies, privacy and terms of use."""


class QualitySettings(Settings):
    """The quality rules of both languages."""

    english: EnglishRules | None = EnglishRules()
    chinese: ChineseRules | None = ChineseRules()
    lines: LineRules | None = None
    """Drop lines before the text is judged, and from what is kept; off by default, since extraction has removed most
    of them and headings and code would go with the rest."""


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a text; `broken` has "family: statistic measured > threshold" for each broken rule."""

    statistics: Statistics
    broken: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        return not self.broken

    @property
    def family(self) -> str:
        """The family of the first broken rule, as the reason of the removal; "" when the text passes."""
        return self.broken[0].partition(":")[0] if self.broken else ""


@dataclass(frozen=True)
class Cleaned:
    """A text without the lines that broke a rule, and how many each rule dropped."""

    text: str
    dropped: dict[str, int]


def judge(text: str, language: str, settings: QualitySettings | None = None) -> Verdict:
    """Measure a tidied text and hold it against the rules of its language; other languages than "en", "zh" pass.

    `settings.lines` is not applied here: call `clean_lines` first where the lines are to be dropped.
    """
    settings = settings or QualitySettings()
    statistics = measure(text, language)
    rules = {"en": settings.english, "zh": settings.chinese}.get(language)
    families = [(name, family) for name, family in rules or () if family is not None]
    return Verdict(statistics, tuple(f"{name}: {rule}" for name, family in families
                                     for rule in family.broken(statistics)))


_JAVASCRIPT = re.compile("javascript|脚本", re.IGNORECASE)
_POLICY = re.compile(
    "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies|"
    "隐私政策|隱私政策|隐私权政策|隱私權政策|使用条款|使用條款|服务条款|服務條款|用户协议|用戶協議", re.IGNORECASE)


def clean_lines(text: str, language: str, rules: LineRules | None = None) -> Cleaned:
    """`text` without the lines that break a rule. Blank lines stay, as they part paragraphs."""
    rules = rules or LineRules()
    dropped: dict[str, int] = {}
    kept = []
    for line in text.split("\n"):
        broken = _broken_line(line.strip(), language, rules)
        if broken:
            dropped[broken] = dropped.get(broken, 0) + 1
        else:
            kept.append(line)
    return Cleaned(re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), dropped)


def _broken_line(line: str, language: str, rules: LineRules) -> str:
    if not line:
        return ""
    if rules.punctuated and (line[-1] not in LINE_ENDS["zh" if language == "zh" else "en"] or line.endswith("...")):
        return "punctuated"
    if count_tokens(line) < rules.min_words:
        return "min_words"
    if language != "zh" and max(map(len, line.split())) > rules.max_word_length:
        return "max_word_length"
    if rules.javascript and _JAVASCRIPT.search(line):
        return "javascript"
    return "policy" if rules.policy and _POLICY.search(line) else ""


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
