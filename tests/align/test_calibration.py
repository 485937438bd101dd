"""Breaks when a probability is counted in the wrong bin, or a scale is not the likeliest one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.calibration import FLATTEST, expected_calibration_error, pair_scale, reliability, safety_scale


def logit(share):
    return math.log(share / (1 - share))


def test_bins_and_their_error_by_hand():
    # Preferred with .55 (right, wrong), .75 (right), .95 (right, right, right, wrong): bins of a tenth.
    given = torch.tensor([logit(0.55), -logit(0.55), logit(0.75), *[logit(0.95)] * 3, -logit(0.95)])
    bins = reliability(given)
    assert [(round(one.probability, 4), one.accuracy, one.pairs) for one in bins] == [
        (0.55, 0.5, 2), (0.75, 1.0, 1), (0.95, 0.75, 4)]
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.05 + 0.25 + 4 * 0.2) / 7, abs=1e-5)


def test_equal_rewards_are_half_right_and_no_surer_than_a_toss():
    assert reliability(torch.zeros(3)) == [(0.5, 0.5, 3)]


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=40))
def test_every_pair_is_in_one_bin(differences):
    bins = reliability(torch.tensor(differences))
    assert sum(one.pairs for one in bins) == len(differences)
    assert all(0.5 <= one.probability <= 1 for one in bins)
    assert 0 <= expected_calibration_error(bins) <= 1


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_a_planted_scale_is_found_again(scale):
    draw = np.random.default_rng(0)
    differences = draw.normal(size=20_000) * 2
    outcome = draw.random(20_000) < 1 / (1 + np.exp(-scale * differences))
    told = torch.from_numpy(np.where(outcome, differences, -differences))
    assert pair_scale(told) == pytest.approx(scale, rel=0.06)
    assert expected_calibration_error(reliability(told * pair_scale(told))) < 0.01


def test_scales_are_finite_where_all_is_right_and_above_nothing_where_all_is_wrong():
    assert 1 < pair_scale(torch.ones(50)) < 10
    assert pair_scale(-torch.ones(50)) == FLATTEST
    scale, shift = safety_scale(torch.tensor([1.0, 2.0, -1.0, -2.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert 0.5 < scale < 10
    assert abs(shift) < 1e-6
    scale, shift = safety_scale(torch.tensor([1.0, 2.0, -1.0, -2.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert (scale, shift) == (FLATTEST, pytest.approx(0))


def test_platts_scaling_finds_a_planted_threshold():
    draw = np.random.default_rng(0)
    rewards = draw.normal(size=20_000) * 2
    safe = draw.random(20_000) < 1 / (1 + np.exp(-(1.5 * rewards + 0.7)))
    scale, shift = safety_scale(torch.from_numpy(rewards), torch.from_numpy(safe.astype(np.float64)))
    assert scale == pytest.approx(1.5, rel=0.06)
    assert shift == pytest.approx(0.7, rel=0.1)
