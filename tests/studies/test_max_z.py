"""Breaks when the top-p distribution or the distance between two is not what it is called, or pairs are mixed up."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.studies.max_z import MaxZSettings, Result, run, top_p, total_variation, verdicts


@given(st.lists(st.floats(-8, 8), min_size=3, max_size=20), st.floats(0.05, 0.999))
def test_top_p_keeps_the_smallest_set_that_has_the_mass(values, p):
    logits = torch.tensor([values], dtype=torch.float64)
    whole, kept = logits.softmax(-1)[0], top_p(logits, p)[0]
    chosen = kept > 0
    assert float(kept.sum()) == pytest.approx(1)
    assert float(whole[chosen].sum()) >= p - 1e-9
    assert float(whole[chosen].sum() - whole[chosen].min()) < p + 1e-9
    assert float(whole[chosen].min()) >= float(whole[~chosen].max() if (~chosen).any() else 0)


def test_total_variation_is_none_of_equal_distributions_and_one_of_disjoint_ones():
    left = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.7, 0.3, 0.0]])
    right = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6], [0.5, 0.5, 0.0]])
    assert total_variation(left, right).tolist() == pytest.approx([0, 1, 0.2])


def test_models_are_compared_with_those_of_their_seed():
    def results(cross_entropy, max_logit, moved):
        found = []
        for seed, base in enumerate((10.0, 20.0, 40.0)):
            found += [Result(0.0, seed, base, base, base),
                      Result(2e-4, seed, base * cross_entropy, base * max_logit, base * moved),
                      Result(9.0, seed, 1e9, 1e9, 1e9)]
        return [one.word for one in verdicts(found, 2e-4)]

    assert results(1.001, 0.5, 0.8) == ["shown"] * 3
    assert results(1.02, 0.9, 1.2) == ["refuted"] * 3


def test_the_study_trains_with_every_weight(tmp_path, small):
    found = run(tmp_path, MaxZSettings(**small, weights=(10.0,)))
    assert [(one.weight, one.seed) for one in found] == [(0, 0), (10, 0), (0, 1), (10, 1)]
    assert all(with_it.max_logit < without.max_logit for without, with_it in zip(found[::2], found[1::2]))
    assert "<svg" in (tmp_path / "max-z.svg").read_text()
    assert len(json.loads((tmp_path / "max-z.json").read_text())["verdicts"]) == 3
    assert run(tmp_path, MaxZSettings(**small, weights=(10.0,))) == found
