"""Breaks when the annotator is not the one that Bradley and Terry's model describes, or worlds are mixed up."""

import json

import pytest
import torch

from headwater.studies.reward_gap import END, Result, RewardGapSettings, judgements, run, verdicts

SMALL = RewardGapSettings(pairs=64, epochs=2, held_out=200, seeds=2, rows=4, threads=1)


def test_the_annotator_prefers_the_better_answer_as_often_as_bradley_and_terry_say():
    told = judgements(SMALL, 0, 40_000, 0)
    assert told.answers.shape == (40_000, 2, 13)
    assert (told.answers[..., -1] == END).all()
    assert told.gaps.bincount().tolist() == [0] + [8000] * 5
    by_gap = [float(told.right[told.gaps == gap].double().mean()) for gap in range(1, 6)]
    assert by_gap == sorted(by_gap)
    # Differences of deviation 1.2 and logistic noise: the mean of sigmoid(|d|), d normal.
    wished = torch.randn(400_000, generator=torch.Generator().manual_seed(0)).mul(1.2).abs().sigmoid().mean()
    assert float(told.right.double().mean()) == pytest.approx(float(wished), abs=0.01)


def test_worlds_differ_and_are_the_same_again():
    one, again, other, more = (judgements(SMALL, seed, 50, part) for seed, part in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert all(torch.equal(left, right) for left, right in zip(one, again))
    assert not torch.equal(one.answers, other.answers)
    assert not torch.equal(one.answers, more.answers)


def test_margins_are_compared_in_one_world():
    def told(large_first, large_last, rise):
        found = []
        for seed, base in enumerate((0.50, 0.55, 0.60)):
            row = [base + rise * gap for gap in range(5)]
            found += [Result("none", seed, row), Result("small", seed, [0.0] * 5),
                      Result("large", seed, [row[0] + large_first, *row[1:4], row[4] + large_last])]
        return [one.word for one in verdicts(found)]

    assert told(0.0, 0.01, 0.06) == ["shown"] * 4
    assert told(0.0, -0.01, -0.06) == ["refuted"] * 4


def test_the_study_trains_with_every_margin(tmp_path):
    found = run(tmp_path, SMALL)
    assert [(one.margins, one.seed) for one in found] == [
        (name, seed) for seed in (0, 1) for name in ("none", "small", "large", "best")]
    assert all(len(one.accuracy) == 5 for one in found)
    assert "<svg" in (tmp_path / "reward-gap.svg").read_text()
    assert len(json.loads((tmp_path / "reward-gap.json").read_text())["verdicts"]) == 4
    assert run(tmp_path, SMALL) == found
