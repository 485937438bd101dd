"""Prompts of one call that begin alike, answered behind what they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams, shared_context, shared_prompts
from headwater.generate.shared_prompts import in_families
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.prefix import Prefix, PrefixSettings
from headwater.model.scalings import DynamicNtk

GREEDY = SamplingParams(temperature=0, max_tokens=12)
Prompts = list[list[int]]
KINDS: dict[str, dict[str, Any]] = {
    "llama": {}, "alibi": {"position": "alibi"}, "none": {"position": "none"},
    "chatglm2": {"rope_layout": "interleaved", "rope_dims": 4, "attention_bias": True},
    "glm4": {"rope_layout": "interleaved", "rope_dims": 4, "norm_placement": "sandwich"}, "log-n": {"log_n_length": 20},
    "window": {"sliding_window": 24},
    "dynamic": {"rope_scaling": DynamicNtk(factor=3.0), "max_position_embeddings": 32},
    "both ways": {"position": "rope_2d", "prefix_ids": (20, 21)}}
NOT_SHARED = {"window", "dynamic", "both ways"}


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(22, 300, (count,), generator=generator).tolist()


def few_shot(end: tuple[int, ...] = ()) -> Prompts:
    """Two subjects in turn, and a question of neither in their middle."""
    asked = [tokens(36 + 4 * (number % 2), number % 2) + tokens(2 + 3 * number, 9 + number) + [*end]
             for number in range(8)]
    return [*asked[:3], [*tokens(7, 99), *end], *asked[3:]]


def make(vocabulary: int, kind: str = "llama") -> Decoder:
    config = ModelConfig.model_validate({
        "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96, "initializer_range": 0.3,
        **KINDS[kind]})
    return initialise(Decoder(config), seed=3).eval()


def alone(engine: Engine, prompts: Prompts) -> Prompts:
    return [engine.generate([prompt], GREEDY)[0].tokens for prompt in prompts]


@contextmanager
def counted(model: Decoder) -> Iterator[list[tuple[int, int]]]:
    """Rows and tokens of every pass."""
    read: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patched:
        plain = model.hidden
        patched.setattr(model, "hidden", lambda ids, **given: (read.append(tuple(ids.shape)), plain(ids, **given))[1])
        yield read


@pytest.mark.parametrize("form", [None, "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_prompt_is_answered_as_alone(trained, kind: str, form) -> None:
    model = make(trained.vocab_size, kind)
    prompts = few_shot(model.config.prefix_ids)
    assert any(beginning for _, beginning in in_families(model.config, prompts)) == (kind not in NOT_SHARED)
    # Dynamic angles follow the longest row of a batch, shared or not.
    engine = Engine(model, trained, max_batch=1 if kind == "dynamic" else 3, max_length=96, cache=form)
    found = [answer.tokens for answer in engine.generate(prompts, GREEDY)]
    assert found == alone(engine, prompts)
    assert max(map(len, found)) == 12


@pytest.mark.parametrize("position", ["rope", "alibi"])
def test_behind_a_prefix_too(make_model, trained, position: str) -> None:
    model = make_model(position=position)
    model.prefix = Prefix(model.config, PrefixSettings(length=5), seed=1)
    engine = Engine(model, trained, max_batch=3)
    assert [answer.tokens for answer in engine.generate(few_shot(), GREEDY)] == alone(engine, few_shot())


def test_what_they_share_is_read_once(engine: Engine) -> None:
    with counted(engine.model) as read:
        engine.generate(few_shot(), SamplingParams(temperature=0, max_tokens=1))
    assert read == [(1, 36), (4, 20), (1, 40), (4, 23), (1, 7)]


def test_long_beginnings_and_long_questions_are_read_piece_by_piece(engine: Engine,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = alone(engine, few_shot())
    monkeypatch.setattr("headwater.generate.engine.PREFILL_TOKENS", 20)
    monkeypatch.setattr("headwater.generate.engine.MASKED", 1)
    with counted(engine.model) as read:
        assert [answer.tokens for answer in engine.generate(few_shot(), GREEDY)] == wanted
    assert max(length for _, length in read) <= 20


def test_copies_share_all_but_their_last_token(engine: Engine) -> None:
    prompt = tokens(50, 1)
    with counted(engine.model) as read:
        found = engine.generate([prompt] * 6, SamplingParams(temperature=0, max_tokens=1))
    assert read[:3] == [(1, 49), (4, 1), (2, 1)]
    assert [answer.tokens for answer in found] == [engine.generate([prompt], GREEDY)[0].tokens[:1]] * 6


@pytest.mark.parametrize(("count", "length", "passes"), [(2, 64, 1), (2, 65, 2), (3, 33, 2), (3, 32, 1)])
def test_too_little_is_not_worth_a_pass(engine: Engine, count: int, length: int, passes: int) -> None:
    with counted(engine.model) as read:
        engine.generate([tokens(length, 1)] * count, SamplingParams(temperature=0, max_tokens=1))
    assert len(read) == passes


def test_one_may_be_what_another_begins_with(engine: Engine) -> None:
    whole = tokens(60, 1)
    prompts = [whole, whole[:40], whole[:41], whole]
    assert [answer.tokens for answer in engine.generate(prompts, GREEDY)] == alone(engine, prompts)


def test_seeds_and_their_answers_stay_with_their_prompts(engine: Engine) -> None:
    params = [SamplingParams(seed=number, temperature=2.0, max_tokens=2 + number) for number in range(9)]
    together = engine.generate(few_shot(), params)
    assert together == [engine.generate([prompt], own)[0] for prompt, own in zip(few_shot(), params, strict=True)]


def test_weights_changed_between_calls_count(trained) -> None:
    model = make(trained.vocab_size)
    engine = Engine(model, trained, max_batch=4)
    before = engine.generate(few_shot(), GREEDY)
    initialise(model, seed=8)
    after = engine.generate(few_shot(), GREEDY)
    assert after != before
    assert [answer.tokens for answer in after] == alone(Engine(model, trained, max_batch=4), few_shot())


def test_a_failure_in_the_middle_leaves_nothing_behind(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, plain = alone(engine, few_shot()), engine.step
    steps = iter(range(6))

    def failing() -> object:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return plain()

    with monkeypatch.context() as patched:
        patched.setattr(engine, "step", failing)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(few_shot(), GREEDY)
    assert not engine.busy
    assert [answer.tokens for answer in engine.generate(few_shot(), GREEDY)] == wanted


@pytest.mark.parametrize("left", [0, 2, 7])
def test_who_leaves_does_not_change_what_relatives_are_answered(engine: Engine, left: int) -> None:
    """Before its family is read, while it is, and as its last."""
    wanted = alone(engine, few_shot())
    handles = engine._submit_families([(prompt, GREEDY) for prompt in few_shot()])
    if left:
        engine.step()
    handles[left].cancel()
    while engine.busy:
        engine.step()
    assert handles[left].finish_reason == "cancelled"
    assert len(handles[left].tokens) < 12
    for number, handle in enumerate(handles):
        assert number == left or handle.tokens == wanted[number]


def test_a_prompt_that_does_not_fit_is_refused_before_any_is_read(engine: Engine) -> None:
    with counted(engine.model) as read, pytest.raises(InputError, match="96 tokens"):
        engine.generate([*few_shot(), tokens(96, 0)], GREEDY)
    assert not read
    assert not engine.busy


def test_the_copy_is_gone_when_the_last_of_a_family_is_admitted(engine: Engine) -> None:
    held = next(beginning for _, beginning in in_families(engine.model.config, few_shot()) if beginning)
    for left in (2, 1):
        rows = engine._cache.rows(0, left)
        with torch.inference_mode():
            held.fill(rows, engine._beginning)
        assert rows.filled == len(held.tokens) == 36
        assert held._cache is not None
    with torch.inference_mode():
        held.fill(engine._cache.rows(0, 1), engine._beginning)
    assert held._cache is None


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), max_size=9))
def test_families_are_complete_and_leave_each_a_token(prompts: Prompts) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_context, "SHARED", 2)
        patched.setattr(shared_prompts, "SAVED", 0)
        found = in_families(make(32).config, prompts)
    assert sorted(number for number, _ in found) == list(range(len(prompts)))
    for number, beginning in found:
        if beginning is None:
            continue
        shared = len(beginning.tokens)
        assert 2 <= shared < len(prompts[number])
        assert prompts[number][:shared] == beginning.tokens
        places = [place for place, (_, other) in enumerate(found) if other is beginning]
        assert len(places) == beginning._left > 1
        assert places == list(range(places[0], places[0] + len(places)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(30, 31), min_size=1, max_size=12), min_size=1, max_size=7))
def test_whatever_they_share_the_answers_are_those_of_each_alone(engine: Engine, prompts: Prompts) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_context, "SHARED", 2)
        patched.setattr(shared_prompts, "SAVED", 0)
        found = [answer.tokens for answer in engine.generate(prompts, GREEDY)]
    assert found == alone(engine, prompts)
