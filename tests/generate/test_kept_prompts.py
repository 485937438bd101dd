"""Prompts that begin like earlier ones: not read again, and answered as if they were."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.shared_prompts import covers
from headwater.model import Decoder, initialise
from headwater.tokenizer import Tokenizer
from tests.generate.test_prefill import PIECE, answered, finish, small_pieces
from tests.generate.test_shared_prompts import KINDS, NOT_SHARED, counted, make, tokens

__all__ = ["small_pieces"]  # pytest finds it by its name here
PARAMS = SamplingParams(seed=1, max_tokens=5, logprobs=2)
PLENTY = 1 << 24


def keeping(model: Decoder, tokenizer: Tokenizer, most: int = PLENTY, **more: object) -> Engine:
    return Engine(model, tokenizer, max_batch=3, max_length=96, kept_bytes=most, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [None, "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_same_to_the_last_bit(trained: Tokenizer, kind: str, form: str | None) -> None:
    model = make(trained.vocab_size, kind)
    ends = [*model.config.prefix_ids]
    engine, plain = keeping(model, trained, cache=form), Engine(model, trained, max_length=96, cache=form)  # type: ignore[arg-type]
    turns = [tokens(length, 1) + ends for length in (20, 40, 41, 70)]
    found = [answered(engine, turn, PARAMS) for turn in turns]
    wanted = [answered(plain, turn, PARAMS) for turn in turns]
    assert [(one.tokens, one.logprobs) for one in found] == [(one.tokens, one.logprobs) for one in wanted]
    assert [one.cached_tokens for one in found] == ([0, 16, 40, 40] if kind not in NOT_SHARED else [0] * 4)
    assert covers(model.config) == (kind not in NOT_SHARED)


def test_what_was_read_is_not_read_again(model: Decoder, trained: Tokenizer) -> None:
    engine = keeping(model, trained)
    answered(engine, tokens(30, 1), PARAMS)
    with counted(model) as read:
        again = answered(engine, tokens(30, 1)[:25] + tokens(9, 2), PARAMS)
    assert read == [(1, PIECE), (1, 2)]
    assert again.cached_tokens == 24
    assert engine.generate([[5]], PARAMS)[0].cached_tokens == 0


def test_the_last_token_is_always_read(model: Decoder, trained: Tokenizer) -> None:
    engine = keeping(model, trained)
    assert [answered(engine, tokens(16, 1), PARAMS).cached_tokens for _ in range(2)] == [0, 8]


def test_requests_at_the_same_time_share_too(model: Decoder, trained: Tokenizer) -> None:
    engine = keeping(model, trained)
    handles = [engine.submit(tokens(40, 1) + tokens(3, 2 + number), PARAMS) for number in range(3)]
    with counted(model) as read:
        finish(engine)
    assert sum(rows * length for rows, length in read) == 40 + 3 * 3
    assert sum(handle.cached_tokens for handle in handles) == 80


def test_memory_is_bounded_and_the_longest_unused_goes(model: Decoder, trained: Tokenizer) -> None:
    piece = model.cache(1, PIECE).bytes
    engine = keeping(model, trained, most=4 * piece)
    for seed in (1, 2, 1, 3, 1):
        answered(engine, tokens(17, seed), PARAMS)
        assert engine.kept.bytes <= engine.kept.most
    assert [answered(engine, tokens(17, seed), PARAMS).cached_tokens for seed in (1, 3, 2)] == [16, 16, 0]
    engine.kept.clear()
    assert engine.kept.bytes == 0
    assert answered(engine, tokens(17, 1), PARAMS).cached_tokens == 0
    assert answered(keeping(model, trained, most=piece - 1), tokens(17, 1), PARAMS).cached_tokens == 0


def test_changed_weights_count(trained: Tokenizer) -> None:
    model = make(trained.vocab_size)
    engine = keeping(model, trained)
    answered(engine, tokens(40, 1), PARAMS)
    initialise(model, seed=8)
    after = answered(engine, tokens(40, 1), PARAMS)
    assert after.cached_tokens == 0
    assert after.logprobs == answered(Engine(model, trained, max_length=96), tokens(40, 1), PARAMS).logprobs


def test_the_memory_is_known_and_has_to_be_there(model: Decoder, trained: Tokenizer,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    engine = keeping(model, trained, most=1000)
    assert engine.cache_bytes == engine._cache.bytes + 1000
    monkeypatch.setattr("headwater.generate.engine.total_memory_bytes", lambda device: engine.cache_bytes)
    keeping(model, trained, most=1000)
    with pytest.raises(InputError, match=r"3 contexts of 96 tokens with .* of kept prompts need"):
        keeping(model, trained, most=1001)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(st.integers(30, 31), min_size=1, max_size=40), st.integers(0, 2)), min_size=1,
                max_size=7), st.integers(0, 6))
def test_whatever_came_before_the_answers_are_those_of_each_alone(
        model: Decoder, trained: Tokenizer, requests: list[tuple[list[int], int]], pieces: int) -> None:
    engine = keeping(model, trained, most=pieces * model.cache(1, PIECE).bytes)
    handles = []
    for prompt, steps in requests:
        handles.append(engine.submit(prompt, PARAMS))
        for _ in range(steps):
            engine.step()
    finish(engine)
    plain = Engine(model, trained, max_length=96)
    for handle in handles:
        alone = answered(plain, handle.prompt, PARAMS)
        assert (handle.tokens, handle.logprobs) == (alone.tokens, alone.logprobs)
