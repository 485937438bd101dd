"""Keys and values in bytes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater import plan
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.cache import from_bytes, in_bytes
from headwater.model.checkpoint import load_model
from headwater.tokenizer import Tokenizer

CONFIG = ModelConfig(vocab_size=31, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, initializer_range=0.1)


@given(rows=st.integers(1, 6), width=st.sampled_from([4, 16, 64]), seed=st.integers(0, 99),
       size=st.sampled_from([1e-20, 1.0, 1e4]), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_no_number_is_off_by_more_than_a_254th_of_the_largest(rows, width, seed, size, dtype):
    x = (size * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))).to(dtype)
    found = from_bytes(in_bytes(x), torch.float32)
    largest = x.float().abs().amax(-1, keepdim=True)
    assert ((found - x.float()).abs() <= largest / 254 * 1.001).all()
    assert not from_bytes(in_bytes(torch.zeros(2, 8)), dtype).any()


@pytest.mark.parametrize("name", ["baichuan2_7b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "llama2_gqa"])
def test_logits_stay_near_over_many_steps(shared, name):
    """Within 4 % of their spread, from prompts in pieces and then token by token; random weights of up to 28 blocks."""
    model = load_model(shared / "vectors" / name, dtype=torch.float32)
    ids = torch.randint(3, 60, (2, 24), generator=torch.Generator().manual_seed(0))
    first = torch.tensor(model.config.prefix_ids[::2], dtype=torch.long).expand(2, -1)
    ids = torch.cat([ids[:, :8], first, ids[:, 8:]], 1)
    caches = [model.cache(2, ids.shape[1], form=form) for form in (None, "int8")]
    with torch.inference_mode():
        for start, stop in [(0, 12), (12, 16), *((place, place + 1) for place in range(16, ids.shape[1]))]:
            exact, found = (model(ids[:, start:stop], cache=cache) for cache in caches)
            assert (found - exact).square().mean().sqrt() < 0.04 * exact.std()


def test_bytes_are_those_of_the_plan():
    for form, width in (("int8", 1), (None, 4)):
        cache = KVCache(CONFIG, 3, 10, form=form)
        assert cache.bytes == 30 * plan.cache_bytes_per_token(CONFIG, width)
    assert plan.cache_bytes_per_token(CONFIG, 1) == 2 * 2 * 2 * (16 + 4)


def test_rows_move_with_their_scales():
    model = initialise(Decoder(CONFIG), 0)
    ids = torch.randint(0, 31, (2, 6), generator=torch.Generator().manual_seed(0))
    cache = model.cache(2, 8, form="int8")
    with torch.inference_mode():
        model(ids, cache=cache)
        slots = torch.full((1, 1), 6)
        wanted = model.hidden(ids[:1, :1], cache=cache.rows(1, 2), slots=slots)
        cache.move(1, 0, 6)
        assert torch.equal(model.hidden(ids[:1, :1], cache=cache.rows(0, 1), slots=slots), wanted)


def test_the_engine_answers_many_from_bytes(small_model):
    engine = Engine(load_model(small_model), Tokenizer.load(small_model), cache="int8", max_batch=2)
    params = SamplingParams(temperature=0, max_tokens=6)
    together = engine.generate([[1, 5, 6], [1, 7], [1, 9, 9, 9]], params)
    assert engine._cache.keys[0].dtype == torch.int8
    alone = [engine.generate([prompt], params)[0] for prompt in ([1, 5, 6], [1, 7], [1, 9, 9, 9])]
    assert [one.tokens for one in together] == [one.tokens for one in alone]


def test_heads_that_four_does_not_divide_are_refused():
    odd = CONFIG.model_copy(update={"head_dim": 18})
    with pytest.raises(InputError, match="heads of 18"):
        KVCache(odd, 1, 4, form="int8")


@pytest.mark.parametrize("position", ["rope", "alibi"])
def test_long_prompts_give_the_same_states_with_gradients_and_without(position):
    """With them PyTorch's attention is called, without them the kernel that has none: at the prompt's begin and behind
    it."""
    config = CONFIG.model_copy(update={"position": position, "num_key_value_heads": 4 if position == "alibi" else 2})
    model = initialise(Decoder(config), 0)
    ids = torch.randint(0, 31, (2, 150), generator=torch.Generator().manual_seed(0))
    differentiable, plain = model.cache(2, 150), model.cache(2, 150)
    for piece in ids.split(70, dim=1):
        wanted = model(piece, cache=differentiable)
        with torch.no_grad():
            torch.testing.assert_close(model(piece, cache=plain), wanted.detach(), atol=1e-4, rtol=1e-4)
    model(ids, cache=model.cache(2, 150)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
