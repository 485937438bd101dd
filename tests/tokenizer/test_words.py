"""Breaks when text is lost or counted twice, when workers or batches change a count, or memory is not bounded."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.tokenizer import words as module
from headwater.tokenizer.words import LONGEST, WORD, Words, count_words, words_of

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=6)
TEXT = ("The  river (Velna) is 482 km long,\tand_so on:\n\n    def f(x):\n        return x + 1\n"
        "河水流过城市，2024年。 中文 mixed中文text 𠮷野家 ▁ \u3000x")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_character_but_line_breaks_is_in_one_word(text):
    found = WORD.findall(text)
    assert "".join(found) == text.replace("\n", "")


def test_words_part_where_pieces_must_not_join():
    found = WORD.findall(TEXT)
    for word in ("4", "8", " (", "Velna", ")", " return", "       ", "河水流过城市", "，", " 中文", "中文", "text", "_",
                 "\t"):
        assert word in found
    assert not [word for word in found if len(word) > 1 and any(character.isdigit() for character in word)]
    assert max(map(len, WORD.findall("河" * 100))) == LONGEST


@settings(max_examples=50)
@given(TEXTS, st.integers(1, 5))
def test_counts_do_not_depend_on_batches(texts, size):
    original, module.BATCH = module.BATCH, size
    try:
        counted = count_words((text, "en") for text in texts)
    finally:
        module.BATCH = original
    expected = words_of(texts)
    assert counted.counts.get("en", Counter()) == expected


def test_counts_do_not_depend_on_the_workers():
    documents = [(TEXT * 3, "en"), ("河水流过城市。" * 9, "zh")] * 30
    one, two = (count_words(documents, processes=processes) for processes in (1, 2))
    assert one.counts == two.counts
    assert one.weighted() == two.weighted()


def test_words_are_bounded_and_the_rarest_are_forgotten():
    words = Words(most=10)
    for start in range(0, 2000, 5):
        words.add("en", {**{f"w{start + number}": 1 for number in range(5)}, "often": 3}, 30)
        assert len(words.counts["en"]) <= 25
    assert len(words.finish().counts["en"]) <= 10
    assert words.counts["en"]["often"] == 3 * 400
    assert words.forgotten["en"] == 1


def test_shares_weigh_the_languages_by_what_was_read():
    words = Words()
    words.add("en", {"aa": 300, "b": 400}, 1000)
    words.add("zh", {"河": 100}, 100)
    plain = dict(words.weighted())
    assert plain["aa"] / plain["河"] == pytest.approx(3)
    even = dict(words.weighted({"en": 1, "zh": 1}))
    assert (2 * even["aa"] + even["b"]) / even["河"] == pytest.approx(1, rel=0.01)
    assert min(even["aa"], even["b"]) >= 300
    assert dict(words.weighted({"zh": 2})).keys() == {"河"}


def test_forgotten_words_count_for_their_language():
    words = Words(most=3)
    for number in range(50):
        words.add("en", {f"word{number}": 1, "a": 400}, 406)
    words.add("zh", {"河": 20_300}, 20_300)
    weights = dict(words.finish().weighted())
    assert weights["a"] / weights["河"] == pytest.approx(1, rel=0.02)


def test_the_heaviest_come_first_and_ties_in_order():
    words = Words()
    words.add("en", {"b": 2, "a": 2, "c": 5}, 9)
    assert [word for word, _ in words.weighted()] == ["c", "a", "b"]
