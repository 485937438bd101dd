"""Breaks when a loss is not the paper's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.preference_forms import RATINGS
from headwater.align.preferences import Preference
from headwater.align.ranking import MARGINS, margins, ranking_loss, safety, safety_loss


def rated(rating=None, chosen_safe=None, rejected_safe=None):
    return Preference([], [], rating, chosen_safe, rejected_safe)


@pytest.mark.parametrize(("name", "values"), [("none", (0, 0, 0, 0)), ("small", (1, 2 / 3, 1 / 3, 0)),
                                              ("large", (3, 2, 1, 0))])
def test_margins_are_llama_2s(name, values):
    pairs = [*map(rated, RATINGS), rated()]
    assert margins(pairs, name).tolist() == pytest.approx([*values, 0])
    assert list(MARGINS[name]) == list(RATINGS)


def test_the_ranking_loss_by_hand():
    # r_c - r_r = 1: log(1 + e^-1) = 0.313262; less a margin of 1: log 2; of 3: log(1 + e^2) = 2.126928.
    found = ranking_loss(torch.tensor([1.5, 1.5, 1.5, 0.0]), torch.tensor([0.5, 0.5, 0.5, 2.0]),
                         torch.tensor([0.0, 1.0, 3.0, 2 / 3]))
    assert found.tolist() == pytest.approx([0.313262, math.log(2), 2.126928, math.log(1 + math.exp(8 / 3))], abs=1e-5)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-5, 5), st.floats(0, 3))
def test_only_the_difference_counts_and_the_two_orders_add_up(chosen, rejected, shift, margin):
    def loss(one, other, by):
        return float(ranking_loss(*(torch.tensor([value], dtype=torch.float64) for value in (one, other, by))))

    assert loss(chosen + shift, rejected + shift, margin) == pytest.approx(loss(chosen, rejected, margin), abs=1e-9)
    # -log s(d) + log s(-d) = -d: what one order loses the other gains.
    assert loss(chosen, rejected, 0) - loss(rejected, chosen, 0) == pytest.approx(rejected - chosen, abs=1e-9)
    assert loss(chosen, rejected, margin) >= loss(chosen, rejected, 0)


def test_gradients_of_a_pair_add_up_to_nothing():
    chosen, rejected = (torch.randn(7, generator=torch.Generator().manual_seed(seed)).requires_grad_()
                        for seed in (0, 1))
    ranking_loss(chosen, rejected, torch.full((7,), 2 / 3)).sum().backward()
    assert torch.allclose(chosen.grad + rejected.grad, torch.zeros(7), atol=1e-6)
    assert (chosen.grad < 0).all()


def test_the_safety_loss_by_hand():
    pairs = [rated(None, True, False), rated(None, None, False), rated()]
    safe = safety(pairs)
    assert safe.nan_to_num(nan=9).tolist() == [1, 0, 9, 0, 9, 9]
    # Safe at 2: log(1 + e^-2) = 0.126928; unsafe at 2: 2.126928; unsafe at -1: 0.313262.
    found = safety_loss(torch.tensor([2.0, 2.0, 5.0, -1.0, 5.0, 5.0]), safe)
    assert found.tolist() == pytest.approx([0.126928, 2.126928, 0, 0.313262, 0, 0], abs=1e-5)
