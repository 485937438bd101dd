"""Breaks when planted constants are not found again, or an interval does not hold what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.studies.power_law import LEVEL, fit, student

COMPUTE = np.geomspace(1e11, 1e13, 6)


@settings(max_examples=15, deadline=None)
@given(b=st.floats(-0.6, -0.05), floor=st.floats(0.5, 3), drop=st.floats(0.5, 4))
def test_planted_constants_are_recovered(b, floor, drop):
    a = drop / 1e11**b
    law = fit(COMPUTE.tolist(), (a * COMPUTE**b + floor).tolist())
    assert law.b == pytest.approx(b, rel=1e-2)
    assert law.scale == pytest.approx(a, rel=0.3)
    assert law.floor == pytest.approx(floor, abs=0.02)
    assert law.predict(1e14).loss == pytest.approx(a * 1e14**b + floor, rel=1e-3)


def test_constants_planted_under_noise_are_found_nearly():
    compute = np.repeat(np.geomspace(1e10, 1e15, 12), 3)
    planted = 400 * compute**-0.2 + 1.7
    law = fit(compute.tolist(), (planted + np.random.default_rng(0).normal(0, 0.005, len(planted))).tolist())
    assert law.b == pytest.approx(-0.2, abs=0.01)
    assert law.floor == pytest.approx(1.7, abs=0.02)


def test_the_interval_holds_as_many_new_models_as_it_says():
    draw, inside = np.random.default_rng(0), 0
    compute, larger = np.repeat(COMPUTE, 2), 5e13
    for _ in range(60):
        law = fit(compute.tolist(), (30 * compute**-0.1 + 1.5 + draw.normal(0, 0.01, 12)).tolist())
        told = law.predict(larger)
        inside += told.low <= 30 * larger**-0.1 + 1.5 + draw.normal(0, 0.01) <= told.high
    assert inside / 60 == pytest.approx(LEVEL, abs=0.08)


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (7, 2.365), (30, 2.042)])
def test_students_quantile(degrees, quantile):
    assert student(degrees) == pytest.approx(quantile, rel=0.015)


def test_losses_that_do_not_fall_or_are_too_few_are_refused():
    with pytest.raises(InputError, match="do not fall"):
        fit([1e10, 1e11, 1e12, 1e13], [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(InputError, match="do not determine"):
        fit([1e10, 1e11, 1e12], [3.0, 2.0, 1.0])
