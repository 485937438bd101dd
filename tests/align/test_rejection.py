import json
import shutil

import pytest
import torch

from headwater.align import candidates
from headwater.align.answers import Answer, read_answers
from headwater.align.candidates import Candidate, best_of
from headwater.align.prompts import Prompt
from headwater.align.rejection import RejectionSettings, run
from headwater.dialogues.reading import read_dialogues
from headwater.errors import InputError, SettingsError
from headwater.folders import is_adapter
from headwater.generate import Engine
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.tokenizer import Tokenizer

TRAINER = {"rows": 2, "sequence_length": 48, "threads": 1, "precision": "float32", "compile": "off", "epochs": 15,
           "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2}}
ASKED = ["How long?", "多长?", "The river", "湖"]


def write(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def sampling(small_model, tmp_path):
    """Random weights end an answer sooner or later: twelve tokens are often enough."""
    prompts = write(tmp_path / "p.jsonl", *({"messages": [{"role": "user", "content": one}]} for one in ASKED))
    return {"model": small_model, "prompts": [prompts], "answers": 24, "temperature": 1.0, "max_tokens": 12,
            "rewards": {"rules": {"brevity": 1}}, "tune": False}


def test_the_best_usable_answer_of_every_prompt_is_kept(sampling, tmp_path):
    figures = run(RejectionSettings.parse(sampling), tmp_path / "out")
    answers, best = read(tmp_path / "out" / "answers.jsonl"), read(tmp_path / "out" / "best.jsonl")
    found = json.loads((tmp_path / "out" / "rejection.json").read_text())
    assert len(answers) == figures["answers"] == 4 * 24
    assert figures["best"] == len(best) == 4 - figures["without_usable_answer"]
    assert sum(found["left_out"].values()) == sum(not one["ended"] or not one["text"].strip() for one in answers)
    for one in best:
        place = ASKED.index(one["messages"][0]["content"])
        own = [answer for answer in answers if answer["prompt"] == place and answer["ended"] and answer["text"].strip()]
        assert one["reward"] == max(answer["reward"] for answer in own)
    assert found["curves"]["max"][-1] == pytest.approx(figures["best_reward"])
    assert found["curves"]["max"][0] < found["curves"]["max"][3] < found["curves"]["max"][-1]
    assert [dialogue.language for dialogue in read_dialogues([tmp_path / "out" / "best.jsonl"])] == [
        "en", "zh", "en", "zh"][: len(best)]


def test_a_prompt_whose_best_answer_is_worth_too_little_teaches_nothing(sampling, tmp_path, capsys):
    run(RejectionSettings.parse(sampling), tmp_path / "all")
    rewards = sorted(one["reward"] for one in read(tmp_path / "all" / "best.jsonl"))
    least = (rewards[0] + rewards[-1]) / 2
    figures = run(RejectionSettings.parse({**sampling, "least_reward": least}), tmp_path / "out")
    kept = [one["reward"] for one in read(tmp_path / "out" / "best.jsonl")]
    assert sorted(kept) == [one for one in rewards if one >= least]
    assert 0 < len(kept) < len(rewards)
    assert figures["worth_less"] == len(rewards) - len(kept)
    assert f"of {len(rewards)} best answers, {len(rewards) - len(kept)} are worth less" in capsys.readouterr().err
    with pytest.raises(InputError, match=f"no answer is worth 99, the best one {rewards[-1]:.3g}"):
        run(RejectionSettings.parse({**sampling, "least_reward": 99}), tmp_path / "none")


def test_sampling_that_was_stopped_goes_on_with_the_same_answers(sampling, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "AT_ONCE", 24)  # a portion for each prompt
    run(RejectionSettings.parse(sampling), tmp_path / "whole")
    sample, asked = candidates.sample_answers, []

    def stopped(engine, prompts, *rest, **options):
        asked.append(len(prompts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return sample(engine, prompts, *rest, **options)

    monkeypatch.setattr(candidates, "sample_answers", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(RejectionSettings.parse(sampling), tmp_path / "halves")
    run(RejectionSettings.parse(sampling), tmp_path / "halves")
    assert len(asked) == 3 + 2  # the first two portions were kept
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "halves").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes()


def test_tuning_on_the_best_answers_raises_rewards_of_unseen_prompts(sampling, tmp_path):
    unseen = write(tmp_path / "v.jsonl", *({"messages": [{"role": "user", "content": one}]}
                                           for one in ("A lake", "城市", "Rivers", "河") * 4))
    settings = RejectionSettings.parse({**sampling, "tune": True, "validation": [unseen], "trainer": TRAINER})
    figures = run(settings, tmp_path / "out")
    assert figures["after.reward"] > figures["before.reward"]
    assert figures["after.left_out"] < figures["before.left_out"]
    again = run(settings, tmp_path / "out")  # finished: only what is measured afterwards is measured again
    same = [name for name in figures if "memory" not in name]
    assert {name: again[name] for name in same} == {name: figures[name] for name in same}


def test_what_one_model_answers_another_learns_in_an_adapter(sampling, tmp_path):
    settings = RejectionSettings.parse({**sampling, "sampler": sampling["model"], "answers": 6, "tune": True,
                                        "method": "lora", "trainer": {**TRAINER, "epochs": 1}})
    run(settings, tmp_path / "out")
    assert is_adapter(tmp_path / "out")
    before, after = load_model(sampling["model"]), load_model(tmp_path / "out")
    assert not torch.equal(before.blocks[0].attention.qkv.weight, after.blocks[0].attention.qkv.weight)


def test_answers_of_earlier_rounds_compete_by_the_present_rewards(sampling, tmp_path, capsys):
    run(RejectionSettings.parse(sampling), tmp_path / "out")
    new = read(tmp_path / "out" / "best.jsonl")
    better = {**new[0], "messages": [*new[0]["messages"][:-1], {"role": "assistant", "content": "7"}], "reward": -99.0}
    worse = {**new[1], "messages": [*new[1]["messages"][:-1], {"role": "assistant", "content": "The river Velna " * 4}],
             "reward": 99.0}
    other = {"messages": [{"role": "user", "content": "Another"}, {"role": "assistant", "content": "Yes."}]}
    earlier = write(tmp_path / "earlier.jsonl", better, worse, other)
    figures = run(RejectionSettings.parse({**sampling, "earlier": [earlier]}), tmp_path / "again")
    assert "3 answers of earlier rounds competed, and " in capsys.readouterr().err
    found = {one["messages"][0]["content"]: one["messages"][-1]["content"]
             for one in read(tmp_path / "again" / "best.jsonl")}
    assert found[ASKED[1]] == new[1]["messages"][-1]["content"]
    assert found["Another"] == "Yes."
    assert figures["from_earlier_rounds"] == 1 + (found[ASKED[0]] == "7")
    assert (found[ASKED[0]] == "7") is (len(Tokenizer.load(sampling["model"]).encode("7")) + 1 < min(
        len(one["ids"]) for one in read(tmp_path / "again" / "answers.jsonl")
        if one["prompt"] == 0 and one["ended"] and one["text"].strip()))


def test_of_equal_answers_the_first_is_the_best():
    prompt = Prompt([{"role": "user", "content": "a"}], [1], "en")
    first, second, third = (Candidate(Answer(prompt, [2], text, True), reward)
                            for text, reward in (("x", 1.0), ("y", 2.0), ("z", 2.0)))
    assert best_of([first, second, third]) == [second]


def test_a_rule_that_can_judge_nothing_stops_the_run_before_it_samples(sampling, tmp_path):
    with pytest.raises(InputError, match=r"rewards\.rules\.right: the rule can judge no answer"):
        run(RejectionSettings.parse({**sampling, "rewards": {"rules": {"right": 1}}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_reward_model_answers_nobody(sampling, small_model, tmp_path):
    shutil.copytree(small_model, tmp_path / "reward")
    TaskHead("regression", 64, ["reward"]).save(tmp_path / "reward", tmp_path / "reward", 64)
    for changed in ({"sampler": tmp_path / "reward"}, {"model": tmp_path / "reward", "tune": True, "trainer": TRAINER}):
        with pytest.raises(InputError, match="no model to talk to"):
            run(RejectionSettings.parse({**sampling, **changed}), tmp_path / "out")
    with pytest.raises(InputError, match="no model to talk to"):
        Engine.load(tmp_path / "reward")


def test_nothing_to_learn_from_is_said(sampling, tmp_path):
    with pytest.raises(InputError, match="no prompt has an answer that can be learned from"):
        run(RejectionSettings.parse({**sampling, "answers": 2, "max_tokens": 1}), tmp_path / "out")
    with pytest.raises(InputError, match="leave no room for a prompt"):
        run(RejectionSettings.parse({**sampling, "max_tokens": 64}), tmp_path / "out2")


def test_earlier_answers_without_an_answer_are_refused(small_model, tmp_path):
    file = write(tmp_path / "e.jsonl", {"messages": [{"role": "user", "content": "a"}]})
    with pytest.raises(InputError, match="ends with an answer") as error:
        read_answers([file], Tokenizer.load(small_model))
    assert "line 1" in str(error.value)


@pytest.mark.parametrize(("values", "told"), [
    ({"tune": True}, "'trainer' is required"), ({"trainer": TRAINER}, "trainer has no effect with tune=false"),
    ({"rewards": {}}, "nothing judges"),
    ({"tune": True, "trainer": TRAINER, "lora": {"rank": 2}}, "lora has no effect with method full")])
def test_settings_without_effect_are_refused(values, told):
    with pytest.raises(SettingsError, match=told):
        RejectionSettings.parse({"prompts": ["p"], "rewards": {"rules": {"right": 1}}, "tune": False, **values})
