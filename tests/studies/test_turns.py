"""Breaks when the two ways are not given the same supervision, or an unseen dialogue was trained on."""

from __future__ import annotations

import json

import pytest

from headwater.artifacts import write_jsonl
from headwater.studies.turns import ARMS, Result, TurnsSettings, _read, run, verdicts
from headwater.train.packing import work


@pytest.fixture
def settings(small) -> TurnsSettings:
    return TurnsSettings(**{**small, "world": "tiny", "length": 256, "rows": 2, "steps": 4})


def test_both_ways_learn_the_same_tokens_of_dialogues_with_several_turns(settings, tmp_path):
    _, causal, prefix = _read(settings, tmp_path)
    whole, parted = work(causal.train), work(prefix.train)
    assert whole.targets == parted.targets
    assert parted.tokens > 1.3 * whole.tokens
    assert len(prefix.train) >= 2 * len(causal.train)
    assert not {tuple(ids) for ids, *_ in causal.train} & {tuple(ids) for ids, *_ in causal.held_out}


def test_the_study_trains_every_arm_once(settings, tmp_path, capsys):
    found = run(tmp_path, settings)
    assert [(one.arm, one.seed) for one in found] == [(arm, seed) for seed in (0, 1) for arm in ARMS]
    results = json.loads((tmp_path / "turns.json").read_text())["results"]
    assert results["tokens"]["prefix"] > results["tokens"]["causal"]
    assert "<svg" in (tmp_path / "turns.svg").read_text()
    assert run(tmp_path, settings) == found
    assert "times as many" in capsys.readouterr().out


def test_own_dialogues_are_read_from_files(settings, tmp_path):
    turns = [{"role": "user", "content": "How long is the Velna?"}, {"role": "assistant", "content": "482 km."}]
    write_jsonl(tmp_path / "own.jsonl", [{"messages": turns * 3}] * 25 + [{"messages": turns}] * 5)
    own = settings.model_copy(update={"dialogues": [tmp_path / "own.jsonl"]})
    _, causal, prefix = _read(own, tmp_path / "out")
    assert (len(causal.train), len(causal.held_out)) == (23, 2)
    assert (len(prefix.train), len(prefix.held_out)) == (69, 6)


def test_equal_tokens_and_equal_supervision_are_judged_apart():
    found = [Result(arm, seed, loss + seed) for seed in range(3)
             for arm, loss in zip(ARMS, (2.0, 1.9, 2.2))]
    assert [one.word for one in verdicts(found, 1.6)] == ["shown", "shown", "refuted"]
