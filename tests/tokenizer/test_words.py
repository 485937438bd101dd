"""Breaks when text is lost or counted twice, when workers or batches change a count, or memory is not bounded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.tokenizer import words as module
from headwater.tokenizer.words import LONGEST, Words, count_words, threshold, word_pattern, words_of

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=6)
TEXT = ("The  river (Velna) is 482 km long,\tand_so on:\n\n    def f(x):\n        return x + 1\n"
        "河水流过城市，2024年。 中文 mixed中文text 𠮷野家 ▁ \u3000x")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_character_but_line_breaks_is_in_one_word(text):
    found = word_pattern().findall(text)
    assert "".join(found) == text.replace("\n", "")


def test_words_part_where_pieces_must_not_join():
    found = word_pattern().findall(TEXT)
    for word in ("4", "8", " (", "Velna", ")", " return", "       ", "河水流过城市", "，", " 中文", "中文", "text", "_",
                 "\t"):
        assert word in found
    assert not [word for word in found if len(word) > 1 and any(character.isdigit() for character in word)]
    assert max(map(len, word_pattern().findall("河" * 100))) == LONGEST


def test_marks_belong_to_their_letters():
    for text in ("हिन्दी", "ภาษาไทย", "e\u0301te\u0301", "עִבְרִית"):
        assert word_pattern().findall(f"a {text}.") == ["a", f" {text}", "."]


def test_a_long_text_is_counted_stretch_by_stretch(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", 10)
    assert words_of(["one two three four"]) == {"one": 1, " two": 1, " th": 1, "ree": 1, " four": 1}


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


def test_words_are_bounded_and_the_frequent_keep_their_counts():
    words = Words(most=10)
    for start in range(0, 2000, 5):
        words.add("en", {**{f"w{start + number}": 1 for number in range(5)}, "often": 3}, 30)
        assert len(words.counts["en"]) <= 25
    counts = words.finish().counts["en"]
    assert len(counts) <= 20
    assert counts["often"] == 3 * 400
    rare = [count for word, count in counts.items() if word != "often"]
    assert sum(rare) == pytest.approx(2000, rel=0.4)  # nine or so stand for two thousand


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60), st.data())
def test_the_threshold_keeps_as_many_as_wanted(sizes, data):
    count = data.draw(st.integers(1, len(sizes) - 1))
    limit = threshold(np.array(sizes, float), count)
    assert sum(min(1, size / limit) for size in sizes) == pytest.approx(count)


def test_a_sample_weighs_what_all_words_would():
    """Of two kinds of words that are each said once, and of many and few of them, the shares stay."""
    found = []
    for seed in range(20):
        words = Words(most=200)
        for number in range(3000):
            kind = "b" if number % 5 == 0 else "a"
            words.add("zh", {f"{kind}{number}.{seed}": 1, "often": 1}, 1)
        words._draw = np.random.default_rng(seed)
        counts = words.finish().counts["zh"]
        found.append(sum(count for word, count in counts.items() if word.startswith("b")))
        assert counts["often"] == 3000
    assert np.mean(found) == pytest.approx(600, rel=0.1)


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


def test_sampled_words_count_for_their_language():
    words = Words(most=30)
    for number in range(500):
        words.add("en", {f"word{number}": 1, "a": 40}, 46)
    words.add("zh", {"河": 23_000}, 23_000)
    weights = dict(words.finish().weighted())
    assert weights["a"] / weights["河"] == pytest.approx(20_000 / 23_000, rel=0.001)
    assert sum(weight for word, weight in weights.items() if word.startswith("word")) == pytest.approx(500, rel=0.3)


def test_the_heaviest_come_first_and_ties_in_order():
    words = Words()
    words.add("en", {"b": 2, "a": 2, "c": 5}, 9)
    assert [word for word, _ in words.weighted()] == ["c", "a", "b"]
