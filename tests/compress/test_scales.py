"""The search for scales against the largest weight's, and against every share by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.compress.scales import SHARES, searched
from headwater.model.int4 import nearest, ranges


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moved(weight, scale, zero, group):
    steps = nearest(weight, scale, zero).unflatten(1, (-1, group)) - zero[..., None].float()
    return steps * scale.float()[..., None] - weight.unflatten(1, (-1, group))


@given(seed=st.integers(0, 99), group=st.sampled_from([32, 64, 128]), symmetric=st.booleans(),
       size=st.sampled_from([1e-3, 1.0, 1e3]))
def test_no_group_is_rounded_worse_than_by_its_largest_weight(seed, group, symmetric, size):
    weight = size * drawn(7, 2 * group, seed=seed) ** 3
    least = moved(weight, *searched(weight, group, symmetric=symmetric), group).square().sum(2)
    plain = moved(weight, *ranges(weight, group, symmetric=symmetric), group).square().sum(2)
    assert (least <= plain * (1 + 1e-5)).all()
    assert least.sum() < plain.sum()


def test_the_share_is_the_best_of_all(monkeypatch):
    monkeypatch.setattr("headwater.compress.scales.AT_ONCE", 128)  # two rows at a time
    weight = drawn(5, 64, seed=3)
    tried = torch.stack([moved(weight, *ranges(weight, 32, symmetric=False, share=share), 32).square().sum(2)
                         for share in SHARES])
    found = moved(weight, *searched(weight, 32, symmetric=False), 32).square().sum(2)
    torch.testing.assert_close(found, tried.amin(0))
    assert len(tried.argmin(0).unique()) > 1


def test_a_hessian_says_whose_error_counts():
    """Where one pair of columns alone is read, it is nearly exact."""
    weight, hessian = drawn(1, 32, seed=1), torch.zeros(32, 32)
    hessian[4:6, 4:6] = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
    off = {name: moved(weight, *searched(weight, 32, symmetric=False, hessian=own), 32)[0, 0, 4:6]
           for name, own in (("all", None), ("pair", hessian))}
    assert off["pair"] @ hessian[4:6, 4:6] @ off["pair"] < off["all"] @ hessian[4:6, 4:6] @ off["all"]


def test_weights_that_are_not_finite_are_not_hidden():
    weight = drawn(1, 64)
    weight[0, 40] = float("nan")
    scale, _ = searched(weight, 32, symmetric=False)
    assert scale[0].isnan().tolist() == [False, True]
