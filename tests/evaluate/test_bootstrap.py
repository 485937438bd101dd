"""Intervals of means against hand computations, SciPy and what they promise."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.evaluate.bootstrap import interval, mean_of, resampled

VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40).map(np.array)


def right_and_wrong(right: int, wrong: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * wrong)


def test_mean_over_strata_weighs_each_stratum_alike() -> None:
    assert mean_of([right_and_wrong(1, 0), right_and_wrong(0, 9)]) == 0.5
    assert mean_of([right_and_wrong(1, 9)]) == 0.1
    assert math.isnan(mean_of([]))


@pytest.mark.parametrize(("right", "wrong"), [(30, 70), (97, 3), (250, 250)], ids=["30-70", "97-3", "250-250"])
def test_the_interval_of_shares_is_that_of_scipy(right: int, wrong: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = right_and_wrong(right, wrong)
    ours = interval([values])
    theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=10_000,
                             rng=np.random.default_rng(1)).confidence_interval
    # Both draw at random: an end may be off by two steps of the discrete distribution.
    assert ours.low == pytest.approx(theirs.low, abs=2.01 / len(values))
    assert ours.high == pytest.approx(theirs.high, abs=2.01 / len(values))


def test_the_interval_of_skewed_values_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(3).exponential(size=200) ** 2
    ours = interval([values], resamples=50_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=50_000, batch=1000,
                                 rng=np.random.default_rng(1)).confidence_interval
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.03 * width
    assert abs(ours.high - theirs.high) < 0.03 * width
    # The percentile interval, without correction, is elsewhere: the test would tell them apart.
    plain = np.quantile(resampled([values], resamples=50_000), (0.025, 0.975))
    assert abs(plain[1] - theirs.high) > 0.04 * width


def test_few_and_many_different_values_are_drawn_from_the_same_distribution() -> None:
    few = right_and_wrong(40, 60)
    many = few + np.linspace(0, 1e-9, 100)
    one, other = resampled([few]), resampled([many])
    assert one.mean() == pytest.approx(other.mean(), abs=0.003)
    assert one.std() == pytest.approx(other.std(), rel=0.05)
    assert one.std() == pytest.approx(math.sqrt(0.4 * 0.6 / 100), rel=0.05)


def test_strata_are_drawn_apart() -> None:
    # All of the spread is between the strata: drawn together the mean would move, drawn apart it cannot.
    strata = [np.ones(50), np.zeros(50)]
    assert resampled(strata).std() == 0
    assert resampled([np.concatenate(strata)]).std() > 0.04


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(5).binomial(1, 0.3, (400, 60)).astype(float)
    found = [interval([values], resamples=1000) for values in drawn]
    assert 0.91 <= np.mean([one.low <= 0.3 <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize(("right", "wrong"), [(10, 0), (0, 10)], ids=["all right", "all wrong"])
def test_all_the_same_is_no_certainty(right: int, wrong: int) -> None:
    found = interval([right_and_wrong(right, wrong)])
    far = 0.05 ** (1 / 10)  # a model this good still gets all ten right one time in twenty
    assert (found.low, found.high) == pytest.approx((far, 1) if right else (0, 1 - far))


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_interval_holds_its_value_and_stays_within_the_values(strata: list[np.ndarray], seed: int) -> None:
    found = interval(strata, resamples=200, seed=seed)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found == interval(strata, resamples=200, seed=seed)


def test_nothing_has_no_interval() -> None:
    assert math.isnan(interval([]).value)
