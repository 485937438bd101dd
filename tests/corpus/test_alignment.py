from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.deduplication.alignment import WIDTH, alignment_from, common, conserved, token_bytes

SEQUENCES = st.lists(st.integers(1, 4), max_size=WIDTH)


def rows_of(sequences: list[list[int]]) -> np.ndarray:
    rows = np.zeros((len(sequences), WIDTH), np.uint8)
    for row, sequence in zip(rows, sequences):
        row[:len(sequence)] = sequence
    return rows


def longest_common(one: list[int], other: list[int]) -> int:
    best = [0] * (len(other) + 1)
    for token in one:
        before = 0
        for place, there in enumerate(other, 1):
            before, best[place] = best[place], before + 1 if token == there else max(best[place], best[place - 1])
    return best[-1]


@given(SEQUENCES, SEQUENCES)
def test_the_bits_count_the_longest_common_subsequence(one: list[int], other: list[int]) -> None:
    bits = int(common(rows_of([one]), rows_of([other]))[0])
    assert bits.bit_count() == longest_common(one, other)
    assert bits >> len(one) == 0, "a place beyond the end counts"


@given(st.lists(SEQUENCES, min_size=1, max_size=5))
def test_alignment_is_symmetric_and_1_for_equal_sequences_alone(sequences: list[list[int]]) -> None:
    rows = rows_of([sequence or [1] for sequence in sequences])
    estimate = alignment_from(lambda chosen: rows[chosen])
    left, right = np.divmod(np.arange(len(rows) ** 2), len(rows))
    found = estimate(left, right)
    assert np.array_equal(found, estimate(right, left))
    assert np.array_equal(found == 1, (rows[left] == rows[right]).all(axis=1))


def test_token_bytes_are_the_first_tokens_and_never_0() -> None:
    tokens = np.arange(200, dtype=np.uint64) * np.uint64(255)
    rows = token_bytes(tokens, np.array([0, 3, 3, 200]))
    assert (rows != 0).sum(axis=1).tolist() == [3, 0, WIDTH]


def test_copies_conserve_their_tokens_and_a_filled_pattern_does_not() -> None:
    original = list(range(1, 21))
    copies = [original] + [[*original[:place], 200 + place, *original[place + 1:]] for place in (3, 8, 12, 17)]
    pattern = [[50, 51, 52, 53, *range(filled, filled + 4), 54, 55, 56, 57] for filled in range(60, 100, 8)]
    rows = rows_of(copies + pattern)
    roots, shares = conserved(np.repeat([0, 5], 5), np.ones(10, np.int64), lambda chosen: rows[chosen])
    assert roots.tolist() == [0, 5]
    assert shares[0] == 1
    assert np.isclose(shares[1], 8 / 12)


def test_weights_are_the_members_votes() -> None:
    rows = rows_of([[1, 2, 3, 4], [1, 2, 3, 9]])
    for weight, share in ((1, 1.0), (5, 0.75)):
        found = conserved(np.array([0, 0]), np.array([1, weight]), lambda chosen: rows[chosen])[1]
        assert found.tolist() == [share]
