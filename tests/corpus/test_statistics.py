from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.judging.statistics import CHARACTERS_PER_WORD, measure
from headwater.corpus.reading.tidying import tidy

TEXTS = st.text(alphabet=st.characters() | st.sampled_from("ab .\n河流水，。的\ufffd{#-…\U00020000"), max_size=300)
COUNTS = {"words", "mean_word_length", "longest_word", "stop_words", "sentences", "lorem_ipsum", "hashes", "ellipses",
          "newlines"}


def top(words: list[str], n: int) -> float:
    """By definition: characters of all occurrences of the most frequent repeated n-gram, of all characters."""
    grams = Counter(tuple(words[start:start + n]) for start in range(len(words) - n + 1))
    most = max(grams.values(), default=0)
    longest = max((sum(map(len, gram)) for gram, count in grams.items() if count == most), default=0)
    total = sum(map(len, words))
    return min(most * longest, total) / total if most > 1 else 0.0


def duplicates(words: list[str], n: int) -> float:
    """By definition: characters inside n-grams that occurred before, each once."""
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for start in range(len(words) - n + 1):
        gram = tuple(words[start:start + n])
        covered.update(range(start, start + n) if gram in seen else ())
        seen.add(gram)
    return sum(len(words[place]) for place in covered) / max(sum(map(len, words)), 1)


@given(TEXTS, st.sampled_from(["en", "zh", "fr"]))
def test_any_text_is_measured_and_shares_lie_between_nothing_and_all(text: str, language: str) -> None:
    for name, value in asdict(measure(tidy(text), language)).items():
        assert value >= 0, name
        assert name in COUNTS or value <= 1, name


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "river", "long"]), max_size=60))
def test_english_repetition_is_that_of_the_definition(words: list[str]) -> None:
    found = measure(" ".join(words), "en")
    for n in (2, 3, 4):
        assert getattr(found, f"top_{n}gram_chars") == pytest.approx(top(words, n))
    for n in (5, 6, 7, 8, 9, 10):
        assert getattr(found, f"dup_{n}gram_chars") == pytest.approx(duplicates(words, n))


@given(st.text("河流水山", max_size=60))
def test_chinese_repetition_counts_characters_and_longer_ngrams(text: str) -> None:
    found = measure(text, "zh")
    for n in (2, 3, 4):
        assert getattr(found, f"top_{n}gram_chars") == pytest.approx(top(list(text), round(n * CHARACTERS_PER_WORD)))
    for n in (5, 8, 10):
        assert getattr(found, f"dup_{n}gram_chars") == pytest.approx(
            duplicates(list(text), round(n * CHARACTERS_PER_WORD)))


def test_marks_and_words_of_a_small_text() -> None:
    found = measure("# The river\n- is long...\n\nand wide, 12 km. Yes!", "en")
    assert (found.words, found.sentences, found.stop_words) == (9, 3, 2)
    assert (found.hashes, found.ellipses) == (1 / 9, 1 / 9)
    assert (found.bullet_lines, found.ellipsis_lines, found.punctuated_lines) == (1 / 3, 1 / 3, 2 / 3)
    assert found.alphabetic_words == 8 / 11


def test_chinese_words_are_characters_and_runs_between() -> None:
    found = measure("我们使用GPT-4模型，很好。\nprint(1)\n", "zh")
    assert found.words == 9  # eight Han characters and GPT-4; the line without Han does not count
    assert found.longest_word == 5
    assert found.han == 8 / 23


def test_wrong_decodings_are_broken_and_right_text_is_not() -> None:
    for text in ("河流很长，流入大海。", "naïve café — “Élan” in São Paulo, à l’été"):
        assert measure(text, "zh").broken == 0
        assert measure(tidy(text.encode().decode("latin-1")), "en").broken > 0.01
    assert measure("锟斤拷锟斤拷", "zh").broken > 0.1


def test_a_single_huge_line_is_measured_by_its_beginning() -> None:
    assert measure("a " * 2_000_000, "en").words == 500_000
