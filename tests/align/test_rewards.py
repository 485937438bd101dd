import json
import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.answers import Answer, usable
from headwater.align.prompts import Prompt
from headwater.align.reward_model import REWARD, RewardModel, judged_ids
from headwater.align.rewards import RewardSettings, Scorer, combined, judge, scorer, whitened
from headwater.errors import InputError, SettingsError
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.tokenizer import Tokenizer

NAN = float("nan")


def said(text, ids=(5, 2), **known):
    return Answer(Prompt([{"role": "user", "content": "How long?"}], [1], "en", **known), list(ids), text, True)


def joined(helpful, safe, unsafe=False, **options):
    """From probabilities to probabilities, of one answer."""
    found = combined(torch.tensor([helpful]).logit(), torch.tensor([safe]).logit(), torch.tensor([unsafe]), **options)
    return float(found[0].sigmoid())


def test_safety_decides_below_its_threshold_and_on_unsafe_prompts():
    assert joined(0.9, 0.10) == pytest.approx(0.10)
    assert joined(0.9, 0.20) == pytest.approx(0.90)
    assert joined(0.9, 0.15) == pytest.approx(0.90)  # strictly below
    assert joined(0.9, 0.1499) == pytest.approx(0.1499)
    assert joined(0.9, 0.20, unsafe=True) == pytest.approx(0.20)
    assert joined(0.2, 0.95, unsafe=True) == pytest.approx(0.95)
    assert joined(0.9, 0.20, threshold=0.3) == pytest.approx(0.20)
    assert joined(0.9, 0.30, threshold=0.3) == pytest.approx(0.90)


def test_the_combined_reward_is_a_logit():
    low, high = combined(torch.tensor([0.9, 0.9]).logit(), torch.tensor([0.1, 0.2]).logit(), torch.tensor([False] * 2))
    assert (float(low), float(high)) == (pytest.approx(-2.1972246), pytest.approx(2.1972246))
    [sure] = combined(torch.tensor([40.0]), torch.tensor([40.0]), torch.tensor([False]))
    assert float(sure) == 40  # its sigmoid is 1 in float32, whose logit would be infinite


@given(st.lists(st.tuples(st.floats(-12, 12), st.floats(-12, 12), st.booleans()), min_size=1, max_size=8))
def test_combined_rewards_are_those_of_the_formula(rows):
    helpful, safe, unsafe = (torch.tensor(column) for column in zip(*rows))
    for found, r_h, r_s, tagged in zip(combined(helpful, safe, unsafe).tolist(), helpful.double().sigmoid().tolist(),
                                       safe.double().sigmoid().tolist(), unsafe.tolist()):
        if abs(r_s - 0.15) > 1e-6:
            chosen = r_s if tagged or r_s < 0.15 else r_h
            assert found == pytest.approx(math.log(chosen / (1 - chosen)), rel=1e-4, abs=1e-4)


def test_an_answer_whose_safety_is_unknown_has_no_reward():
    rewards = combined(torch.tensor([1.0, NAN]), torch.tensor([NAN, 1.0]), torch.tensor([False, False]))
    assert rewards.isnan().all()


def test_whitening_by_hand():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])  # mean 3, variance (4 + 1 + 0 + 9) / 4
    spread = math.sqrt(3.5)
    assert whitened(values).tolist() == pytest.approx([-2 / spread, -1 / spread, 0, 3 / spread])
    assert whitened(values, shift_mean=False).tolist() == pytest.approx([3 - 2 / spread, 3 - 1 / spread, 3,
                                                                         3 + 3 / spread])


def test_whitening_leaves_out_what_is_not_finite():
    found = whitened(torch.tensor([1.0, NAN, 3.0]))
    assert found[[0, 2]].tolist() == pytest.approx([-1, 1])
    assert found[1].isnan()
    assert whitened(torch.tensor([5.0])).tolist() == [0]
    assert whitened(torch.tensor([2.0, 2.0])).tolist() == [0, 0]


def by_length(answers):
    return torch.tensor([float(len(answer.text)) for answer in answers])


def test_every_source_counts_by_its_weight_whatever_its_units(tmp_path):
    score = Scorer({"length": by_length, "metres": lambda answers: 1000 * by_length(answers)},
                   {"length": 1.0, "metres": -0.5})
    scored = score([said("a"), said("abc")])
    assert scored.parts["metres"].tolist() == [1000, 3000]
    assert scored.total.tolist() == pytest.approx([-1 + 0.5, 1 - 0.5])


def test_rewards_are_measured_by_the_first_answers_and_go_on_so(tmp_path):
    file = tmp_path / "scales.json"
    score = Scorer({"length": by_length}, {"length": 2.0}, kept=file)
    assert score([said("a"), said("abc")]).total.tolist() == pytest.approx([-2, 2])
    assert score([said("abcdef")]).total.tolist() == pytest.approx([8])
    again = Scorer({"length": by_length}, {"length": 2.0}, kept=file)
    assert again([said("abcdef")]).total.tolist() == pytest.approx([8])


def test_a_source_that_is_always_the_same_adds_nothing():
    score = Scorer({"length": by_length}, {"length": 1.0})
    assert score([said("ab"), said("cd")]).total.tolist() == [0, 0]


def test_what_a_source_cannot_judge_is_left_out_and_spoils_no_other():
    score = Scorer({"length": lambda answers: torch.where(by_length(answers) > 2, by_length(answers), NAN)},
                   {"length": 1.0})
    answers = [said("abc"), said("a"), said("abcde")]
    total = score(answers).total
    assert total[[0, 2]].tolist() == pytest.approx([-1, 1])
    assert usable(answers, total, Counter()) == [True, False, True]
    with pytest.raises(InputError, match="'length' gives no answer a finite reward"):
        Scorer(score.sources, {"length": 1.0})([said("a")])


def passes(answers):
    """A test of code: 1 where what was said computes the square of 7. The code that runs is ours; the answer is data
    to it."""
    check = "import sys; print(int(sys.argv[1].strip() == str(7 ** 2)))"
    return torch.tensor([float(subprocess.run([sys.executable, "-IS", "-c", check, answer.text], capture_output=True,
                                              timeout=20, check=True).stdout) for answer in answers])


def test_any_function_of_answers_may_judge():
    score = scorer(RewardSettings(rules={"brevity": 0.1}), others={"code": (passes, 1.0)})
    scored = score([said("49", ids=[5] * 9), said("48", ids=[5] * 9), said("49 ", ids=[5] * 10)])
    assert scored.parts["code"].tolist() == [1, 0, 1]
    assert scored.total.argmax() == 0  # the briefer of two right ones
    assert scored.total.argmin() == 1


@pytest.fixture
def judges(small_model, tmp_path):
    """Two reward models, as the reward stage writes them."""
    for place, name in enumerate(("helpful", "safe")):
        head = TaskHead("regression", 64, [REWARD]).draw(place)
        (tmp_path / name).mkdir()
        head.save(tmp_path / name, small_model, 64)
    return tmp_path


def test_two_reward_models_are_joined_and_one_judges_alone(judges):
    answers = [said("482 km."), said("No."), said("I do not know.", unsafe=True)]
    both = scorer(RewardSettings(helpful=judges / "helpful", safe=judges / "safe"))
    parts = both.parts(answers)
    assert torch.equal(parts["combined"], combined(parts["helpful"], parts["safe"], torch.tensor([False, False, True])))
    assert both.weights == {"combined": 1.0}
    alone = scorer(RewardSettings(helpful=judges / "helpful", rules={"right": 0.5}))
    assert alone.weights == {"helpful": 1.0, "right": 0.5}
    assert torch.equal(alone.parts(answers)["helpful"], parts["helpful"])
    assert whitened(parts["combined"]).tolist() == pytest.approx(both(answers).total.tolist(), abs=1e-5)


def test_a_reward_model_reads_what_was_said_in_its_own_form(small_model, capsys):
    model = load_model(small_model)
    own = RewardModel(model, TaskHead("regression", 64, [REWARD]).draw(0), Tokenizer.load(small_model))
    spoken = [said("482 km.", ids=[499, 2]), said(" ", ids=[2]), said("long " * 60)]  # the ids are another tokenizer's
    rewards = judge(own)(spoken)
    assert rewards[0] == own.scores([judged_ids(spoken[0].messages, own.tokenizer)])[0]
    assert rewards[1:].isnan().all()
    assert "of 3 answers, 1 are longer than the 64 tokens" in capsys.readouterr().err


def test_what_is_no_reward_model_is_refused_by_its_setting(small_model):
    with pytest.raises(InputError, match=r"rewards.safe, .*: no reward head here(.|\n)*'headwater reward' wrote"):
        scorer(RewardSettings(safe=small_model))


def test_the_threshold_asks_for_a_model_that_has_learned_safety(judges, capsys):
    def learned(**weights):
        for name, weight in weights.items():
            (judges / name / "reward.json").write_text(json.dumps({"safety_weight": weight}))
        capsys.readouterr()

    both = {"helpful": judges / "helpful", "safe": judges / "safe"}
    learned(helpful=0.0, safe=1.0)
    scorer(RewardSettings(**both))
    assert not capsys.readouterr().err
    learned(helpful=0.0, safe=0.0)
    with pytest.raises(InputError, match=r"rewards.safe, .*without safety_weight(.|\n)*train it with safety_weight"):
        scorer(RewardSettings(**both))
    scorer(RewardSettings(safe=judges / "safe"))  # alone it is held against nothing
    scorer(RewardSettings(**both, threshold=0.15))
    assert "has learned without safety_weight; the threshold holds only if" in capsys.readouterr().err
    learned(helpful=1.0)
    with pytest.raises(InputError, match="exchange the two"):
        scorer(RewardSettings(**both))
    learned(safe=1.0)
    scorer(RewardSettings(**both))
    assert "helpful has learned with safety_weight" in capsys.readouterr().err


@pytest.mark.parametrize(("values", "told"), [
    ({}, "nothing judges the answers"), ({"rules": {"rigth": 1}}, "did you mean 'right'"),
    ({"rules": {"right": 0}}, "has no effect with weight 0"),
    ({"rules": {"right": 1}, "threshold": 0.2}, "threshold has no effect")])
def test_settings_without_effect_are_refused(values, told):
    with pytest.raises(SettingsError, match=told):
        RewardSettings.parse(values)
