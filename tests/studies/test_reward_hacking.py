"""Breaks when what is compared is not what is said, or a flawed reward is not hacked where nothing holds the policy."""

from __future__ import annotations

import json
import shutil

import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.ppo_settings import KlSettings, PpoMethod
from headwater.studies import reward_hacking as study
from headwater.studies.reward_hacking import Before, Result, RewardHackingSettings, counted, liked, run, verdicts

BEFORE = Before(torch.tensor([0.4, 0.3, 0.15, 0.08, 0.05, 0.02], dtype=torch.float64))


def test_people_tire_where_the_count_goes_on():
    assert [liked(thanks) for thanks in (0, 4, 8, 10)] == [0, 1, 0, -1.25]
    assert [counted(thanks) for thanks in (1, 10, 11)] == [1, 10, 9]


@given(st.floats(0.05, 50), st.floats(0.05, 50))
def test_the_best_policy_goes_further_the_less_it_costs(one, other):
    cheap, dear = (BEFORE.best(beta) for beta in sorted((one, other)))
    assert cheap.kl >= dear.kl - 1e-9 >= -2e-9
    assert cheap.reward >= dear.reward - 1e-9


def test_no_policy_earns_more_at_its_price_than_the_best():
    beta, thanks = 1.5, torch.arange(1, 7, dtype=torch.float64)
    spread = float(((BEFORE.shares * thanks**2).sum() - (BEFORE.shares * thanks).sum() ** 2).sqrt())
    best = BEFORE.best(beta)
    for shift in torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 3:
        other = (BEFORE.shares.log() + thanks / spread / beta + shift).softmax(0)
        kl = float((other * (other / BEFORE.shares).log()).sum())
        assert float((other * thanks).sum()) / spread - beta * kl <= best.reward / spread - beta * best.kl + 1e-9


def test_runs_are_compared_with_those_of_their_seed():
    def results(free, held):
        found = []
        for seed, more in enumerate((0.0, 0.01)):
            for kind, (kl, reward, true, surprise) in {
                    "beta 0": free, "beta 1.5": held, "warm-up": (*held[:3], held[3] - 1), "helpful": (1, 1, 0.9, 1),
                    "combined": (1, 1, 0.1, 1)}.items():
                found.append(Result(kind, seed, [0.0] * 10 + [kl + more] * 10, [2.0] * 10 + [reward + more] * 10,
                                    [0.7] * 10 + [true + more] * 10, surprise + more))
        return [one.word for one in verdicts(found, (0.0, 1.5), 1.5, BEFORE)]

    best = BEFORE.best(1.5)
    assert results((9, 10, -1, 5), (best.kl, best.reward, best.true, 5)) == ["shown"] * 8
    assert results((0.1, 1, 0.9, 5), (3, 1, 0.1, 0)) == [*["refuted"] * 6, "shown", "shown"]


def test_a_flawed_reward_is_hacked_without_a_price_and_not_at_a_proper_one(spoken, tmp_path):
    settings = RewardHackingSettings(learning_rate=2e-3, iterations=14)
    found = {}
    for beta in (0.0, 1.5):
        method = PpoMethod(iterations=14, answers=48, minibatches=3, max_tokens=study.MOST, kl=KlSettings(start=beta))
        rows = study._learned(spoken, study.ASKED, study._rewards("beta"), method, settings, 0, tmp_path / str(beta))
        found[beta] = [{name: part["mean"] for name, part in row["reward"].items()} | {"kl": row["kl"]}
                       for row in rows]
    before, free, held = found[0.0][0], found[0.0][-1], found[1.5][-1]
    assert free["counted"] > 3 * before["counted"]
    assert free["liked"] < before["liked"] - 0.3
    assert held["liked"] > before["liked"] - 0.1
    assert held["kl"] < 0.3 * free["kl"]


def test_the_study_learns_at_every_price(spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "FIRST", 1)
    shutil.copytree(spoken, tmp_path / "model")
    settings = RewardHackingSettings(betas=(0.0, 6.0), seeds=1, iterations=10, answers=8, warmup=1)
    found = run(tmp_path, settings)
    assert [one.kind for one in found] == ["beta 0", "beta 6", "warm-up", "helpful", "combined"]
    assert "<svg" in (tmp_path / "reward-hacking.svg").read_text()
    assert len(json.loads((tmp_path / "reward-hacking.json").read_text())["verdicts"]) == 8
    assert run(tmp_path, settings) == found
