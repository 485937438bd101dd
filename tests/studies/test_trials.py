"""Breaks when a verdict is read off noise, work is done twice, or results of other settings are taken for these."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.settings import Settings
from headwater.studies.trials import Estimate, fact, interleaved, judge, keep, once, ratio


class Chosen(Settings):
    steps: int = 3


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_an_estimate_is_the_mean_and_its_standard_error(values):
    found = Estimate.of(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.error == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-9)
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_the_difference_of_two_estimates_has_both_their_errors():
    assert Estimate(5.0, 3.0, 4).minus(Estimate(1.0, 4.0, 6)) == (4.0, 5.0, 4)


@pytest.mark.parametrize(("margins", "word"), [
    ([0.5, 0.6, 0.55], "shown"), ([-0.5, -0.6, -0.55], "refuted"), ([0.5, -0.6, 0.2], "neither shown nor refuted"),
    ([0.1, 0.0, 0.0], "neither shown nor refuted"), ([9.0], "not tested: one model tells no chance")])
def test_a_claim_is_judged_by_two_standard_errors_of_its_margins(margins, word):
    assert judge("a < b", margins).word == word


def test_a_claim_without_chance_holds_or_not():
    assert fact("the cache is smaller", 0.0).word == "shown"
    assert fact("the cache is smaller", -1e-9).word == "refuted"


def test_noise_alone_is_rarely_a_result():
    draw = np.random.default_rng(0)
    words = [judge("x > 0", draw.normal(size=8)).word for _ in range(400)]
    assert sum(word == "neither shown nor refuted" for word in words) > 0.88 * 400


def test_what_is_done_is_not_done_again(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"loss": 1.5}

    assert once(tmp_path / "a.json", make) == once(tmp_path / "a.json", make) == {"loss": 1.5}
    assert len(calls) == 1


def test_results_of_other_settings_are_refused(tmp_path):
    keep(tmp_path / "study", Chosen())
    keep(tmp_path / "study", Chosen())
    with pytest.raises(InputError, match="another study, of other steps"):
        keep(tmp_path / "study", Chosen(steps=4))


def test_tasks_take_turns_and_none_is_always_first():
    order = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, repeats=1)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    rounds = ["".join(order[start:start + 2]) for start in range(0, len(order), 2)]
    assert set(rounds) == {"ab", "ba"}


def test_one_enormous_round_does_not_move_a_ratio():
    draw = np.random.default_rng(0)
    own, other = (2 + draw.normal(0, 0.05, 30)).tolist(), (1 + draw.normal(0, 0.02, 30)).tolist()
    own[7] = 90.0
    found = ratio(own, other)
    assert found.mean == pytest.approx(2, abs=0.05)
    assert 0 < 2 * found.error < 0.1
