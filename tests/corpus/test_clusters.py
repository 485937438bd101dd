from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.deduplication.clusters import Clusters, estimate_from, key_ranges, representatives
from headwater.corpus.deduplication.minhash import MinHashSettings, band_keys, detection_probability
from headwater.corpus.deduplication.minhash import exact_jaccard as jaccard
from tests.corpus.test_minhash import planted

DEFAULT = MinHashSettings()
MAIN = MinHashSettings(loose=None, similarity=0)
WORDS = [f"w{number}" for number in range(4000)]


def cluster(texts: list[str], settings: MinHashSettings = DEFAULT, **options: bool | int) -> Clusters:
    keys = band_keys(texts, settings)
    return representatives(keys.keys.T, estimate_from(lambda rows: keys.sketch[rows]),
                           np.array([len(text) for text in texts]), settings.similarity, **options)


def prose(seed: int, words: int = 200) -> list[str]:
    return np.random.default_rng(seed).choice(WORDS, words).tolist()


def changed(words: list[str], share: float, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [f"new{seed}x{place}" if draw.random() < share else word for place, word in enumerate(words)]


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.95, 1.0])
def test_the_main_bands_find_planted_copies_as_often_as_they_promise(similarity: float) -> None:
    pairs = [planted(similarity, 150, seed) for seed in range(200)]
    kept = cluster([text for pair in pairs for text in pair], MAIN).representative
    recall = float(np.mean(kept[1::2] == kept[0::2]))
    expected = detection_probability(jaccard(*pairs[0], MAIN.ngram), MAIN)
    assert abs(recall - expected) <= 3 * math.sqrt(expected * (1 - expected) / len(pairs)) + 1e-12
    assert (kept // 2 == np.arange(400) // 2).all(), "documents of different pairs were merged"


def test_copies_with_every_tenth_word_changed_are_found() -> None:
    originals = [prose(seed) for seed in range(150)]
    copies = [changed(words, 0.1, seed) for seed, words in enumerate(originals)]
    kept = cluster([" ".join(words) for words in originals + copies]).representative
    assert (kept[:150] == kept[150:]).mean() > 0.95, "the loose bands no longer find scattered edits"
    assert (kept % 150 == np.arange(300) % 150).all(), "documents of different families were merged"


def test_the_longest_copy_stays_and_among_equals_the_earliest() -> None:
    words = prose(1)
    short, long = " ".join(words), " ".join([*words, "and", "more"])
    assert cluster([short, long, short, long]).representative.tolist() == [1, 1, 1, 1]
    assert cluster([short, short]).representative.tolist() == [0, 0]


def test_a_chain_of_small_changes_does_not_swallow_what_became_different() -> None:
    chain, words = [], prose(2, 400)
    for step in range(12):
        chain.append(" ".join(words))
        words = changed(words, 0.08, step)
    found = cluster(chain)
    copies = np.flatnonzero(found.representative != np.arange(12))
    assert len(copies)
    assert found.representative[11] != found.representative[0]
    for copy in copies:
        assert jaccard(chain[copy], chain[found.representative[copy]], 3) > 0.15
        assert found.representative[found.representative[copy]] == found.representative[copy], "its keeper is gone"


def test_unrelated_texts_that_share_keys_by_chance_stay_apart() -> None:
    texts = [" ".join(prose(seed, 80)) for seed in range(40)]
    keys = band_keys(texts, DEFAULT)
    same = np.ones(40, np.uint64)
    found = representatives([same] * 3, estimate_from(lambda rows: keys.sketch[rows]), np.ones(40), 0.4)
    assert found.representative.tolist() == list(range(40))


def test_texts_without_tokens_are_nobodys_copies() -> None:
    assert cluster(["", "。", "", "a b", "a b"]).representative.tolist() == [0, 1, 2, 3, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=24), st.integers(1, 9))
def test_ranges_of_keys_change_nothing(plan: list[tuple[int, int]], most: int) -> None:
    texts = [" ".join(changed(prose(family, 60), 0.05, version)) for family, version in plan]
    whole, ranged = cluster(texts), cluster(texts, range_documents=most)
    assert np.array_equal(whole.representative, ranged.representative)
    assert np.array_equal(whole.similarity, ranged.similarity)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 20))
def test_key_ranges_part_the_documents_that_have_a_key(values: list[int], most: int) -> None:
    keys = np.array(values, np.uint64)
    parts = [keys[members] for members in key_ranges(keys, most)]
    assert sum(map(len, parts)) == np.count_nonzero(keys)
    for one, other in pairwise(parts):
        assert not np.intersect1d(one, other).size, "equal keys fell into two ranges"


@given(st.lists(st.text(alphabet="ab 河流。", max_size=30), max_size=8))
def test_band_keys_do_not_depend_on_company(texts: list[str]) -> None:
    together = band_keys(texts, DEFAULT)
    for index, text in enumerate(texts):
        alone = band_keys([text], DEFAULT)
        assert np.array_equal(together.keys[index], alone.keys[0])
        assert np.array_equal(together.sketch[index], alone.sketch[0])
        assert together.present[index] == alone.present[0] == alone.keys[0].all() == alone.keys[0].any()


def test_full_width_letters_and_figures_are_the_same_tokens() -> None:
    assert np.array_equal(band_keys(["ＡＢＣ１２３ 河流"], DEFAULT).keys, band_keys(["abc123 河流"], DEFAULT).keys)
