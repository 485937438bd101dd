from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.deduplication.clusters import estimate_from, representatives
from headwater.corpus.deduplication.duplicates import exact_key, first_with_key, union
from headwater.corpus.deduplication.minhash import I64, MinHashSettings, band_keys, detection_probability, exact_jaccard
from tests.corpus.test_minhash import planted

DEFAULT = MinHashSettings(loose=None, similarity=0)
"""The main bands alone, as in the published curve."""


def clusters(texts: list[str]) -> I64:
    keys = band_keys(texts, DEFAULT)
    return representatives(keys.keys.T, estimate_from(lambda rows: keys.sketch[rows]), np.zeros(len(texts), np.int64),
                           DEFAULT.similarity).representative


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.95, 1.0])
def test_planted_copies_are_found_as_often_as_the_bands_promise(similarity: float) -> None:
    pairs = [planted(similarity, 150, seed) for seed in range(200)]
    first = clusters([text for pair in pairs for text in pair])
    recall = float(np.mean(first[1::2] == first[0::2]))
    expected = detection_probability(exact_jaccard(*pairs[0], DEFAULT.ngram), DEFAULT)
    assert abs(recall - expected) <= 3 * math.sqrt(expected * (1 - expected) / len(pairs)) + 1e-12
    assert np.array_equal(first[0::2], np.arange(0, 400, 2)), "documents of different pairs were merged"


@given(st.integers(1, 30).flatmap(lambda count: st.tuples(
    st.just(count), st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=40))))
def test_union_labels_every_component_with_its_lowest_member(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    label = list(range(count))
    for _ in range(count):
        for one, two in edges:
            label[one] = label[two] = min(label[one], label[two])
    left, right = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))
    assert union(np.arange(count), left, right).tolist() == label


def test_a_chain_of_copies_keeps_exactly_one() -> None:
    count = 1000
    order = np.random.default_rng(0).permutation(count)
    assert (union(np.arange(count), order[:-1], order[1:]) == 0).all()


def test_cluster_keeps_its_first_document() -> None:
    copies = [planted(1.0, 100, 1)[0]] * 3
    texts = [planted(0.5, 100, 7)[0], *copies[:1], planted(0.5, 100, 8)[0], *copies[1:]]
    assert clusters(texts).tolist() == [0, 1, 2, 1, 1]


def test_exact_key_ignores_case_width_and_white_space_only() -> None:
    assert exact_key("A  river\u3000Ａ\n") == exact_key("a river a")
    assert exact_key("a river") != exact_key("a rivers")


def test_first_with_key_points_to_the_first_copy() -> None:
    keys = np.frombuffer(b"".join(exact_key(text) for text in ["b", "a", "b", "c", "A", "b"]), "V16")
    assert first_with_key(keys).tolist() == [0, 1, 0, 3, 1, 0]
