"""Attention by its parts: shares that add up, the sink, and the decay."""

import math

import pytest
import torch

from headwater.context.attention_parts import attention_of, seen
from headwater.context.intervention import score_parts
from headwater.context.positional import positional_vectors, states_of
from headwater.model import Decoder, ModelConfig, initialise

TINY = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.3}


def model_of(**changes):
    return initialise(Decoder(ModelConfig(**{**TINY, **changes})), 0).eval()


def texts(count, length, seed=0):
    return torch.randint(50, (count, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("changes", [{"position": "none"}, {"position": "rope"}, {"position": "alibi"},
                                     {"position": "none", "log_n_length": 8}], ids=str)
def test_the_weights_are_those_by_which_the_model_attends(changes):
    """The values of the initial tokens are made one, of all others nothing: attention then gives the sink itself."""
    model, ids = model_of(**changes), texts(5, 48)
    with torch.no_grad():
        attention = model.blocks[0].attention
        attention.out.weight.copy_(torch.eye(24))
        found = attention_of(model, ids, positional_vectors(model, [ids]), 32)
        gives, hooks = [], []

        def marked(_, __, output):
            output = output.clone()
            output[..., -12:] = 0
            output[:, :4, -12:] = 1
            return output

        hooks.append(attention.qkv.register_forward_hook(marked))
        hooks.append(attention.register_forward_hook(lambda _, __, output: gives.append(output)))
        model.hidden(ids)
    weight = gives[0].mean((0, 2))  # [T]
    torch.testing.assert_close(found.sink[0, 0], weight[found.queries], rtol=1e-4, atol=1e-6)
    within = weight[found.queries[found.queries < 32]].mean()
    assert found.rest[0, 0, 0].item() == pytest.approx(within.item(), rel=1e-4)
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(2, 2))
    assert bool(found.shares[:, :, 4].any()) == (changes["position"] == "alibi")


def test_queries_are_rows_of_the_whole():
    model, ids = model_of(), texts(3, 20)
    vectors = positional_vectors(model, [ids])
    with torch.no_grad(), states_of(model) as states:
        model.hidden(ids)
        some = torch.tensor([4, 9, 19])
        torch.testing.assert_close(score_parts(model, 1, states[1], vectors, some),
                                   score_parts(model, 1, states[1], vectors)[..., some, :])


def test_attention_that_rests_on_the_first_token_does_so_by_position_alone(resting):
    ids = torch.randint(1, 6, (300, 80), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 0
    found = attention_of(resting, ids, positional_vectors(resting, ids.split(50)), 64)
    expected = (math.e**10 + 3) / (math.e**10 + found.queries)
    torch.testing.assert_close(found.sink[0], expected.expand(2, -1), rtol=0, atol=1e-4)
    assert (found.rest > 0.99).all()
    assert found.shares[0, 0, 0] > 0.99
    assert (found.even(64) < torch.tensor([0.25, 0.06])).all()


def test_without_a_difference_between_keys_attention_is_even_and_nothing_decays():
    scores = torch.zeros(5, 2, 3, 20) + 7.0
    scores[0, 0, 0, 0] += 1e-3  # some variance, or there are no shares
    found = seen(scores, torch.tensor([9, 14, 19]), 16, 20)
    torch.testing.assert_close(found.sink[0], 4 / torch.tensor([10.0, 15.0, 20.0]), rtol=1e-3, atol=0)
    assert found.decay.nan_to_num().abs().max() < 1e-6


def test_a_case_by_hand():
    """One head, one query at position 5 of six keys; the positional part falls by 1 a token, half of it as bias, and
    meaning picks key 4."""
    parts = torch.zeros(5, 1, 1, 6)
    falling = torch.tensor([-5.0, -4.0, -3.0, -2.0, -1.0, 0.0])
    parts[0, 0, 0] = parts[4, 0, 0] = falling / 2
    parts[3, 0, 0, 4] = 6.0
    found = seen(parts, torch.tensor([5]), 6, 6)
    # variances and covariance over the six keys: 17.5, 30 and 9, each / 6
    torch.testing.assert_close(found.covariance[0], torch.tensor([13.25, 0.0, 0.0, 39.0, 13.25]) / 6)
    assert found.covariance[1].isnan().all()
    whole = torch.tensor([-5.0, -4.0, -3.0, -2.0, 5.0, 0.0])
    assert found.sink[0, 0].item() == pytest.approx(whole.softmax(0)[:4].sum().item())
    assert found.sink[1, 0].item() == pytest.approx(falling.softmax(0)[:4].sum().item())
    # behind the first four are keys 4 and 5, at distances 1 and 0: 5 and 0 as a whole, -1 and 0 by position
    torch.testing.assert_close(found.decay[:, 0, :2], torch.tensor([[-2.5, 2.5], [0.5, -0.5]]))
    assert found.decay[:, 0, 2:].isnan().all()


def test_what_lies_before_a_window_is_not_counted():
    """Of a query at position 19 that sees four keys, two of them late enough for every distance told."""
    parts = torch.zeros(5, 1, 1, 20)
    parts[3, 0, 0, :16] = 50.0
    parts[3, 0, 0, 16:] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = seen(parts, torch.tensor([19]), 20, 4)
    assert found.sink.abs().max() == 0
    assert found.covariance[0, 3].item() == pytest.approx(1.25)
    torch.testing.assert_close(found.decay[0, 0, :3], torch.tensor([1.5, 0.5, -1.0]))
