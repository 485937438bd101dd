"""Contexts that begin alike, read behind what they share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.generate import Engine, likelihood, shared_context
from headwater.generate.shared_context import SHARED, families
from headwater.model.prefix import Prefix, PrefixSettings

GENERATOR = torch.Generator().manual_seed(5)


def tokens(count: int) -> list[int]:
    return torch.randint(8, 300, (count,), generator=GENERATOR).tolist()


def few_shot() -> list[tuple[list[int], list[int]]]:
    """Two subjects of five questions, each with answers of one token and of several."""
    answers = [tokens(1), tokens(1), tokens(4), tokens(2)]
    return [(shots + tokens(2 + 3 * number), answer) for shots in (tokens(40), tokens(33))
            for number in range(5) for answer in answers]


def alone(engine: Engine, pairs: list[tuple[list[int], list[int]]], monkeypatch: pytest.MonkeyPatch) -> list:
    with monkeypatch.context() as patched:
        patched.setattr(shared_context, "covers", lambda config: False)
        return engine.log_likelihoods(pairs)


@pytest.mark.parametrize("row", [4096, 60])
@pytest.mark.parametrize("tuned", [False, True])
def test_they_are_as_likely_as_alone(make_model, trained, monkeypatch: pytest.MonkeyPatch, row: int,
                                     tuned: bool) -> None:
    model = make_model()
    if tuned:
        model.prefix = Prefix(model.config, PrefixSettings(length=5))
    engine, pairs = Engine(model, trained), few_shot()
    monkeypatch.setattr(shared_context, "TOKENS", row)
    for found, wanted in zip(engine.log_likelihoods(pairs), alone(engine, pairs, monkeypatch), strict=True):
        assert found.logprob == pytest.approx(wanted.logprob, rel=1e-5, abs=1e-4)
        assert (found.greedy, found.tokens) == (wanted.greedy, wanted.tokens)


def test_what_is_shared_is_read_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, read = few_shot(), []
    whole = type(engine.model).hidden

    def counted(model, ids, *args, **kwargs):
        read.append(ids.numel())
        return whole(model, ids, *args, **kwargs)

    monkeypatch.setattr(type(engine.model), "hidden", counted)
    monkeypatch.setattr(likelihood, "_score", None)  # nothing is left for it
    engine.log_likelihoods(pairs)
    own = sum(len(context) - shots for context, shots in zip([pair[0] for pair in pairs[::4]], [40] * 5 + [33] * 5))
    assert sum(read) <= 73 + 4 * own + 2 * 10 * 4 + 2 * 64


@pytest.mark.parametrize("position", ["alibi", "none"])
def test_other_positions_give_the_same(make_model, trained, monkeypatch: pytest.MonkeyPatch, position: str) -> None:
    engine, pairs = Engine(make_model(position=position), trained), few_shot()
    for found, wanted in zip(engine.log_likelihoods(pairs), alone(engine, pairs, monkeypatch), strict=True):
        assert found.logprob == pytest.approx(wanted.logprob, rel=1e-5, abs=1e-4)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9).map(tuple), max_size=9), st.integers(1, 4))
def test_a_family_begins_alike_and_none_is_in_two(contexts: list[tuple[int, ...]], fewest: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_context, "SHARED", fewest)
        found = list(families(contexts))
    members = [context for _, family in found for context in family]
    assert len(members) == len(set(members))
    assert set(members) <= set(contexts)
    for shared, family in found:
        assert shared >= fewest
        assert len(family) > 1
        assert len({context[:shared] for context in family}) == 1
        assert all(len(context) > shared for context in family)


def test_subjects_are_families_of_their_own() -> None:
    first, second, odd = tokens(50), tokens(60), tokens(70)
    contexts = [tuple(shots + tokens(9)) for shots in (first, second) for _ in range(6)]
    found = {len(family): shared for shared, family in families([*contexts, tuple(odd)])}
    assert found.keys() == {6}
    sizes = sorted(shared for shared, _ in families([*contexts, tuple(odd)]))
    assert sizes[0] >= 50 > SHARED
    assert sizes[1] >= 60
