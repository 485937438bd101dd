from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headwater.errors import SettingsError
from headwater.generate.sampling import SamplingParams, SamplingRows, adjusted, sample

MIXED_PARAMS = st.builds(
    SamplingParams, temperature=st.sampled_from([0.0, 0.7, 1.5]), top_k=st.sampled_from([0, 2, 400]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]), min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.3]), frequency_penalty=st.sampled_from([0.0, 1.5]),
    presence_penalty=st.sampled_from([0.0, -0.5]), logit_bias=st.sampled_from([{}, {3: 4.0, 599: -100.0}]))


def kept_tokens(logits: list[float], params: SamplingParams) -> dict[int, float]:
    """The definitions written out, one token at a time: which tokens stay, with their renormalised probabilities."""
    scores = [value / params.temperature for value in logits]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    if params.top_k:
        order = order[: params.top_k]
    mass = {index: math.exp(scores[index] - scores[order[0]]) for index in order}
    total = sum(mass.values())
    chosen: list[int] = []
    for index in order:
        if chosen and sum(mass[i] for i in chosen) >= params.top_p * total:
            break
        chosen.append(index)
    chosen = [index for index in chosen if mass[index] >= params.min_p * mass[order[0]]]
    return {index: mass[index] / sum(mass[i] for i in chosen) for index in chosen}


def draw(logits: Tensor, params: SamplingParams, count: int) -> Counter[int]:
    """`count` tokens at evenly spread uniforms, which visits every kept token in proportion."""
    rows = SamplingRows.of([params] * count)
    uniforms = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return Counter(sample(logits.expand(count, -1), rows, uniforms).tolist())


@pytest.mark.parametrize("params", [
    SamplingParams(), SamplingParams(temperature=0.5), SamplingParams(temperature=2.0, top_k=3),
    SamplingParams(top_p=0.8), SamplingParams(min_p=0.2), SamplingParams(top_k=5, top_p=0.7, min_p=0.05),
    SamplingParams(top_p=0.0), SamplingParams(temperature=1.7, top_p=0.999), SamplingParams(top_k=1000),
])
@pytest.mark.parametrize("vocabulary", [12, 700])
def test_drawn_tokens_follow_the_defined_distribution(params: SamplingParams, vocabulary: int) -> None:
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * 1.5
    expected = kept_tokens(logits.tolist(), params)
    count = 4_000
    seen = draw(logits, params, count)
    assert set(seen) <= set(expected)
    for token, probability in expected.items():
        assert abs(seen[token] - probability * count) <= 2  # evenly spread uniforms: exact up to the two ends


def test_random_uniforms_pass_a_chi_square_test() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])
    params = SamplingParams(temperature=1.3)
    count = 20_000
    uniforms = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    seen = Counter(sample(logits.expand(count, -1), SamplingRows.of([params] * count), uniforms).tolist())
    expected = kept_tokens(logits.tolist(), params)
    chi_square = sum((seen[token] - count * p) ** 2 / (count * p) for token, p in expected.items())
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


@settings(deadline=None, max_examples=30)
@given(st.lists(MIXED_PARAMS, min_size=1, max_size=6), st.integers(0, 1000))
def test_a_row_does_not_depend_on_its_batch(batch: list[SamplingParams], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(batch), 600, generator=generator)
    uniforms = torch.rand(len(batch), dtype=torch.float64, generator=generator)
    seen = torch.rand(len(batch), 600, generator=generator) < 0.2
    counts = torch.randint(0, 3, (len(batch), 600), generator=generator).float()

    def tokens(at: list[int]) -> list[int]:
        rows = SamplingRows.of([batch[row] for row in at])
        own = torch.tensor(at)
        return sample(adjusted(logits[own], rows, seen[own[rows.penalised]], counts[own[rows.counted]]), rows,
                      uniforms[own]).tolist()

    together = tokens(list(range(len(batch))))
    assert [tokens([row])[0] for row in range(len(batch))] == together


def test_temperature_zero_takes_the_most_likely_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    rows = SamplingRows.of([SamplingParams(temperature=0), SamplingParams(temperature=0, top_p=0.5)])
    assert sample(logits, rows, torch.tensor([0.99, 0.99], dtype=torch.float64)).tolist() == [1, 0]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = torch.tensor([[2.0, 1.5, -1.0]])
    greedy = SamplingRows.of([SamplingParams(temperature=0, repetition_penalty=1.5)])
    found = adjusted(logits, greedy, torch.tensor([[True, False, True]]), None)
    assert torch.allclose(found, torch.tensor([[2 / 1.5, 1.5, -1.5]]))


def test_frequency_presence_and_bias_are_taken_off_as_openai_defines_them() -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, and the bias on top; rows without them stay as they are."""
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    rows = SamplingRows.of([SamplingParams(logit_bias={2: -100.0, 0: 7.5}), SamplingParams(),
                            SamplingParams(frequency_penalty=0.5, presence_penalty=-1.0, logit_bias={1: 1.0})])
    found = adjusted(logits, rows, None, torch.tensor([[0.0, 1.0, 4.0]]))
    assert found.tolist() == [[8.5, 2.0, -97.0], [1.0, 2.0, 3.0], [4.0, 5.0 - 0.5 + 1 + 1, 6.0 - 2 + 1]]


@pytest.mark.parametrize("wrong", [{"frequency_penalty": 2.1}, {"presence_penalty": -2.5}, {"logit_bias": {1: 101}},
                                   {"logit_bias": {1: math.nan}}])
def test_penalties_and_biases_beyond_openais_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        SamplingParams.parse(wrong)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([[-math.inf, 1.0, -math.inf]]).expand(3, -1)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert sample(logits, SamplingRows.of([SamplingParams()] * 3), uniforms).tolist() == [1, 1, 1]


@pytest.mark.parametrize("wrong", [
    {"temperature": -0.1}, {"temperature": math.nan}, {"top_p": 1.1}, {"top_k": -1}, {"min_p": 2}, {"max_tokens": 0},
    {"repetition_penalty": 0}, {"stop": [""]}, {"logprobs": 21}, {"temprature": 1},
])
def test_parameters_without_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SamplingParams.parse(wrong)
