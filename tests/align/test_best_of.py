from itertools import combinations
from statistics import mean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.align.best_of import chance, curves, expected_max, expected_median

rewards = st.lists(st.floats(-5, 5), min_size=1, max_size=7)


@given(rewards, st.integers(1, 7))
@settings(max_examples=40)
def test_expectations_are_those_over_every_choice(values, k):
    k, ordered = min(k, len(values)), np.sort(values)
    every = list(combinations(values, k))
    assert expected_max(ordered, k) == pytest.approx(mean(map(max, every)), abs=1e-9)
    assert expected_median(ordered, k) == pytest.approx(mean(map(median, every)), abs=1e-9)


def test_chances_by_hand():
    assert chance(4, 2, 2).tolist() == [0, 1 / 6, 2 / 6, 3 / 6]  # the larger of two of four
    assert chance(3, 3, 1).tolist() == [1, 0, 0]
    assert chance(100, 10, 10).sum() == pytest.approx(1)


@given(st.lists(rewards, min_size=1, max_size=4))
@settings(max_examples=40)
def test_the_best_of_more_is_no_worse_and_the_mean_stays(prompts):
    told = curves(prompts, 8)
    assert all(later >= sooner - 1e-9 for sooner, later in zip(told.max, told.max[1:]))
    assert told.mean == pytest.approx([told.mean[0]] * 8)
    assert told.max[0] == pytest.approx(told.mean[0])
    assert told.max[-1] == pytest.approx(mean(max(own) for own in prompts))


def test_prompts_without_usable_answers_do_not_count():
    assert curves([[1.0, 3.0], [], [5.0]], 2) == ([1, 2], [3.5, 4.0], [3.5, 3.5], [3.5, 3.5])
