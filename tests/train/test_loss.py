"""The chunked loss against the plain one in float64."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.heads import ROWS
from headwater.train import loss as module
from headwater.train.loss import IGNORE, Penalties, log_probabilities, projected_cross_entropy


def plain(hidden, weight, targets, divisor, penalties):
    """The formulas as the papers write them, over all logits."""
    logits = hidden @ weight.t()
    used = targets != IGNORE
    lse, highest = logits.logsumexp(-1)[used], logits.max(-1).values[used]
    entropy = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    loss = entropy + penalties.z * lse.square().sum() + penalties.max_z * highest.square().sum()
    return loss / divisor, entropy, highest.sum()


def drawn(positions, width, vocabulary, asked, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator)
    targets = torch.randint(vocabulary, (positions,), generator=generator)
    targets[torch.rand(positions, generator=generator) > asked] = IGNORE
    return hidden, weight, targets


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 70), st.sampled_from([0.0, 0.1, 0.7, 1.0]),
       st.sampled_from([0.0, 2e-4, 0.3]), st.sampled_from([0.0, 1e-4, 0.2]), st.integers(0, 99))
def test_loss_and_gradients_are_those_of_all_logits(positions, width, vocabulary, asked, max_z, z, seed):
    hidden, weight, targets = drawn(positions, width, vocabulary, asked, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.LOGITS_AT_ONCE, "cpu", 4 * vocabulary * 70)  # several chunks, the last one short
        patch.setattr(module, "FEWEST_ROWS", 1)
        ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        found = projected_cross_entropy(*ours, targets, 17.0, Penalties(max_z, z))
        (3 * found.loss).backward()
    theirs = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    wanted = plain(*theirs, targets, 17.0, Penalties(max_z, z))
    (3 * wanted[0]).backward()
    torch.testing.assert_close([one.double() for one in found], list(wanted), rtol=2e-6, atol=2e-5)
    for own, other in zip(ours, theirs):
        torch.testing.assert_close(own.grad.double(), other.grad, rtol=1e-5, atol=1e-5)


def test_max_z_pulls_at_the_largest_logit_alone():
    hidden, _, targets = drawn(5, 4, 9, 1.0, 0)
    hidden.requires_grad_()
    found = projected_cross_entropy(hidden, torch.eye(4), targets % 4, 1.0, Penalties(max_z=0.5))
    bare = projected_cross_entropy(hidden, torch.eye(4), targets % 4, 1.0, Penalties())
    pulled = torch.autograd.grad(found.loss - bare.loss, hidden)[0]
    highest = hidden.max(-1, keepdim=True)
    torch.testing.assert_close(pulled, torch.zeros(5, 4).scatter(1, highest.indices, highest.values.detach()))


def test_an_unlikely_target_costs_no_infinity():
    hidden = torch.tensor([[200.0, -200.0]])
    found = projected_cross_entropy(hidden, torch.eye(2), torch.tensor([1]), 1.0, Penalties())
    assert float(found.loss) == 400.0


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation gives."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        found = function(*arguments, **(keywords or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.numel() * one.element_size())
        return found


def test_the_logits_of_a_batch_are_never_held():
    """At Baichuan 2's vocabulary the float32 logits of 2,048 positions would take 1,030 MB."""
    hidden, weight, targets = drawn(2048, 8, 125_696, 1.0, 0)
    hidden.requires_grad_()
    with Largest() as seen:
        projected_cross_entropy(hidden, weight, targets, 1.0, Penalties(2e-4, 1e-4)).loss.backward()
    assert seen.bytes <= 4 * 125_696 * max(module.FEWEST_ROWS, 8) * 1.01


def test_bfloat16_hidden_states_give_gradients_of_their_precision():
    hidden, weight, targets = drawn(400, 32, 500, 0.5, 1)
    half, master = hidden.bfloat16().requires_grad_(), weight.clone().requires_grad_()
    found = projected_cross_entropy(half, master, targets, 200.0, Penalties(1e-3))
    found.loss.backward()
    exact = [half.detach().double().requires_grad_(), weight.bfloat16().double().requires_grad_()]
    wanted = plain(*exact, targets, 200.0, Penalties(1e-3))[0]
    wanted.backward()
    assert half.grad.dtype == torch.bfloat16
    assert master.grad.dtype == torch.float32
    assert found.loss.item() == pytest.approx(wanted.item(), rel=5e-3)
    for own, other in ((half, exact[0]), (master, exact[1])):
        error = (own.grad.double() - other.grad).norm() / other.grad.norm()
        assert error < 0.02


def test_the_normalised_head_learns_through_its_lengths():
    config = ModelConfig(vocab_size=ROWS + 80, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, head="normalized")
    head = initialise(Decoder(config), 0).head
    head.weight.data[7] = 0  # its length is held at the least there is
    hidden, _, targets = drawn(40, 16, config.vocab_size, 0.8, 2)
    found = projected_cross_entropy(hidden, head.matrix(head.weight), targets, 1.0, Penalties()).loss
    wanted = F.cross_entropy(head(hidden), targets, ignore_index=IGNORE, reduction="sum")
    gradients = [torch.autograd.grad(one, head.weight)[0] for one in (found, wanted)]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)  # a row of zeros has gradients of 1e8


def test_any_number_of_targets_takes_no_memory_of_its_own():
    script = """
import torch
from headwater import hardware
from headwater.train.loss import IGNORE, Penalties, log_probabilities, projected_cross_entropy
hidden = torch.randn(1024, 128).bfloat16().requires_grad_()
weight = torch.randn(1024, 128).requires_grad_()
for skipped in range(0, 1000, 5):
    if skipped == 500:
        before = hardware.memory_bytes()
    targets = torch.randint(1024, (1024,))
    targets[:skipped] = IGNORE
    projected_cross_entropy(hidden, weight, targets, 1.0, Penalties()).loss.backward()
print(hardware.memory_bytes() - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert grown < 40 << 20


@settings(max_examples=30)
@given(st.integers(1, 150), st.integers(1, 9), st.integers(2, 70), st.floats(0.3, 3), st.integers(0, 99))
def test_log_probabilities_and_entropies_are_those_of_all_logits(positions, width, vocabulary, temperature, seed):
    hidden, weight, targets = drawn(positions, width, vocabulary, 1.0, seed)
    ours, theirs = ([one.clone().to(dtype).requires_grad_() for one in (hidden, weight)]
                    for dtype in (torch.float32, torch.float64))
    found = log_probabilities(*ours, targets, temperature)
    every = (theirs[0] @ theirs[1].t() / temperature).log_softmax(-1)
    wanted = every.gather(1, targets[:, None])[:, 0], -(every.exp() * every).sum(-1)
    for own, other in zip(found, wanted):
        assert torch.allclose(own.double(), other, atol=1e-4)
    slopes = torch.arange(positions) % 3 - 1.0
    (slopes * found[0] + found[1]).sum().backward()
    (slopes * wanted[0] + wanted[1]).sum().backward()
    for own, other in zip(ours, theirs):
        assert torch.allclose(own.grad.double(), other.grad, atol=1e-3)


def test_log_probabilities_never_hold_all_logits(monkeypatch):
    monkeypatch.setitem(module.LOGITS_AT_ONCE, "cpu", 4 * 1000 * 64)  # fewer rows of 1,000 pieces than are taken
    hidden, weight = torch.randn(640, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for one in out if isinstance(out, tuple) else (out,):
                largest = max(largest, one.numel() if isinstance(one, torch.Tensor) else 0)
            return out

    with Watch():
        found = log_probabilities(hidden, weight, torch.zeros(640, dtype=torch.int64))
        (found[0].sum() + found[1].sum()).backward()
    assert largest == module.FEWEST_ROWS * 1000
