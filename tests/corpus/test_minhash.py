from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.deduplication.minhash import (
    U32,
    MinHashSettings,
    detection_probability,
    exact_jaccard,
    minimums,
    shingles,
)
from headwater.corpus.judging.length import tokens

DEFAULT = MinHashSettings()
TEXTS = st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("ab12 河流水，。\n_-É"), max_size=60)


def signatures(texts: list[str]) -> U32:
    """[texts, permutations]"""
    return minimums(*shingles(texts, DEFAULT.ngram), DEFAULT.permutations, DEFAULT.seed).T


def grams(text: str, ngram: int) -> list[tuple[str, ...]]:
    found = tokens(text)
    return [tuple(found[start:start + ngram]) for start in range(max(len(found) - ngram + 1, bool(found)))]


def planted(similarity: float, size: int, seed: int) -> tuple[str, str]:
    """Two texts of `size` shingles each whose shingle sets have about that Jaccard similarity."""
    shared = round(2 * size * similarity / (1 + similarity))
    words = [f"w{seed}x{number}" for number in range(2 * size + 8)]
    head = words[:shared + 4]
    return " ".join(head + words[shared + 4:size + 4]), " ".join(head + words[size + 4:2 * size - shared + 4])


@given(st.lists(TEXTS, max_size=5), st.integers(1, 7))
def test_shingles_are_the_ngrams_of_tokens(texts: list[str], ngram: int) -> None:
    hashes, bounds = shingles(texts, ngram)
    reference: dict[tuple[str, ...], int] = {}
    for index, text in enumerate(texts):
        found, expected = hashes[bounds[index]:bounds[index + 1]].tolist(), grams(text, ngram)
        assert len(found) == len(expected)
        for value, gram in zip(found, expected):
            assert reference.setdefault(gram, value) == value
    assert len(set(reference.values())) == len(reference)


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_text_has_the_same_signature_alone_and_in_company(texts: list[str]) -> None:
    together = signatures(texts)
    for index, text in enumerate(texts):
        assert together[index].any() == bool(tokens(text))
        assert np.array_equal(together[index], signatures([text])[0])


@given(TEXTS)
def test_case_spacing_and_punctuation_do_not_change_a_signature(text: str) -> None:
    other = text.replace(" ", " , ").replace("\n", "\n\n")
    assert np.array_equal(signatures([text]), signatures([other]))


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_estimate_is_unbiased_within_its_standard_error(similarity: float) -> None:
    pairs = [planted(similarity, 200, seed) for seed in range(60)]
    true = exact_jaccard(*pairs[0], DEFAULT.ngram)
    assert true == pytest.approx(similarity, abs=0.01)
    estimates = [float(np.equal(*signatures(list(pair))).mean()) for pair in pairs]
    error = math.sqrt(true * (1 - true) / DEFAULT.permutations)
    assert abs(np.mean(estimates) - true) < 3 * error / math.sqrt(len(pairs))
    assert 0.6 * error < np.std(estimates) < 1.5 * error


def test_detection_probability_is_the_published_curve() -> None:
    published = {0.70: 0.5645, 0.75: 0.7716, 0.80: 0.9235, 0.85: 0.9884}
    for similarity, probability in published.items():
        assert detection_probability(similarity, DEFAULT) == pytest.approx(probability, abs=5e-4)


def test_exact_jaccard_of_equal_disjoint_and_empty_texts() -> None:
    assert exact_jaccard("one two three four five six", "ONE, two three four five; six", 5) == 1
    assert exact_jaccard("one two three four five", "six seven eight nine ten", 5) == 0
    assert exact_jaccard("", "。，", 5) == 1


def test_traditional_limits_of_alphabets_split_words() -> None:
    assert tokens("Abc中文DEF 12_x é") == ["abc", "中", "文", "def", "12", "x", "é"]
