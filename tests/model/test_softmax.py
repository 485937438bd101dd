"""The compiled softmax and PyTorch's say the same, also where a row is strange."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater import hardware
from headwater.model.native import softmax

WAYS = ["compiled", "pytorch"] if hardware.has_compiler() else ["pytorch"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    if request.param == "pytorch":
        monkeypatch.setattr(softmax, "_takes", lambda logits: False)
    return request.param


def reference(logits, targets, divisor, max_z, z):
    """In float64, by autograd."""
    x = logits.double().requires_grad_()
    there = targets >= 0
    wanted = torch.where(there, x.gather(1, targets.clamp(min=0)[:, None])[:, 0], 0.0)
    loss = (x.logsumexp(-1) - wanted + z * x.logsumexp(-1) ** 2 + max_z * x.max(-1).values ** 2).sum() / divisor
    return x.logsumexp(-1), x.max(-1), wanted, torch.autograd.grad(loss, x)[0]


@given(st.integers(1, 40), st.integers(1, 300), st.sampled_from([torch.float32, torch.bfloat16]),
       st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.2]), st.integers(0, 999))
def check(rows, columns, dtype, max_z, z, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = (10 * torch.randn(rows, columns, generator=generator)).to(dtype)
    targets = torch.randint(-1, columns, (rows,), generator=generator)
    normalizer, (highest, at), wanted, slope = reference(logits, targets, 7.0, max_z, z)
    found = softmax.statistics(logits, targets)
    torch.testing.assert_close(found.normalizer.double(), normalizer.detach(), rtol=1e-6, atol=1e-6)
    assert torch.equal(found.highest.double(), highest)
    assert torch.equal(logits.gather(1, found.at[:, None])[:, 0].double(), highest)
    assert torch.equal(found.wanted.double(), wanted.detach())
    near = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 8e-3, "atol": 1e-5}
    if dtype == torch.float32:  # equal logits may share the highest place in bfloat16
        assert torch.equal(found.at, at)
    elif max_z and (logits == highest[:, None]).sum(-1).max() > 1:
        return
    own = softmax.gradient(logits.clone(), targets, found, divisor=7.0, max_z=max_z, z=z)
    assert own.dtype == dtype
    torch.testing.assert_close(own.double(), slope, **near)


def test_statistics_and_gradient_are_those_of_autograd(way):
    check()


def test_a_part_of_a_vocabulary_takes_the_normalizer_of_the_whole(way):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(9, 64, generator=generator), torch.tensor([0, 63, 31, 32, 5, -1, 40, 40, 7])
    whole = softmax.statistics(logits, targets)
    slope = reference(logits, targets, 3.0, 0.1, 0.1)[3]
    for begin in (0, 32):
        own = torch.where((targets >= begin) & (targets < begin + 32), targets - begin, -1)
        at = torch.where((whole.at >= begin) & (whole.at < begin + 32), whole.at - begin, -1)
        part = softmax.gradient(logits[:, begin:begin + 32].clone(), own, whole._replace(at=at), divisor=3.0, max_z=0.1,
                                z=0.1)
        torch.testing.assert_close(part.double(), slope[:, begin:begin + 32], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_is_not_hidden(way, bad):
    logits = torch.zeros(3, 40)
    logits[1, 17] = bad
    found = softmax.statistics(logits, torch.tensor([1, 2, 3]))
    assert not torch.isfinite(found.normalizer[1])
    assert torch.isfinite(found.normalizer[[0, 2]]).all()


def test_two_runs_give_the_same_bits(way):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(50, 999, generator=generator).bfloat16(), torch.arange(50)
    runs = []
    for _ in range(2):
        found = softmax.statistics(logits, targets)
        runs.append(softmax.gradient(logits.clone(), targets, found, divisor=50.0, max_z=0.0, z=0.0))
    assert torch.equal(*runs)
