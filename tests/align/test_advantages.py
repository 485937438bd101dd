"""Numbers worked out by hand. Breaks when a reward or a delta falls on another token, or what is padding counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.advantages import explained_variance, generalised_advantages, token_rewards

REAL = torch.tensor([[True, True, True], [True, False, False]])


def test_every_token_pays_for_its_distance_and_the_last_one_has_the_score():
    ratios = torch.tensor([[0.5, -1.0, 2.0], [1.0, 7.0, 7.0]])
    found = token_rewards(torch.tensor([3.0, -1.0]), ratios, REAL, beta=0.1)
    assert found.tolist() == [pytest.approx([-0.05, 0.1, 3 - 0.2]), pytest.approx([-1 - 0.1, 0, 0])]


def test_advantages_of_three_tokens_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 2.0], [4.0, 9.0, 9.0]])
    values = torch.tensor([[0.5, 1.0, -1.0], [1.0, 9.0, 9.0]])
    found = generalised_advantages(rewards, values, REAL, gamma=0.9, lam=0.5)
    last = 2.0 - -1.0  # delta of the last token: nothing is expected behind it
    middle = (0.0 + 0.9 * -1.0 - 1.0) + 0.45 * last
    first = (1.0 + 0.9 * 1.0 - 0.5) + 0.45 * middle
    assert found.tolist() == [pytest.approx([first, middle, last]), pytest.approx([3.0, 0, 0])]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.1, 1))
def test_with_lambda_1_the_advantage_is_the_whole_return_less_what_was_expected(rewards, gamma):
    values = torch.linspace(-1, 1, len(rewards))[None]
    real = torch.ones(1, len(rewards), dtype=torch.bool)
    found = generalised_advantages(torch.tensor([rewards]), values, real, gamma, 1.0)[0]
    for place in range(len(rewards)):
        whole = sum(gamma**later * reward for later, reward in enumerate(rewards[place:]))
        assert float(found[place]) == pytest.approx(whole - float(values[0, place]), abs=1e-4)


def test_with_lambda_0_it_is_one_step_alone():
    values, rewards = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 0.0, 1.0]])
    found = generalised_advantages(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.5, 0.0)
    assert found[0].tolist() == pytest.approx([0.5 + 1 - 1, 0 + 2 - 2, 1 - 4])


def test_what_a_critic_explains():
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.zeros(3), returns) == 0
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(3)) == 0
