"""Breaks when the loss is not the paper's, or is taken on anything but the answers of a pair."""

import math

import pytest
import torch
from torch.nn import functional as F

from headwater.align.dpo import DirectPreference, dpo_loss, spoken
from headwater.align.dpo_stage import Likelihoods, answer_tokens
from headwater.align.pairs import ReadPair, packed, read_pairs
from headwater.align.preferences import Preference
from headwater.model.checkpoint import load_model
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE
from headwater.train.settings import TrainerSettings

FAMILIES = ["baichuan2_13b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b", "llama2_gqa"]


def said(*texts):
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]

likelihoods = Likelihoods(TrainerSettings(steps=1, rows=1, precision="float32"))

PAIRS = [Preference(said("How long?", "482 km."), said("How long?", "I hate you, go away.")),
         Preference(said("多长?", "482公里。", "And the lake?", "120 m."),
                    said("多长?", "482公里。", "And the lake?", "No.")),
         Preference(said("Who?", "Mount Taro."), said("Who?", "x"))]


@pytest.fixture(scope="module")
def read(trained):
    return read_pairs(PAIRS, trained, longest=64, together=96)


def rows_of(read, model, tokenizer, rows=2):
    return packed(read, tokenizer, model.config, rows=rows, length=96, seed=0)


def by_hand(model, pair, tokenizer):
    """Log-probability and number of the answer's tokens, from all logits of the dialogue alone."""
    prompt = tokenizer.chat.render(pair.preference.chosen[:-1], add_generation_prompt=True).ids
    found = []
    for ids in (pair.chosen, pair.rejected):
        assert ids[: len(prompt)] == prompt
        every = model(torch.tensor([ids]))[0, :-1].float().log_softmax(-1)
        found.append(every.gather(1, torch.tensor(ids[1:])[:, None])[len(prompt) - 1 :, 0])
    return found


def test_losses_by_hand():
    margins = torch.tensor([0.0, 2.0, -2.0])
    assert dpo_loss(margins).tolist() == pytest.approx([math.log(2), 0.126928, 2.126928], abs=1e-6)
    assert dpo_loss(margins, 0.1).tolist() == pytest.approx(
        [math.log(2), 0.9 * 0.126928 + 0.1 * 2.126928, 0.9 * 2.126928 + 0.1 * 0.126928], abs=1e-6)


def test_conservative_pairs_are_surest_at_the_odds_of_their_labels():
    margin = torch.tensor([math.log(0.9 / 0.1)], requires_grad=True)
    dpo_loss(margin, 0.1).sum().backward()
    assert margin.grad.abs().max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_of_every_family_are_as_likely_in_whatever_row(shared, trained, family):
    model = load_model(shared / "vectors" / family, dtype=torch.float32)
    marks = [model.config.prefix_ids[0], model.config.prefix_ids[-1]] if model.config.prefix_ids else []
    draw = torch.Generator().manual_seed(0)
    dialogues = [([*torch.randint(20, 60, (5,), generator=draw).tolist(), *marks],
                  torch.randint(20, 60, (length,), generator=draw).tolist()) for length in (9, 3, 17, 4)]

    def likely(order):
        asked = [dialogues[number] for number in order]
        pairs = [ReadPair(PAIRS[0], *(prompt + said for prompt, said in asked[start : start + 2]))
                 for start in range(0, len(asked), 2)]
        answers = torch.tensor([own for prompt, said in asked for own in [False] * len(prompt) + [True] * len(said)])
        return likelihoods(model, rows_of(pairs, model, trained), answers).tolist()

    together = likely([0, 1, 2, 3])
    assert likely([1, 0]) == pytest.approx([together[1], together[0]], abs=1e-3)
    assert likely([3, 2]) == pytest.approx([together[3], together[2]], abs=1e-3)


def test_answers_are_as_likely_as_alone(small_model, trained, read):
    model = load_model(small_model, dtype=torch.float32)
    found = likelihoods(model, rows_of(read, model, trained), answer_tokens(read, trained))
    with torch.no_grad():
        alone = [float(each.sum()) for pair in read for each in by_hand(model, pair, trained)]
    assert found.tolist() == pytest.approx(alone, abs=1e-3)


def test_loss_and_gradients_are_those_of_the_formula(small_model, trained, read):
    model, beta, smoothing, sft = load_model(small_model, dtype=torch.float32), 0.3, 0.05, 0.2
    reference = torch.tensor([-30.0, -80.0, -30.0, -20.0, -60.0, -20.0])
    objective = DirectPreference(answer_tokens(read, trained), reference, beta, smoothing, sft)
    batches = rows_of(read, model, trained, rows=3)
    assert batches.batches_per_epoch == 1
    batch = batches.batch(0)
    divisor = int((batch.targets != IGNORE).sum())
    assert divisor == 6
    found = objective(model, batch, divisor)
    found.loss.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    losses, margins = [], []
    for place, pair in enumerate(read):
        chosen, rejected = by_hand(model, pair, trained)
        margin = beta * ((chosen.sum() - reference[2 * place]) - (rejected.sum() - reference[2 * place + 1]))
        losses.append(-(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)
                      - sft * chosen.mean())
        margins.append(float(margin.detach()))
    torch.stack(losses).mean().backward()
    assert float(found.loss.detach()) == pytest.approx(float(torch.stack(losses).mean().detach()), abs=1e-4)
    assert float(found.sums["margin"]) / divisor == pytest.approx(sum(margins) / 3, abs=1e-4)
    assert float(found.sums["accuracy"]) / divisor == pytest.approx(sum(one > 0 for one in margins) / 3)
    for name, one in model.named_parameters():
        assert torch.allclose(gradients[name], one.grad, atol=2e-5), name


def test_rows_of_a_batch_add_up_to_it(small_model, trained, read):
    model = load_model(small_model, dtype=torch.float32)
    objective = DirectPreference(answer_tokens(read, trained), torch.zeros(6) - 30, 0.1)
    batch = rows_of(read, model, trained, rows=3).batch(0)
    parts = [objective(model, part, 6) for part in batch.split(1) if (part.targets != IGNORE).any()]
    whole = objective(model, batch, 6)
    assert len(parts) > 1
    assert float(sum(part.loss for part in parts).detach()) == pytest.approx(float(whole.loss.detach()), abs=1e-5)
    for name, total in whole.sums.items():
        assert float(sum(part.sums[name] for part in parts)) == pytest.approx(float(total), abs=1e-3)


def test_a_model_at_its_reference_is_at_log_two_and_its_gradient_parts_the_answers(small_model, trained, read):
    model = load_model(small_model, dtype=torch.float32)
    batches, answers = rows_of(read, model, trained, rows=3), answer_tokens(read, trained)
    objective = DirectPreference(answers, likelihoods(model, batches, answers), 0.1)
    before = objective(model, batches.batch(0), 6)
    assert float(before.loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    before.loss.backward()
    with torch.no_grad():
        for one in model.parameters():
            one -= 0.05 * one.grad
        after = objective(model, batches.batch(0), 6)
    assert after.loss < before.loss
    assert float(after.sums["accuracy"]) == 6


def test_only_the_last_answers_tokens_are_counted(trained, read, small_model):
    tokenizer, answers = Tokenizer.load(small_model), answer_tokens(read, trained)
    ids = [token for pair in read for one in (pair.chosen, pair.rejected) for token in one]
    spoken_ids = [token for token, own in zip(ids, answers.tolist()) if own]
    assert tokenizer.spell(spoken_ids) == ("482 km.<|end|>I hate you, go away.<|end|>120 m.<|end|>No.<|end|>"
                                           "Mount Taro.<|end|>x<|end|>")
    model = load_model(small_model, dtype=torch.float32)
    with torch.no_grad():
        found = spoken(model, rows_of(read, model, trained, rows=3).batch(0), answers)
    lengths = [len(each) for pair in read for each in by_hand(model, pair, trained)]
    assert found.tokens.tolist() == [lengths[number] for number in found.numbers]
