"""Paired tests against SciPy, hand computations and what they promise."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.evaluate.significance import alone, holm, mcnemar, p_value, randomisation


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 0), (0, 6), (12, 3), (40, 41), (700, 600)],
                         ids=lambda number: str(number))
def test_mcnemar_is_the_binomial_test_of_the_questions_that_one_alone_had_right(b: int, c: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(5, 0) == 2 / 32
    assert mcnemar(1, 3) == 2 * (1 + 4) / 16


def test_mcnemar_of_thousands_of_questions_does_not_overflow() -> None:
    assert mcnemar(7000, 7000) == 1
    assert 0 < mcnemar(3300, 3700) < 1e-5


def by_all_signs(strata: list[np.ndarray]) -> float:
    """The exact test: every way to turn the signs."""
    sizes = np.concatenate([values / len(values) / len(strata) for values in strata])
    observed = abs(sizes.sum())
    sums = [abs(np.dot(signs, sizes)) for signs in itertools.product((-1, 1), repeat=len(sizes))]
    return float(np.mean(np.array(sums) >= observed - 1e-9))


@pytest.mark.parametrize("strata", [[[1, 1, 0, -1, 1, 1]], [[1, 1, 0], [0.5, -1], [1, 1, 1, -0.25]],
                                    [[0.1, 0.2, -0.3, 0.7, 0.9]]], ids=["0 and 1", "strata", "shares"])
def test_random_signs_come_near_to_all_signs(strata: list[list[float]]) -> None:
    arrays = [np.array(values, float) for values in strata]
    assert randomisation(arrays, resamples=40_000) == pytest.approx(by_all_signs(arrays), abs=0.012)


def test_many_different_differences_are_tested_the_same_way() -> None:
    values = np.round(np.random.default_rng(0).normal(0.1, 1, 300), 1)
    jittered = values + np.linspace(0, 1e-10, 300)
    assert len(np.unique(np.abs(values))) <= 32 < len(np.unique(np.abs(jittered)))
    assert randomisation([values]) == pytest.approx(randomisation([jittered]), abs=0.02)


def test_for_0_and_1_over_questions_the_test_is_mcnemars() -> None:
    differences = [np.array([1.0] * 14 + [-1.0] * 4 + [0.0] * 30)]
    assert alone(differences) == (14, 4)
    assert p_value(differences, exact=True) == mcnemar(14, 4)
    assert randomisation(differences, resamples=40_000) == pytest.approx(mcnemar(14, 4), abs=0.004)
    assert alone([np.array([0.5])]) is None


DIFFERENCES = st.lists(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=12).map(np.array),
                       min_size=1, max_size=3)


@given(DIFFERENCES)
@settings(max_examples=60, deadline=None)
def test_the_test_does_not_see_which_model_is_first(differences: list[np.ndarray]) -> None:
    turned = [-values for values in differences]
    for exact in (True, False):
        one, other = (p_value(those, exact=exact, resamples=200) for those in (differences, turned))
        assert one == other
        assert 0 < one <= 1


def test_no_difference_is_never_significant() -> None:
    assert randomisation([np.zeros(100)]) == 1
    assert p_value([np.zeros(100)], exact=True) == 1
    assert randomisation([]) == 1


def test_the_test_keeps_its_level() -> None:
    generator = np.random.default_rng(7)
    found = [p_value([generator.choice([-1.0, 0, 1], 40), generator.choice([-1.0, 0, 1], 10)], exact=False,
                     resamples=400, seed=seed) for seed in range(400)]
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.085


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; none below the one before it.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1, 1]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_makes_a_value_smaller_and_keeps_the_order(values: list[float]) -> None:
    corrected = holm(values)
    assert all(after >= before or after == 1 for before, after in zip(values, corrected, strict=True))
    order = sorted(range(len(values)), key=lambda place: values[place])
    assert [corrected[place] for place in order] == sorted(corrected)
