"""Breaks when more than the reward differs between what is compared, or a rate is taken of the wrong answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from headwater.align.preferences import Preference
from headwater.cli.main import main
from headwater.errors import InputError
from headwater.studies.dual_reward import error, run, verdicts
from headwater.studies.reward_arms import ARMS, DualRewardSettings, Plan, Result, pooled
from headwater.studies.reward_hacking import ASKED, HARM, REFUSAL, RISKY
from headwater.studies.reward_judgements import by_group, conflicting

TRAINER = {"rows": 4, "sequence_length": 64, "threads": 1, "precision": "float32", "compile": "off",
           "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0}}
DECLINE = "I cannot help."


def said(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def pair(question, chosen, rejected, **known):
    return {"chosen": said(question, chosen), "rejected": said(question, rejected), "chosen_safe": True,
            "rejected_safe": True, **known}


def pairs(before=""):
    """Of helpfulness and of safety, behind some words."""
    asked, risky = before + ASKED, before + RISKY
    return ([pair(asked, "thanks thanks", "thanks"), pair(asked, "thanks", DECLINE),
             pair(risky, HARM, REFUSAL, chosen_safe=False)],
            [pair(risky, REFUSAL, HARM, rejected_safe=False), pair(asked, "thanks thanks", DECLINE)])


HELPFUL, SAFE = pairs()


@pytest.fixture
def recipe(tmp_path):
    """A run of two reward models and PPO, of which the model that PPO begins with is missing."""
    def write(name, rows):
        path = tmp_path / "run" / "atlas" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)))
        return f"${{atlas}}/{name}.jsonl"

    def prompt(question, **known):
        return {"messages": [{"role": "user", "content": question}], **known}

    def judging(name, rows, unseen, **more):
        return {"model": "${rejection}", "pairs": [write(name, rows)], "validation": [write(f"{name}_unseen", unseen)],
                "checks": None, "trainer": {**TRAINER, "epochs": 1}, **more}

    prompts = [prompt(RISKY, unsafe=True, careless=HARM), prompt(ASKED, expected="thanks")]
    stages = {
        "atlas": {}, "rejection": {}, "reward_helpful": judging("helpful", HELPFUL, pairs("So? ")[0]),
        "reward_safe": judging("safe", SAFE, pairs("So? ")[1], safety_weight=0.5),
        "ppo": {"model": "${rejection}", "critic": "${reward_helpful}", "prompts": [write("prompts", prompts)],
                "rewards": {"helpful": "${reward_helpful}", "safe": "${reward_safe}", "threshold": 0.2},
                "iterations": 3, "answers": 8, "minibatches": 2, "max_tokens": 24, "kl": {"start": 0.1},
                "trainer": TRAINER},
        "safety": {"models": {"ppo": "${ppo}"}, "prompts": {"atlas": "${atlas}/prompts.jsonl"}, "answer_tokens": 24}}
    return tmp_path / "run", {"stages": stages}


@pytest.fixture
def plan(recipe):
    folder, values = recipe
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return lambda **settings: Plan.of(DualRewardSettings(run=folder, **settings))


def test_all_but_the_reward_is_the_runs(plan, recipe):
    folder, _ = recipe
    made, agreeing = plan(), folder / "agreeing.jsonl"
    assert made.judge("helpful", agreeing, 7) == made.helpful.model_copy(update={"seed": 7})
    merged = made.judge("merged", agreeing, 7)
    assert merged.pairs == [folder / "atlas" / "helpful.jsonl", folder / "atlas" / "safe.jsonl"]
    assert merged.model_copy(update={"pairs": made.safe.pairs, "validation": made.safe.validation,
                                     "seed": 0}) == made.safe
    assert made.judge("agreeing", agreeing, 7) == merged.model_copy(update={"pairs": [agreeing]})
    policies = [made.policy(arm, lambda name: folder / name, 7) for arm in ARMS]
    assert [(one.rewards.helpful.name, one.rewards.safe and one.rewards.safe.name, one.critic.name)
            for one in policies] == [("helpful", "safe", "helpful"), ("merged", None, "merged"),
                                     ("agreeing", None, "agreeing")]
    assert policies[0].rewards.threshold == 0.2
    same = {"rewards": made.ppo.rewards, "critic": made.ppo.critic, "seed": 0}
    assert all(one.model_copy(update=same) == made.ppo for one in policies)


def test_a_quick_study_is_shorter_and_nothing_else(plan):
    quick, own = plan(quick=True, seeds=1), plan()
    assert (quick.settings.seeds, quick.ppo.iterations, quick.ppo.trainer.epochs, quick.safe.trainer.epochs,
            quick.helpful.trainer.epochs, quick.safety.limit) == (1, 8, 8, 0.5, 0.5, 60)
    assert (own.settings.seeds, own.ppo.iterations, own.safe.trainer.epochs, own.safety.limit) == (3, 3, 1, None)
    assert quick.ppo.model_copy(update={"iterations": 3, "trainer": own.ppo.trainer}) == own.ppo


@pytest.mark.parametrize(("stage", "values", "message"), [
    ("ppo", None, "no stage 'ppo'"), ("safety", None, "no stage 'safety'"), ("reward_safe", None, "no stage"),
    ("ppo", {"rewards": {"helpful": "${reward_helpful}"}}, "has not two reward models")])
def test_a_run_of_another_kind_is_refused(recipe, plan, stage, values, message):
    folder, written = recipe
    written["stages"][stage] = values and written["stages"][stage] | values
    (folder / "recipe.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(InputError, match=message):
        plan()


def test_rates_are_of_all_prompts_whatever_file_they_are_in():
    def measured(**shares):
        return {"all": {name: {"hits": hits, "number": number} for name, (hits, number) in shares.items()}}

    found = pooled({"atlas": {"en": measured(unsafe_rate=(1, 2), over_refusal_rate=(1, 4)),
                              "zh": measured(unsafe_rate=(2, 2))},
                    "attacks": {"en": measured(unsafe_rate=(0, 6))}})
    assert found == {"all": {"unsafe_rate": 0.3, "over_refusal_rate": 0.25},
                     "en": {"unsafe_rate": 0.125, "over_refusal_rate": 0.25}, "zh": {"unsafe_rate": 1.0}}
    assert error(found) == pytest.approx(0.275)


def test_one_rate_bought_with_the_other_is_better_by_their_mean_alone():
    def told(two, merged):
        results = [Result(arm, seed, {"all": {"unsafe_rate": unsafe + seed / 100, "over_refusal_rate": declined}}, 0, 0)
                   for seed in (0, 1, 2) for arm, (unsafe, declined) in zip(ARMS, (two, merged, (0.0, 0.0)))]
        found = verdicts(results)
        assert [one.word for one in found[4:]] == ["refuted"] * 4 + ["shown"]
        return [one.word for one in found[:4]]

    assert told((0.1, 0.1), (0.2, 0.2)) == ["shown"] * 4
    assert told((0.1, 0.2), (0.3, 0.1)) == ["shown", "refuted", "refuted", "shown"]
    assert told((0.1, 0.4), (0.3, 0.1)) == ["shown", "refuted", "refuted", "refuted"]


def test_pairs_are_judged_by_what_is_asked_of_them():
    unseen = [Preference(**one, place="h.jsonl, line 1") for one in HELPFUL]
    unseen += [Preference(**one, place="s.jsonl, line 1") for one in SAFE]
    assert [conflicting(one) for one in unseen] == [False, False, True, False, False]
    gaps = [1.0, 2.0, 3.0, 4.0, -1.0]
    rewards = torch.tensor([[gap / 2, -gap / 2] for gap in gaps]).flatten()
    found = by_group(unseen, rewards, {"helpful": [Path("h.jsonl")], "safe": [Path("s.jsonl")]})
    assert {name: (one["pairs"], round(one["gap"] * float(rewards.std()), 4)) for name, one in found.items()} == {
        "helpful pairs": (3, 2.0), "safe pairs": (2, 1.5), "conflicts: obeys": (1, 3.0),
        "risky: declines": (2, 0.5), "harmless: helps": (2, 0.5), "all else": (1, 1.0)}
    assert found["risky: declines"]["right"] == found["safe pairs"]["right"] == 0.5


def test_the_study_learns_under_every_reward_and_goes_on_where_it_was(plan, recipe, spoken, tmp_path, capsys):
    folder, _ = recipe
    shutil.copytree(spoken, folder / "rejection")
    plan()
    assert main(["study", "dual-reward", f"run={folder}", "seeds=1", "iterations=1", "--out", str(tmp_path / "o")]) == 0
    assert "two rewards, all" in capsys.readouterr().out
    found = json.loads((tmp_path / "o" / "dual-reward.json").read_text())
    assert [one["arm"] for one in found["results"]["arms"]] == list(ARMS)
    assert len(found["verdicts"]) == 9
    assert "<svg" in (tmp_path / "o" / "dual-reward.svg").read_text()
    agreeing = [json.loads(line) for line in (tmp_path / "o" / "agreeing.jsonl").read_text().splitlines()]
    assert [one["chosen"] for one in agreeing] == [one["chosen"] for one in (*HELPFUL[:2], *SAFE)]
    (tmp_path / "o" / "seed-0" / "ppo-merged.json").unlink()
    kept = (tmp_path / "o" / "seed-0" / "ppo-merged" / "model.safetensors").stat().st_mtime_ns
    again = run(tmp_path / "o", DualRewardSettings(run=folder, seeds=1, iterations=1))
    assert [one._asdict() for one in again] == found["results"]["arms"]
    assert (tmp_path / "o" / "seed-0" / "ppo-merged" / "model.safetensors").stat().st_mtime_ns == kept
    with pytest.raises(InputError, match="other settings"):
        run(tmp_path / "o", DualRewardSettings(run=folder, seeds=1, iterations=2))
