"""Optimizers and schedules against torch's own and by hand."""

import itertools
import math

import pytest
import torch

from headwater.errors import SettingsError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.train.optimizer import Optimizer, OptimizerSettings, learning_rate, shrink_gradient
from headwater.train.parts import working_copy

CONFIG = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2)


def test_the_schedule_warms_up_and_decays_to_its_last_rate():
    settings = OptimizerSettings(learning_rate=1.0, final_ratio=0.1, warmup_steps=10)
    rates = [learning_rate(settings, step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 50 / 99)))
    assert all(later <= former for former, later in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_only_matrices_are_decayed(name):
    """With a gradient of zeros the decay alone changes a weight."""
    model = initialise(Decoder(CONFIG.model_copy(update={"attention_bias": True})), 0)
    torch.nn.init.ones_(model.blocks[0].attention.qkv.bias)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    Optimizer(model, OptimizerSettings(name=name, weight_decay=0.3)).step(0.5)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key] * (1 - 0.5 * 0.3 if value.dim() >= 2 else 1.0))


def test_a_stable_rate_falls_at_the_end_alone():
    settings = OptimizerSettings(learning_rate=1.0, final_ratio=0.0, warmup_steps=10, schedule="wsd", decay_share=0.25)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[10:75] == [1.0] * 65
    assert rates[75:] == pytest.approx([1 - (step + 1) / 25 for step in range(25)])


def test_a_constant_rate_stays():
    settings = OptimizerSettings(learning_rate=0.5, warmup_steps=2, schedule="constant")
    assert [learning_rate(settings, step, 9) for step in range(9)] == [0.25, *[0.5] * 8]


@pytest.mark.parametrize(("given", "words"), [
    ({"decay_share": 0.1}, "no effect with schedule cosine"), ({"momentum": 0.9}, "no effect with adamw"),
    ({"schedule": "constant", "final_ratio": 0.2}, "no effect with schedule constant")])
def test_a_setting_without_effect_is_refused(given, words):
    with pytest.raises(SettingsError, match=words):
        OptimizerSettings.parse(given)


def test_muon_updates_the_blocks_matrices_as_torch_does():
    """Queries, keys and values each by themselves; everything else by AdamW at the same rate."""
    model = working_copy(initialise(Decoder(CONFIG), 0))
    generator = torch.Generator().manual_seed(1)
    copies = {name: one.detach().clone().requires_grad_() for name, one in model.named_parameters()}
    matrices = [one for name, one in copies.items() if name.startswith("blocks.") and one.dim() == 2]
    others = [one for name, one in copies.items() if not (name.startswith("blocks.") and one.dim() == 2)]
    peers = [torch.optim.Muon(matrices, lr=0.01, adjust_lr_fn="match_rms_adamw", weight_decay=0.0),
             torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)]
    ours = Optimizer(model, OptimizerSettings(name="muon", weight_decay=0.0))
    assert sum("momentum_buffer" in name for name in ours.momenta) == len(matrices) == 2 * 7
    for _ in range(3):
        for name, one in model.named_parameters():
            one.grad = torch.randn(one.shape, generator=generator)
            copies[name].grad = one.grad.clone()
        ours.step(0.01)
        for peer in peers:
            peer.step()
    for name, one in model.named_parameters():
        torch.testing.assert_close(one, copies[name], rtol=1e-6, atol=1e-7)


def test_the_shrunk_embedding_gradient_is_exactly_a_tenth_and_the_forward_pass_the_same():
    table = torch.nn.Embedding(10, 4)
    ids = torch.tensor([1, 3, 3])
    whole = torch.autograd.grad(table(ids).square().sum(), table.weight)[0]
    shrunk = shrink_gradient(table(ids), 0.1)
    assert torch.equal(shrunk, table(ids))
    assert torch.equal(torch.autograd.grad(shrunk.square().sum(), table.weight)[0], whole * 0.1)


def test_what_has_no_gradient_stays_and_counts_no_step_also_when_it_goes_on():
    def begun():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
        return model, Optimizer(model, OptimizerSettings())

    def step(model, optimizer, number):
        used = model[1:] if number < 3 else model  # the first layer warms up later
        used(torch.full((2, 4), 1.0 + number)).square().sum().backward()
        optimizer.step(1e-2)

    whole, optimizer = begun()
    first = whole[0].weight.clone()
    for number in range(3):
        step(whole, optimizer, number)
    assert torch.equal(whole[0].weight, first)  # not decayed either
    kept = {name: one.clone() for name, one in (*whole.state_dict().items(), *optimizer.momenta.items())}
    behind = dict(optimizer.behind)
    assert behind == {"0.weight": 3}
    gone_on, again = begun()
    for name, one in (*gone_on.state_dict().items(), *again.momenta.items()):
        one.copy_(kept[name])
    again.restore(3, behind)
    for number in range(3, 6):
        step(whole, optimizer, number)
        step(gone_on, again, number)
    for ours, theirs in zip(gone_on.parameters(), whole.parameters()):
        assert torch.equal(ours, theirs)
