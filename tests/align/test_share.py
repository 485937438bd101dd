from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from headwater.align.share import Share


@given(st.integers(1, 500).flatmap(lambda number: st.tuples(st.integers(0, number), st.just(number))))
def test_the_interval_is_scipys_of_wilson(counts):
    hits, number = counts
    theirs = binomtest(hits, number).proportion_ci(method="wilson")
    assert Share(hits, number).interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_by_hand():
    # 3 of 10: (.3 + 1.9208/10 +- 1.96 sqrt(.021 + .009604)) / (1 + 3.8415/10)
    low, high = Share.of([True] * 3 + [False] * 7).interval
    assert (low, high) == pytest.approx((0.1078, 0.6032), abs=1e-4)


def test_of_nothing_nothing_is_known():
    none = Share.of([])
    assert math.isnan(none.rate)
    assert none.interval == (0.0, 1.0)
    assert none.words() == ""
