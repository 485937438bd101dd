from __future__ import annotations

import random
from dataclasses import replace

import pytest

from headwater.corpus.judging.quality import (
    ChineseRules,
    EnglishRules,
    LineRules,
    QualitySettings,
    Rules,
    clean_lines,
    judge,
)
from headwater.corpus.judging.statistics import Statistics, measure
from headwater.corpus.reading.tidying import tidy
from headwater.errors import SettingsError

DEFAULT = QualitySettings.parse({"english": {"c4": {"max_curly_brackets": 0}}})
"""With every published English rule on."""
CLEAN = {"en": Statistics(
    words=1000, mean_word_length=5.0, longest_word=20, hashes=0.0, ellipses=0.0, bullet_lines=0.0, ellipsis_lines=0.0,
    alphabetic_words=0.95, stop_words=8, dup_lines=0.0, dup_line_chars=0.0, dup_paragraphs=0.0,
    dup_paragraph_chars=0.0, top_2gram_chars=0.0, top_3gram_chars=0.0, top_4gram_chars=0.0, dup_5gram_chars=0.0,
    dup_6gram_chars=0.0, dup_7gram_chars=0.0, dup_8gram_chars=0.0, dup_9gram_chars=0.0, dup_10gram_chars=0.0,
    sentences=40, curly_brackets=0.0, lorem_ipsum=0, punctuated_lines=0.9, short_lines=0.1, newlines=0.1, letters=0.9,
    han=0.9, digits=0.01, symbols=0.02, marks=0.06, function_words=0.2, unpunctuated=0.02, broken=0.0)}
CLEAN["zh"] = replace(CLEAN["en"], stop_words=40)
FAMILIES = {"en": dict(EnglishRules.parse({"characters": {}, "c4": {"max_curly_brackets": 0}})),
            "zh": dict(ChineseRules())}
ALL = [(language, family, rule) for language, families in FAMILIES.items() for family, rules in families.items()
       for rule in type(rules).model_fields]


def names(language: str, text: str, settings: QualitySettings = DEFAULT) -> set[str]:
    """The statistics of the broken rules."""
    return {rule.split()[1] for rule in judge(tidy(text), language, settings).broken}


def words(count: int, seed: int = 1, length: int = 5) -> list[str]:
    """Different invented words."""
    draw = random.Random(seed)
    return [f"{''.join(draw.choices('abcdefghijklmnopqrstuvwxyz', k=length))}" for _ in range(count)]


def english(lines: int = 20, per_line: int = 10, seed: int = 1) -> list[str]:
    """Lines that are one sentence each, all words different but "the" and "of"."""
    fresh = iter(words(lines * per_line, seed))
    return [" ".join(["the", *(next(fresh) for _ in range(per_line - 2)), "of."]) for _ in range(lines)]


def chinese(lines: int = 12, length: int = 30, seed: int = 1) -> list[str]:
    """Lines of different Han characters, with a comma, function characters and a full stop."""
    han = [chr(point) for point in range(0x5100, 0x5A00)]
    random.Random(seed).shuffle(han)
    fresh = iter(han)
    mine = "的是不了在有和就"
    return ["".join(next(fresh) for _ in range(length // 2)) + f"{mine[number % 8]}，{mine[(number + 3) % 8]}"
            + "".join(next(fresh) for _ in range(length // 2)) + "。" for number in range(lines)]


@pytest.mark.parametrize(("language", "family", "rule"), ALL)
def test_each_rule_alone_fires_one_unit_past_its_threshold_and_not_at_it(language: str, family: str, rule: str) -> None:
    rules: Rules = FAMILIES[language][family]
    limit = getattr(rules, rule)
    side, _, name = rule.partition("_")
    unit = 1 if isinstance(limit, int) else 0.001
    at = replace(CLEAN[language], **{name: limit})
    past = replace(CLEAN[language], **{name: limit + unit if side == "max" else limit - unit})
    assert list(rules.broken(at)) == []
    broken = list(rules.broken(past))
    assert len(broken) == 1
    assert broken[0].startswith(f"{name} ")
    assert list(type(rules).parse({**rules.model_dump(), rule: None}).broken(past)) == []


def _bullets(count: int) -> str:
    return "\n".join(("- " if number < count else "") + line for number, line in enumerate(english()))


def _ellipses(count: int) -> str:
    return "\n".join(line[:-1] + "..." if number < count else line for number, line in enumerate(english()))


def _numbers(count: int) -> str:
    found = " ".join(english()).split(" ")
    return "\n".join(" ".join([*map(str, range(1000 + start, 1000 + start + min(2, max(0, count - start)))),
                               *found[5 * start:5 * start + 10 - min(2, max(0, count - start))]]) + "."
                     for start in range(0, 40, 2))


def _repeats(count: int) -> str:
    return "\n".join(english(13, 60) + ["Stop it now."] * (count + 1) + [
        line[:12] + "." for line in english(6 - count, 3, 5)])


def _endings(count: int) -> str:
    return "\n".join(line.replace(" ", ". ", 1) if number < count else line.replace(" ", ". ", 1)[:-1]
                     for number, line in enumerate(english(25)))


def _short(count: int) -> str:
    return "\n".join(english(100 - count, 10) + [f"{one} {two} the of." for one, two in zip(
        words(count, 7), words(count, 8))])


def _newlines(count: int) -> str:
    fresh = english(32, 7)
    breaks = ["\n\n" if number < count - 31 else "\n" for number in range(31)]
    text = "".join(line + gap for line, gap in zip(fresh, [*breaks, ""]))
    return text.replace("the ", "", 24).strip()


@pytest.mark.parametrize(("inside", "outside", "name"), [
    ("\n".join(english(5, 10)), "\n".join(english(5, 10)).replace(" of.", ".", 1), "words"),
    ("\n".join(english()) + " #" * 20, "\n".join(english()) + " #" * 21, "hashes"),
    (_bullets(18), _bullets(19), "bullet_lines"), (_ellipses(6), _ellipses(7), "ellipsis_lines"),
    ("\n".join(english()), "\n".join(english()).replace("of.", "ov."), "stop_words"),
    (_repeats(6), _repeats(7), "dup_lines"),
    ("\n".join(english(5, 12)), "\n".join(english(5, 12)).replace(".\n", "\n", 1), "sentences"),
    ("\n".join(english()), "\n".join(english()) + " {x", "curly_brackets"),
    ("\n".join(english()), "\n".join(english()) + " Lorem ipsum.", "lorem_ipsum"),
    (_endings(3), _endings(2), "punctuated_lines"), (_short(67), _short(68), "short_lines"),
    (_newlines(60), _newlines(61), "newlines")])
def test_planted_english_document_breaks_exactly_the_rule_it_was_made_for(inside: str, outside: str, name: str) -> None:
    assert names("en", inside) == set()
    assert names("en", outside) == {name}


@pytest.mark.parametrize(("inside", "outside", "name"), [
    ("\n".join(chinese(1, 48)), "\n".join(chinese(1, 48))[1:], "words"),
    ("\n".join(("- " if number < 10 else "") + line for number, line in enumerate(chinese())),
     "\n".join("- " + line for line in chinese()), "bullet_lines"),
    ("\n".join(chinese()), "\n".join(chinese()) + "\n文 lorem ipsum", "lorem_ipsum"),
    ("\n".join(chinese()), "\n".join(chinese()) + "锟斤拷" * 4, "broken"),
    ("\n".join(chinese(40)), "\n".join(chinese(10) + [chr(0x6000 + n) + chr(0x7000 + n) for n in range(41)]),
     "short_lines"),
    ("\n".join(chinese()), "\n".join([chinese()[0], *[line.replace("，", "").replace("。", "") for line in
                                                     chinese()[1:]]]), "unpunctuated")])
def test_planted_chinese_document_breaks_the_rule_it_was_made_for(inside: str, outside: str, name: str) -> None:
    assert name not in names("zh", inside)
    assert name in names("zh", outside)


def test_repeated_paragraphs_break_the_repetition_family_in_both_languages() -> None:
    for language, lines in (("en", english(4)), ("zh", chinese(4))):
        found = judge("\n\n".join(["\n".join(lines)] * 6), language, DEFAULT)
        assert {"dup_lines", "dup_paragraphs", "dup_10gram_chars"} <= {rule.split()[1] for rule in found.broken}
        assert found.family == "gopher_repetition"
        assert "> " in found.broken[0]


def test_code_between_chinese_lines_is_not_held_against_them() -> None:
    text = "\n".join(f"{line}\n    return value\n}}" for line in chinese())
    assert measure(text, "zh").dup_lines == 0
    assert names("zh", text) == set()


def test_families_and_languages_switch_off() -> None:
    spam = "cheap pills " * 100
    assert judge(spam, "en", DEFAULT).broken
    assert judge(spam, "en", QualitySettings(english=None)).passes
    assert judge(spam, "de", DEFAULT).passes
    only = QualitySettings.parse({"english": {"gopher_quality": None, "gopher_repetition": None, "fineweb": None}})
    assert {rule.split(":")[0] for rule in judge(spam, "en", only).broken} == {"c4"}


def test_empty_text_is_judged_without_an_error() -> None:
    for language in ("en", "zh"):
        assert "words" in names(language, "")


def test_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="max_dup_lines"):
        QualitySettings.parse({"chinese": {"gopher_repetition": {"max_dup_line": 1}}})


def test_line_rules_drop_lines_and_count_them() -> None:
    text = ("The river is long and wide.\nHome About\nPlease enable JavaScript to read this.\n\n"
            "Read our privacy policy now.")
    cleaned = clean_lines(text, "en", LineRules())
    assert cleaned.text == "The river is long and wide."
    assert cleaned.dropped == {"min_words": 1, "javascript": 1, "policy": 1}
    strict = LineRules(punctuated=True)
    assert clean_lines("No end here at all\nAn end is here.", "en", strict).text == "An end is here."
    chinese_text = "这条河很长，流入大海。\n首页\n请阅读我们的隐私政策。"
    assert clean_lines(chinese_text, "zh", LineRules()).text == "这条河很长，流入大海。"
    assert clean_lines("word " + "x" * 1001 + " more", "en", LineRules()).dropped == {"max_word_length": 1}
