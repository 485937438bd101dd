import itertools

import pytest
import torch

from headwater import plan
from headwater.errors import InputError, SettingsError
from headwater.model import Decoder, KVCache, ModelConfig, initialise

SMALL = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 64}
AXES = list(itertools.product(["rope", "alibi", "none"], [4, 2, 1]))
OTHER = [{"norm": "layernorm"}, {"activation": "gelu"}, {"attention_bias": True, "output_bias": True, "mlp_bias": True},
         {"tie_word_embeddings": True}]
VARIANTS = [{"position": p, "num_key_value_heads": k} for p, k in AXES] + OTHER


def make(**fields):
    return initialise(Decoder(ModelConfig(**{**SMALL, **fields})), 0).eval()


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_decoding_with_a_cache_equals_the_full_forward_pass(fields):
    model, tokens = make(**fields), torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = model(tokens)
        cache = KVCache(model.config, 3, 32)
        parts = [model(tokens[:, :7], cache=cache)]
        for place in range(7, 20):
            parts.append(model(tokens[:, place : place + 1], cache=cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head_dim", [16, 24])  # with a kernel for it, and without
@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_many_tokens_that_go_on_from_a_cache_are_read_as_in_one_pass(position, head_dim):
    model = make(position=position, head_dim=head_dim, num_key_value_heads=2)
    tokens = torch.randint(0, 61, (2, 400), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole, cache = model(tokens), KVCache(model.config, 2, 400)
        parts = [model(tokens[:, at:to], cache=cache) for at, to in ((0, 70), (70, 300), (300, 310), (310, 400))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_a_packed_document_sees_only_itself(position):
    model = make(position=position)
    tokens = torch.randint(0, 61, (1, 12), generator=torch.Generator().manual_seed(2))
    documents = torch.tensor([[0] * 5 + [1] * 7])
    positions = torch.tensor([[*range(5), *range(7)]])
    mask = (documents[:, :, None] == documents[:, None, :]) & torch.ones(12, 12, dtype=torch.bool).tril()
    with torch.inference_mode():
        packed = model(tokens, mask[:, None], positions)
        torch.testing.assert_close(packed[:, 5:], model(tokens[:, 5:]), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(packed[:, :5], model(tokens[:, :5]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_a_later_token_changes_no_earlier_logit(position):
    model = make(position=position)
    tokens = torch.randint(0, 61, (1, 16), generator=torch.Generator().manual_seed(3))
    changed = tokens.clone()
    changed[0, 9] = (changed[0, 9] + 1) % 61
    with torch.inference_mode():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_the_plan_counts_every_parameter(fields):
    model = make(**fields)
    assert plan.parameters(model.config) == sum(parameter.numel() for parameter in model.parameters())


def test_published_parameter_counts():
    seven = ModelConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                        num_attention_heads=32)
    seventy = ModelConfig(vocab_size=32000, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                          num_attention_heads=64, num_key_value_heads=8)
    assert plan.parameters(seven) == 6_738_415_616
    assert plan.parameters(seventy) == 68_976_648_192
    assert plan.cache_bytes_per_token(seventy, 2) * 8 == plan.cache_bytes_per_token(
        seventy.model_copy(update={"num_key_value_heads": 64}), 2)


def test_a_full_cache_is_refused():
    model = make()
    with pytest.raises(InputError, match="9 tokens do not fit a cache of 8"):
        model(torch.zeros(1, 9, dtype=torch.long), cache=KVCache(model.config, 1, 8))


@pytest.mark.parametrize(("fields", "words"), [
    ({"num_attention_heads": 5}, "not a multiple of 5 heads"),
    ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
    ({"hidden_size": 12, "num_attention_heads": 4}, "even number of dimensions"),
    ({"hiden_size": 12}, "unknown setting 'hiden_size'"),
])
def test_impossible_shapes_are_refused(fields, words):
    with pytest.raises(SettingsError, match=words):
        ModelConfig.parse({**SMALL, **fields})
