from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.judging.score import REFERENCES, score_document, score_sentences
from headwater.corpus.judging.statistics import measure
from headwater.corpus.reading.tidying import tidy
from tests.corpus.conftest import chinese, english
from tests.corpus.test_quality import CLEAN

TEXTS = st.text(alphabet=st.characters() | st.sampled_from("ab .\n河流水，。的!"), max_size=200)


def typical(language: str):
    return replace(CLEAN[language], **{name: reference.typical for name, reference in REFERENCES[language].items()})


@pytest.mark.parametrize("language", ["en", "zh"])
def test_typical_text_has_one_and_text_at_one_limit_a_half(language: str) -> None:
    assert score_document(typical(language), language) == 1
    for name, reference in REFERENCES[language].items():
        assert score_document(replace(typical(language), **{name: reference.limit}), language) == 0.5, name


@given(st.floats(0, 1), st.floats(0, 1))
def test_probabilities_against_a_text_lower_its_score(one: float, two: float) -> None:
    found = score_document(typical("en"), "en", (one, two))
    assert found == pytest.approx((1 - one) * (1 - two), abs=1e-4)


@given(TEXTS, st.sampled_from(["en", "zh", "fr"]))
def test_scores_lie_between_0_and_1_and_sentences_are_disjoint_and_in_order(text: str, language: str) -> None:
    text = tidy(text)
    assert 0 <= score_document(measure(text, language), language) <= 1
    last = 0
    covered = []
    for start, end, score in score_sentences(text, language):
        assert last <= start < end <= len(text)
        assert 0 <= score <= 1
        assert "\n" not in text[start:end]
        covered.append(text[start:end])
        last = end
    assert "".join("".join(covered).split()) == "".join(text.split())


def test_empty_text_has_no_score_and_no_sentences() -> None:
    assert score_document(measure("", "zh"), "zh") == 0
    assert score_sentences("", "zh") == []


def test_repeated_unfinished_and_lettered_less_sentences_score_lower() -> None:
    whole = "今天的天气非常好，我们一起去河边散步和聊天吧。"
    scores = [found.score for found in score_sentences(f"{whole}\n{whole}\n{whole[:-1]}\n$$ 12 || 34 ## 56。", "zh")]
    assert scores[0] == 1
    assert scores[1] == 0.5
    assert scores[2] == round(2**-0.5, 4)
    assert scores[3] < 0.5


def test_other_languages_are_not_held_to_english_stop_words() -> None:
    text = "Der Fluss fließt langsam durch die alte Stadt, bis er das weite Meer erreicht."
    assert score_document(measure(text, "de"), "de") > score_document(measure(text, "en"), "en")


@pytest.mark.parametrize(("language", "text"), [("en", english(3, 400)), ("zh", chinese(3, 600))])
def test_prose_scores_above_links_and_repetition(language: str, text: str) -> None:
    links = "\n".join(["Home", "News", "Sports", "Log in"] * 20 if language == "en" else ["首页", "新闻", "登录"] * 30)
    prose = score_document(measure(text, language), language)
    assert prose > score_document(measure(links, language), language)
    assert prose > score_document(measure("\n".join([text[:200]] * 5), language), language)


def test_real_clean_text_scores_above_the_same_text_mangled(shared: Path) -> None:
    for language in ("en", "zh"):
        rows = (shared / f"data/text/{language}/rust_book/docs.jsonl").read_text("utf-8").split("\n")[:30]
        above = []
        for row in filter(None, rows):
            text = tidy(json.loads(row)["text"])[:2000]
            noisy = "".join("^|~#"[place % 4] if place % 5 == 0 and letter != "\n" else letter
                            for place, letter in enumerate(text))
            clean, mangled = (score_document(measure(each, language), language) for each in (text, noisy))
            above.append(clean > mangled)
        assert sum(above) >= 0.9 * len(above)  # a table of operators is as strange as noise
