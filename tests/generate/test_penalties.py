"""Presence and frequency penalties and bias in the engine."""

from __future__ import annotations

import pytest

from headwater.errors import InputError, SettingsError
from headwater.generate import Engine, SamplingParams


def test_the_prompt_is_not_penalised_and_the_answer_is(engine: Engine, prompts: list[list[int]]) -> None:
    engine.stop_ids = frozenset()
    plain = engine.generate([prompts[7]], SamplingParams(temperature=0, max_tokens=1))[0].tokens
    strong = SamplingParams(temperature=0, max_tokens=40, presence_penalty=2, frequency_penalty=2)
    assert engine.generate([prompts[7] + plain], SamplingParams(temperature=0, max_tokens=2))
    assert engine.generate([prompts[7]], strong)[0].tokens[:1] == plain  # however often the prompt holds it
    runs = [engine.generate([prompts[7]], params)[0].tokens for params in (
        SamplingParams(temperature=0, max_tokens=60), strong.model_copy(update={"max_tokens": 60}))]
    assert len(set(runs[1])) > len(set(runs[0]))


def test_a_bias_decides_and_forbids(engine: Engine, prompts: list[list[int]]) -> None:
    forced = engine.generate([prompts[3]], SamplingParams(max_tokens=9, seed=1, logit_bias={77: 100}))[0]
    assert forced.tokens == [77] * 9
    free = engine.generate([prompts[3]], SamplingParams(temperature=0, max_tokens=20))[0].tokens
    without = engine.generate([prompts[3]], SamplingParams(temperature=0, max_tokens=20,
                                                           logit_bias=dict.fromkeys(free, -100)))[0].tokens
    assert free
    assert not set(free) & set(without)


def test_logprobs_are_those_before_penalties_and_bias(engine: Engine, prompts: list[list[int]]) -> None:
    own = engine.generate([prompts[3]], SamplingParams(temperature=0, max_tokens=1, logprobs=5))[0].logprobs
    changed = engine.generate([prompts[3]], SamplingParams(max_tokens=1, logprobs=5, logit_bias={77: 100}))[0].logprobs
    assert own is not None
    assert changed is not None
    assert changed[0].top == own[0].top
    assert changed[0].token == 77
    assert changed[0].logprob < own[0].logprob


def test_rows_with_penalties_do_not_touch_others(engine: Engine, prompts: list[list[int]]) -> None:
    each = [SamplingParams(seed=n, max_tokens=20, temperature=n % 2, presence_penalty=(n % 3) - 1,
                           frequency_penalty=(n % 5) / 2 - 1, repetition_penalty=1 + (n % 4) / 4,
                           logit_bias={n + 9: 3.0} if n % 2 else {}) for n in range(len(prompts))]
    together = engine.generate(prompts, each)
    assert together == [engine.generate([prompt], own)[0] for prompt, own in zip(prompts, each, strict=True)]


@pytest.mark.parametrize("wrong", [{"presence_penalty": 2.1}, {"frequency_penalty": -2.1}, {"logit_bias": {5: 101}},
                                   {"logit_bias": {"five": 1}}, {"logit_bias": {5: float("nan")}}], ids=str)
def test_what_openai_does_not_take_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        SamplingParams.parse(wrong)


def test_a_bias_of_no_token_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="token 9999, which is outside the vocabulary"):
        engine.submit([5], SamplingParams(logit_bias={9999: 1.0}))
