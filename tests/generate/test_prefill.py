"""Prompts that are read piece by piece while others are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.generate import Engine, SamplingParams
from headwater.generate.request import Sequence
from headwater.model import Decoder
from headwater.tokenizer import Tokenizer
from tests.generate.test_shared_prompts import KINDS, counted, make, tokens

PIECE = 8
GREEDY = SamplingParams(temperature=0, max_tokens=6)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.generate.prefill.PIECES", {"cpu": PIECE})


def finish(engine: Engine) -> None:
    while engine.busy:
        engine.step()


def answered(engine: Engine, prompt: list[int], params: SamplingParams) -> Sequence:
    handle = engine.submit(prompt, params)
    finish(engine)
    return handle


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_change_nothing(trained: Tokenizer, kind: str) -> None:
    """Whatever the model, and also where a prompt cannot be read in pieces."""
    model = make(trained.vocab_size, kind)
    prompts = [[*tokens(length, length), *model.config.prefix_ids] for length in (7, 8, 9, 40, 1, 41, 64)]
    engine = Engine(model, trained, max_batch=1 if kind == "dynamic" else 3, max_length=96)
    handles = [engine.submit(prompt, GREEDY) for prompt in prompts]
    finish(engine)
    wanted = [Engine(model, trained, max_batch=1, max_length=96).generate([prompt], GREEDY)[0] for prompt in prompts]
    assert [handle.tokens for handle in handles] == [answer.tokens for answer in wanted]


def test_a_long_prompt_does_not_stop_running_answers(engine: Engine) -> None:
    engine.stop_ids = frozenset()
    running = engine.submit(tokens(5, 1), SamplingParams(temperature=0, max_tokens=60))
    engine.step()
    long = engine.submit(tokens(80, 2), GREEDY)
    with counted(engine.model) as read:
        for _ in range(80 // PIECE - 1):
            before = len(running.tokens)
            engine.step()
            assert len(running.tokens) == before + 1
            assert not long.tokens
        engine.step()
    assert long.tokens
    assert read == [(1, PIECE)] * (80 // PIECE)


def test_a_short_prompt_does_not_wait_for_a_long_one(engine: Engine) -> None:
    long, short = engine.submit(tokens(80, 2), GREEDY), engine.submit(tokens(6, 1), GREEDY)
    for _ in range(2):
        engine.step()
    assert short.tokens
    assert not long.tokens


def test_a_long_prompt_does_not_wait_for_ever_for_short_ones(engine: Engine) -> None:
    long = engine.submit(tokens(80, 2), GREEDY)
    for number in range(2 * 80 // PIECE):
        engine.submit(tokens(6, number), SamplingParams(temperature=0, max_tokens=1))
        engine.step()
    assert long.tokens


def test_several_short_prompts_are_read_between_two_steps(engine: Engine) -> None:
    handles = [engine.submit(tokens(2, number), GREEDY) for number in range(4)]
    with counted(engine.model) as read:
        engine.step()
    assert read == [(1, 2)] * 4
    assert all(handle.tokens for handle in handles)


def test_of_copies_of_a_prompt_one_is_read(engine: Engine) -> None:
    wanted = answered(engine, tokens(4, 1), GREEDY).tokens
    handles = [engine.submit(tokens(4, 1), GREEDY) for _ in range(3)]
    with counted(engine.model) as read:
        finish(engine)
    assert read == [(1, 4)]
    assert [handle.tokens for handle in handles] == [wanted] * 3


def test_who_leaves_while_being_read_frees_the_slot_at_once(engine: Engine) -> None:
    handles = [engine.submit(tokens(60 + number, number), GREEDY) for number in range(4)]
    waiting = engine.submit(tokens(3, 9), GREEDY)
    engine.step()
    assert (engine.active, engine.waiting) == (4, 1)
    handles[1].cancel()
    engine.step()
    assert handles[1].finish_reason == "cancelled"
    assert (engine.active, engine.waiting) == (4, 0)
    finish(engine)
    assert waiting.tokens == answered(engine, tokens(3, 9), GREEDY).tokens
    for number in (0, 2, 3):
        assert handles[number].tokens == answered(engine, tokens(60 + number, number), GREEDY).tokens


EVENTS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=9)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS)
def test_whoever_comes_and_leaves_when_the_others_answers_stay(engine: Engine, events: list[tuple[int, int, bool]]
                                                               ) -> None:
    """Prompts of such lengths come after so many steps; some leave again at the next one."""
    handles: list[tuple[Sequence, bool]] = []
    for number, (length, steps, leaves) in enumerate(events):
        for _ in range(steps):
            engine.step()
        for handle, gone in handles[-1:]:
            if gone:
                handle.cancel()
        params = SamplingParams(seed=number, max_tokens=1 + number, logprobs=1)
        handles.append((engine.submit(tokens(length, number), params), leaves))
    finish(engine)
    for handle, _ in handles:
        if handle.finish_reason != "cancelled":
            alone = answered(engine, handle.prompt, handle.params)
            assert (handle.tokens, handle.logprobs) == (alone.tokens, alone.logprobs)


@pytest.fixture
def compiled() -> Iterator[None]:
    from headwater.model.native.build import library

    if library("decode") is None:
        pytest.skip("no C++ compiler here, and so no compiled step")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [8, 20])
def test_to_the_last_bit_an_answer_is_what_it_is_alone(make_model: Callable[..., Decoder], trained: Tokenizer,
                                                       dtype: torch.dtype, rows: int) -> None:
    """Log-probabilities are compared, which differ before any token does."""
    engine = Engine(make_model().to(dtype), trained, max_batch=rows)
    engine.stop_ids = frozenset()
    prompts = [tokens(3 + number, number) for number in range(rows)]
    each: list[dict[str, Any]] = [{}, {"temperature": 0}, {"top_p": 0.8}, {"top_k": 9, "frequency_penalty": 0.5},
                                  {"repetition_penalty": 1.2}, {"constraint": {"kind": "regex", "text": "[a-z ]{30,}"}}]
    params = [SamplingParams.parse({"seed": number, "max_tokens": 60, "logprobs": 3, **each[number % len(each)]})
              for number in range(rows)]
    handles = [engine.submit(prompt, own) for prompt, own in zip(prompts, params, strict=True)]
    most = 0
    while engine.busy:
        engine.step()
        most = max(most, len(engine._active))
    assert most == rows
    for handle, prompt, own in zip(handles, prompts, params, strict=True):
        alone = answered(engine, prompt, own)
        assert (handle.tokens, handle.logprobs) == (alone.tokens, alone.logprobs)
