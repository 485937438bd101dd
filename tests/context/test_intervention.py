"""Ablations and scores by part: identities that hold for every model."""

import pytest
import torch

from headwater.context.intervention import score_parts, without
from headwater.context.positional import positional_vectors, states_of
from headwater.model import Decoder, ModelConfig, initialise

TINY = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.3}
IDS = torch.randint(50, (12, 20), generator=torch.Generator().manual_seed(0))


def model_of(**changes):
    return initialise(Decoder(ModelConfig(**{**TINY, **changes})), 0).eval()


def states(model):
    with torch.no_grad(), states_of(model) as found:
        model.hidden(IDS)
        return [one.clone() for one in found]


def into_block(model, layer):
    seen = []
    hook = model.blocks[layer].attention_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.hidden(IDS)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("changes", [
    {"position": "none"}, {"position": "rope"}, {"position": "rope", "rope_dims": 4, "rope_layout": "interleaved"},
    {"position": "none", "norm": "layernorm", "attention_bias": True}], ids=str)
@pytest.mark.parametrize("layer", [0, 2])
def test_the_four_parts_of_the_scores_add_up(changes, layer):
    model = model_of(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # gains and biases that are not those of a new model
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        vectors, state = positional_vectors(model, [IDS]), states(model)[layer]
        parts = score_parts(model, layer, state, vectors)
        nothing = vectors._replace(vectors=torch.zeros_like(vectors.vectors))
        whole = score_parts(model, layer, state, nothing)
    torch.testing.assert_close(parts.sum((0, 1)), whole.sum((0, 1)), rtol=1e-4, atol=1e-5)
    # and they are the scores by which the model attends
    attention = model.blocks[layer].attention
    with torch.no_grad():
        qkv = attention.qkv(model.blocks[layer].attention_norm(state)).view(12, 20, -1, 6).transpose(1, 2)
        value = qkv[:1, -2:].repeat_interleave(2, 1)
        one = score_parts(model, layer, state[:1], nothing).sum((0, 1))[None]
        weights = one.masked_fill(torch.ones(20, 20).triu(1).bool(), -torch.inf).softmax(-1)
        mixed = attention.out((weights @ value).transpose(1, 2).reshape(1, 20, -1))
        found = []
        hook = attention.register_forward_hook(lambda _, __, output: found.append(output))
        model.hidden(IDS[:1])
        hook.remove()
    torch.testing.assert_close(mixed, found[0], rtol=1e-4, atol=1e-5)


def test_taking_a_vector_away_leaves_the_rest_of_the_state():
    model = model_of(position="none")
    vectors, before = positional_vectors(model, [IDS]), states(model)
    for part, taken in (("vector", vectors.vectors), ("basis", vectors.basis)):
        with without(model, part, slice(0, 4), [1], vectors):
            seen = into_block(model, 1)
        torch.testing.assert_close(seen[:, :4], before[1][:, :4] - taken[1, :4])
        torch.testing.assert_close(seen[:, 4:], before[1][:, 4:])
    after = states(model)
    assert all(torch.equal(one, other) for one, other in zip(before, after))


def test_without_values_a_token_gives_nothing_to_any():
    model = model_of(position="none")
    with without(model, "value", slice(0, 20), [0]):
        changed = states(model)
    attended = [one.clone() for one in states(model)]
    block = model.blocks[0]
    with torch.no_grad():
        alone = attended[0] + block.feedforward(block.feedforward_norm(attended[0]))
    torch.testing.assert_close(changed[1], alone)
    assert not torch.allclose(attended[1], alone, atol=1e-3)
