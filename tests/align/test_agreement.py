"""Breaks when a pair is counted in the wrong group, or a probe measures something else than it says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from headwater.align.agreement import judged, told
from headwater.align.pairs import read_pairs
from headwater.align.preferences import Preference
from headwater.align.probes import repetition, spearman
from headwater.align.reward_model import REWARD, RewardModel
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.progress import print_result
from headwater.tokenizer import Tokenizer


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_rank_correlations_are_scipys(values):
    one, other = (np.array(column, dtype=float) for column in zip(*values))
    wished = spearmanr(one, other).statistic if len(set(one)) > 1 and len(set(other)) > 1 else 0.0
    assert spearman(one, other) == pytest.approx(wished, abs=1e-9)


def test_repetition_is_the_share_of_runs_seen_before():
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)  # 123 231 312 123
    assert repetition([7] * 6) == pytest.approx(3 / 4)
    assert repetition([7, 7]) == 0


class Counting:
    """Judges by what an answer holds: one for each full stop."""

    def __init__(self, folder):
        model = load_model(folder)
        self.inner = RewardModel(model, TaskHead("regression", 64, [REWARD]), Tokenizer.load(folder))
        self.model, self.tokenizer, self.head = model, self.inner.tokenizer, self.inner.head

    def scores(self, dialogues):
        stops = torch.tensor([float(self.tokenizer.spell(ids).count(".")) for ids in dialogues])
        return stops * self.head.spread + self.head.mean


def pair(chosen, rejected, **known):
    asked = {"role": "user", "content": "Lake?"}
    return Preference([asked, {"role": "assistant", "content": chosen}],
                      [asked, {"role": "assistant", "content": rejected}], **known)


@pytest.fixture
def found(small_model):
    judge = Counting(small_model)
    preferences = 10 * [
        *[pair("a. b. c.", "a", rating="significantly better", domain="d1", place="x/one.json, row 1")] * 3,
        pair("a", "b.", rating="slightly better", domain="d1", place="x/one.json, row 2"),
        pair("a.", "c.", rating="slightly better", domain="d2", language="zh", place="x/two.json, row 1"),
        pair("b. c.", "c", domain="d2", language="zh", place="x/two.json, row 2", chosen_safe=True,
             rejected_safe=False)]
    pairs = read_pairs(preferences, judge.tokenizer, longest=64, together=64)
    return judge, pairs, judged(judge, pairs)


def test_accuracies_by_gap_language_domain_and_file(found):
    told = {by: {row["name"]: (row["pairs"], row["accuracy"]) for row in rows}
            for by, rows in found[2]["accuracy"].items()}
    assert told == {"all": {"all pairs": (60, 4.5 / 6)},  # equal rewards are half right
                    "gap": {"slightly better": (20, 0.25), "significantly better": (30, 1.0)},
                    "language": {"English": (40, 0.75), "Chinese": (20, 0.75)},
                    "domain": {"d1": (40, 0.75), "d2": (20, 0.75)},
                    "file": {"one.json": (40, 0.75), "two.json": (20, 0.75)}}
    assert [row["gap"] for row in found[2]["accuracy"]["gap"]] == [2, 4]
    assert found[2]["figures"]["accuracy.gap_4"] == 1


def test_the_head_has_the_scale_on_which_its_probabilities_come_true(found):
    judge, pairs, told = found
    scale = told["calibration"]["scale"]
    assert float(judge.head.spread[0]) == pytest.approx(scale)
    rewards = judge.scores([pair.chosen for pair in pairs])
    assert rewards.tolist() == pytest.approx([count * scale for count in (3, 3, 3, 0, 1, 2) * 10], rel=1e-5)
    assert scale != 1
    assert told["calibration"]["error"] <= 1
    assert told["safety"]["auc"] == 1


def test_what_a_reward_can_be_had_for_is_measured(found):
    judge, pairs, told = found
    probes = told["probes"]
    # "a. b. c." is longer than "a", "b." than "a", "b. c." than "c": the longer is preferred in 5 of 5.
    assert probes["longer_preferred"] == 1
    assert probes["longer_chosen"] == pytest.approx(4 / 5)
    assert probes["length"] > 0.8
    deviation = float(judge.scores([ids for one in pairs for ids in (one.chosen, one.rejected)]).std())
    scale = told["calibration"]["scale"]
    twice = probes["changes"]["twice"]  # chosen answers hold 3, 3, 3, 0, 1 and 2 stops
    assert twice["mean"] == pytest.approx(12 / 6 * scale / deviation, rel=1e-4)
    assert twice["raised"] == pytest.approx(5 / 6)
    assert probes["changes"]["flattery"]["raised"] == pytest.approx(1 / 3)  # one English opener of two has one


def test_the_tables_say_it_all(found, capsys):
    print_result(told(found[2]))
    shown = capsys.readouterr().out
    for words in ("gap 4: significantly better", "two.json", "Chinese", "Calibration by 60 pairs: rewards times",
                  "AUC 1.000", "The same answer behind flattery", "The same answer twice"):
        assert words in shown
    assert math.isfinite(found[2]["probes"]["repetition"])
