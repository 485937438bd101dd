from __future__ import annotations

import pytest
import torch

from headwater.errors import InputError
from headwater.generate import Engine, likelihood
from headwater.model import Decoder, scoring

Pair = tuple[list[int], list[int]]


@pytest.fixture(scope="module")
def pairs(prompts: list[list[int]]) -> list[Pair]:
    """Contexts and continuations of many lengths; four continuations share each context."""
    return [(context, (continuation * 3)[: 1 + (n * 7) % 11]) for n, context in enumerate(prompts)
            for continuation in prompts[2:6]]


@torch.inference_mode()
def by_definition(model: Decoder, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    rows = model(torch.tensor([context + continuation]))[0, len(context) - 1 : -1].log_softmax(-1)
    chosen = rows[torch.arange(len(continuation)), continuation]
    return chosen.sum().item(), rows.argmax(-1).tolist() == continuation


def test_batched_likelihoods_equal_one_full_forward_per_pair(engine: Engine, model: Decoder, pairs: list[Pair]) -> None:
    for pair, found in zip(pairs, engine.log_likelihoods(pairs), strict=True):
        logprob, greedy = by_definition(model, *pair)
        assert found.logprob == pytest.approx(logprob, rel=1e-5, abs=1e-4)
        assert (found.greedy, found.tokens) == (greedy, len(pair[1]))


def test_small_batches_give_the_same(engine: Engine, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.log_likelihoods(pairs)
    monkeypatch.setattr(likelihood, "TOKENS", 40)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", {"cpu": 1000})
    monkeypatch.setattr(scoring, "FEWEST_ROWS", 2)
    for one, other in zip(whole, engine.log_likelihoods(pairs), strict=True):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-5, abs=1e-4)


def test_the_greedy_answer_is_recognised(engine: Engine, model: Decoder) -> None:
    context, answer = [20, 30, 40], []
    with torch.inference_mode():
        for _ in range(5):
            answer.append(int(model(torch.tensor([context + answer]))[0, -1].argmax()))
    wrong = [*answer[:-1], (answer[-1] + 1) % 300]
    assert [found.greedy for found in engine.log_likelihoods([(context, answer), (context, wrong)])] == [True, False]


def test_an_empty_context_is_the_beginning_of_text(engine: Engine) -> None:
    bos = engine.tokenizer.bos
    assert engine.log_likelihoods([([], [9, 10])]) == engine.log_likelihoods([([bos], [9, 10])])


def test_no_pairs_give_no_results(engine: Engine) -> None:
    assert engine.log_likelihoods([]) == []


def test_the_last_token_of_a_full_context_is_foretold_without_being_read(engine: Engine, model: Decoder) -> None:
    full = ([(7 * place) % 200 + 5 for place in range(95)], [6, 7])
    alone = engine.log_likelihoods([full])
    beside = engine.log_likelihoods([full, (full[0], [8, 9]), (full[0][:60], [6])])
    for found in (alone[0], beside[0]):
        assert found.logprob == pytest.approx(by_definition(model, *full)[0], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize(("pair", "message"), [
    (([5], []), "pair 1 has an empty continuation"), (([5] * 90, [6] * 8), "98 tokens; the context holds 96"),
    (([5], [10**6]), "outside the vocabulary"),
])
def test_bad_pairs_are_named(engine: Engine, pair: Pair, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.log_likelihoods([([5], [6]), pair])
