"""Breaks when a probability is counted in the wrong bin, or a scale is not the likeliest one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.calibration import (
    FEWEST,
    FLATTEST,
    calibrated,
    expected_calibration_error,
    fitted,
    pair_scale,
    reliability,
    safety_scale,
)


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


def rewarded(pairs):
    """Rewards that are twice as sure as they may be, chosen and rejected in turn, and the labels of safety."""
    draw = np.random.default_rng(1)
    rewards = draw.normal(size=2 * pairs)
    safe = draw.random(2 * pairs) < 1 / (1 + np.exp(-rewards))
    better = draw.random(pairs) < 1 / (1 + np.exp(rewards[1::2] - rewards[::2]))
    order = np.where(np.repeat(better, 2), np.arange(2 * pairs), np.arange(2 * pairs) ^ 1)
    return torch.from_numpy(2 * rewards[order]), torch.from_numpy(safe[order].astype(np.float64))


@pytest.mark.parametrize("absolute", [False, True])
def test_nothing_is_fitted_to_few_and_that_is_said(absolute):
    rewards, safe = rewarded(10)
    by = fitted(rewards, safe, absolute=absolute)
    assert (by.scale, by.shift, by.fitted) == (1, 0, False)
    found = calibrated(rewards, safe, by)
    assert found["error"] == found["error_before"]
    assert "Calibration: none" in found["told"]
    assert ("20 labels of safety" if absolute else "10 pairs") in found["told"]


def test_one_kind_of_labels_is_too_few_however_many_there_are():
    rewards, safe = rewarded(FEWEST)
    assert not fitted(rewards, torch.ones_like(safe), absolute=True).fitted
    assert fitted(rewards[: 2 * FEWEST], torch.full_like(safe, torch.nan), absolute=False).fitted
    assert not fitted(rewards[2:], safe[2:], absolute=False).fitted
    calibrated(rewards, torch.ones_like(safe), fitted(rewards, torch.ones_like(safe), absolute=True))


@pytest.mark.parametrize("absolute", [False, True])
def test_what_is_told_is_what_was_made_least(absolute):
    rewards, safe = rewarded(200)
    by = fitted(rewards, safe, absolute=absolute)
    found = calibrated(rewards, safe, by)
    assert found["log_loss"] < found["log_loss_before"]
    for moved in (by._replace(scale=by.scale * 1.1), by._replace(scale=by.scale / 1.1)):
        assert calibrated(rewards, safe, moved)["log_loss"] > found["log_loss"]
    for words in (f"rewards times {by.scale:.3g}",
                  f"({found['log_loss_before']:.3f} before, {found['log_loss']:.3f} with"):
        assert words in found["told"]
    assert (f" {'plus' if by.shift > 0 else 'minus'} {abs(by.shift):.3g}," in found["told"]) == absolute
    assert ("to which nothing was fitted" in found["told"]) == absolute


def test_certainty_that_fifty_pairs_cannot_give_costs_log_loss():
    rewards = torch.tensor([20.0, 0.0] * FEWEST)
    unlabelled = torch.full_like(rewards, torch.nan)
    found = calibrated(rewards, unlabelled, fitted(rewards, unlabelled, absolute=False))
    # All right: the error was 0 and rises, what is made least falls.
    assert found["error"] > found["error_before"]
    assert found["log_loss"] < found["log_loss_before"]
