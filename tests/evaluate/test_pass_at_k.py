from itertools import combinations

import pytest

from headwater.evaluate.pass_at_k import pass_at_k


@pytest.mark.parametrize("programs", range(1, 9))
def test_is_the_share_of_draws_that_hold_a_right_program(programs):
    for passed in range(programs + 1):
        for k in range(1, programs + 1):
            draws = list(combinations([True] * passed + [False] * (programs - passed), k))
            assert pass_at_k(programs, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_one_try_is_the_share_of_programs_that_passed():
    assert pass_at_k(200, 57, 1) == pytest.approx(57 / 200, abs=1e-14)


def test_stays_exact_where_the_binomials_are_past_the_largest_float():
    from fractions import Fraction
    from math import comb
    wanted = 1 - Fraction(comb(4990, 1000), comb(5000, 1000))
    assert comb(5000, 1000) > 10 ** 308
    assert pass_at_k(5000, 10, 1000) == pytest.approx(float(wanted), abs=1e-12)


@pytest.mark.parametrize(("programs", "passed", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6), (0, 0, 1)])
def test_impossible_counts_are_refused(programs, passed, k):
    with pytest.raises(ValueError, match="must be of them"):
        pass_at_k(programs, passed, k)
