"""The objective by hand. Breaks when a clip cuts on the wrong side, or a number meets another token than its own."""

import pytest
import torch

from headwater.align.critic import CRITIC, POLICY, Critic
from headwater.align.ppo import Numbers, Ppo, clipped_errors, clipped_surrogate
from headwater.align.ppo_settings import PpoMethod
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.adapters import LoraSettings, adapted, attach
from headwater.model.checkpoint import load_model, save_model
from headwater.model.task_head import TaskHead
from headwater.train.batches import IGNORE
from headwater.train.objective import Reference
from headwater.train.packing import PackedBatches, as_read

FAMILIES = ["baichuan2_13b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "llama2_gqa"]


def numbers(**given):
    size = len(next(iter(given.values())))
    return Numbers(*(torch.tensor(given.get(name, [0.0] * size)) for name in Numbers._fields))


def test_the_surrogate_stops_paying_where_a_step_has_gone_far_enough():
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], requires_grad=True)
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0])
    loss = clipped_surrogate(ratios, advantages, 0.2)
    # Gains are cut at 1.2 and losses at 0.8; what would make it worse is never cut.
    assert loss.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6, -2.2])
    loss.sum().backward()
    assert ratios.grad.tolist() == [0, 2, -2, 0, -2]


def test_the_critic_is_not_paid_for_going_far_either():
    known = numbers(values=[1.0, 1.0, 1.0], returns=[2.0, 2.0, 0.0], log_probabilities=[0.0] * 3)
    values = torch.tensor([1.1, 1.9, 1.9], requires_grad=True)
    errors = clipped_errors(values, known, 0.2)
    assert errors.tolist() == pytest.approx([0.9**2, 0.8**2, 1.9**2])
    errors.sum().backward()
    assert values.grad.tolist() == pytest.approx([-1.8, 0, 3.8])


def packed(config, count=6):
    draw = torch.Generator().manual_seed(1)
    marks = [config.prefix_ids[0], config.prefix_ids[-1]] if config.prefix_ids else []
    sequences = []
    for length in range(4, 4 + count):
        prompt = [*torch.randint(10, 60, (3,), generator=draw).tolist(), *marks]
        answer = torch.randint(10, 60, (length,), generator=draw).tolist()
        sequences.append(as_read((prompt + answer, [False] * len(prompt) + [True] * length), config))
    return PackedBatches(sequences, rows=3, length=32, seed=0, pad=0, axes=config.position_axes).batch(0)


def objective(model, **method):
    head = TaskHead("regression", model.config.hidden_size, ["value"]).draw(3)
    return Ppo(Critic(head, initialise(Decoder(model.config), 5)), Reference(initialise(Decoder(model.config), 6)),
               PpoMethod(**method))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_policy_and_itself_have_ratio_1_exactly_and_each_token_its_own_numbers(shared, family):
    model = load_model(shared / "vectors" / family, dtype=torch.float32)
    asked, batch = objective(model, temperature=0.7), packed(model.config)
    used = batch.targets != IGNORE
    found, places = asked.measured(model, batch), batch.places[used]
    asked.numbers = Numbers(*torch.zeros(4, int(batch.places.max()) + 1))
    asked.numbers.log_probabilities[places] = found.log_probabilities
    asked.numbers.values[places] = asked.numbers.returns[places] = found.values
    outcome = asked(model, batch, 1.0)
    assert float(outcome.sums["ratio"]) == used.sum()
    assert [float(outcome.sums[name]) for name in ("approx_kl", "clip_share", "value_loss")] == [0, 0, 0]
    with torch.no_grad():
        logits = model.head(model.hidden(batch.tokens, batch.intervals, batch.positions))[used].double() / 0.7
    wanted = logits.log_softmax(-1).gather(1, batch.targets[used][:, None])[:, 0]
    assert torch.allclose(found.log_probabilities.double(), wanted, atol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_before_anything_is_learned_policy_and_reference_say_the_same_exactly(small_model, method):
    model = load_model(small_model, dtype=torch.float32 if method == "full" else torch.bfloat16)
    if method == "lora":
        model = attach(model, LoraSettings(rank=2), 0, (POLICY, CRITIC))
        asked = Ppo(Critic.beside(model), Reference(None), PpoMethod())
    else:
        asked = Ppo(Critic.load(small_model), Reference(load_model(small_model, dtype=torch.float32)), PpoMethod())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = asked.measured(model, packed(model.config))
    assert torch.equal(found.log_probabilities, found.reference)
    assert not any(one.requires_grad for one in asked.reference.parameters())
    assert not found.reference.requires_grad


def test_a_critic_that_warms_up_leaves_the_policy_without_gradients():
    model = initialise(Decoder(ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                                           num_attention_heads=2)), 0)
    asked, batch = objective(model, entropy_bonus=0.1), packed(model.config)
    asked.numbers = Numbers(*torch.ones(4, int(batch.places.max()) + 1))
    for learns in (False, True):
        asked.policy_learns = learns
        asked(model, batch, 4.0).loss.backward()
        assert all((one.grad is not None) == learns for one in model.parameters())
        assert asked.critic.head.weight.grad is not None
        assert all(one.grad is None for one in asked.reference.parameters())


def test_an_entropy_bonus_makes_predictions_flatter():
    model = initialise(Decoder(ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                                           num_attention_heads=2, initializer_range=0.3)), 0)
    asked, batch = objective(model, entropy_bonus=1.0), packed(model.config)
    asked.numbers = Numbers(*torch.zeros(4, int(batch.places.max()) + 1))  # no advantage: the bonus alone
    optimizer, entropies = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(5):
        outcome = asked(model, batch, 50.0)
        outcome.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        entropies.append(float(outcome.sums["entropy"]))
    assert entropies == sorted(entropies)
    assert entropies[-1] > 1.05 * entropies[0]


def test_four_models_on_one_frozen_trunk(small_model):
    model = attach(load_model(small_model), LoraSettings(rank=2), 0, (POLICY, CRITIC))
    asked = Ppo(Critic.beside(model), Reference(None), PpoMethod())
    weights = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
               for module in (model, asked) for one in module.parameters()}
    plain = load_model(small_model)
    base = sum({one.untyped_storage().data_ptr(): one.nbytes for one in plain.parameters()}.values())
    beside = sum(one.nbytes for one in [*model.parameters(), *asked.parameters()] if one.requires_grad)
    frozen = sum({one.data_ptr(): one.nbytes for one in model.parameters() if not one.requires_grad}.values())
    assert frozen == base  # once, for policy, reference and critic
    assert beside == 4 * (2 * 2 * sum(len(part.a[0]) + len(part.b) for part in _parts(model, POLICY)) + 64)
    assert len(weights) < 2 * len(list(model.parameters()))

    batch = packed(model.config)
    with torch.no_grad():
        before = asked.measured(model, batch)
        for part in _parts(model, POLICY):
            part.b.normal_()
        moved = asked.measured(model, batch)
        for part in _parts(model, CRITIC):
            part.b.normal_()
        asked.critic.head.draw(0)
        again = asked.measured(model, batch)
    expected = Ppo(asked.critic, Reference(plain), PpoMethod()).measured(model, batch)
    assert torch.allclose(moved.reference, expected.reference, atol=1e-5)
    assert torch.equal(moved.reference, before.reference)  # the model as it was, whatever its adapters learned
    assert not torch.allclose(moved.log_probabilities, moved.reference)
    assert torch.equal(moved.log_probabilities, again.log_probabilities)  # the critic's adapter is not the policy's
    assert again.values.abs().max() > 0


def _parts(model, name):
    return [part for _, layer in adapted(model) for part in layer.adapters[name].parts()]


def test_a_critic_begins_as_a_reward_model_and_is_written_as_one(small_model, tmp_path):
    reward = TaskHead("regression", 64, ["reward"]).draw(0)
    reward.mean.fill_(0.5)
    reward.spread.fill_(2.0)
    save_model(load_model(small_model), tmp_path / "reward", tokenizer_from=small_model)
    reward.save(tmp_path / "reward", tmp_path / "reward", 64)
    critic, plain = Critic.load(tmp_path / "reward"), Critic.load(small_model)
    batch = packed(load_model(small_model).config)
    with torch.no_grad():
        hidden = critic.trunk.hidden(batch.tokens, batch.intervals, batch.positions)
        assert torch.allclose(critic(None, batch), hidden @ reward.weight[0] * 2 + 0.5, atol=1e-5)
        assert not plain(None, batch).any()
        critic.save(tmp_path / "critic", critic.trunk, small_model)
        assert torch.equal(Critic.load(tmp_path / "critic")(None, batch), critic(None, batch))
