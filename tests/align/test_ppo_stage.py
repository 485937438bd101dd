"""PPO from a model that says either of two words to one that says what is paid for."""

import json
import math

import pytest
import torch

from headwater import plan
from headwater.align.answers import Answer
from headwater.align.ppo_settings import PpoSettings
from headwater.align.ppo_stage import held_beside, run
from headwater.align.rollouts import Rollouts
from headwater.artifacts import hash_file
from headwater.errors import CheckpointError, HeadwaterError, InputError
from headwater.generate import Engine, SamplingParams
from headwater.model.checkpoint import read_config
from headwater.model.task_head import TaskHead
from headwater.model.tensors import read_tensors


def lake(answers: list[Answer]) -> torch.Tensor:
    return torch.tensor([float("lake" in one.text) for one in answers])


def learn(settings, out, source=lake):
    figures = run(PpoSettings.parse(settings), out, {"lake": (source, 1.0)})
    return figures, [json.loads(line) for line in (out / "iterations.jsonl").read_text().splitlines()]


def says_lake(folder, prompt, adapter=None):
    """The share of a hundred answers."""
    engine = Engine.load(folder, max_batch=50)
    ids = engine.tokenizer.chat.render([{"role": "user", "content": prompt}], add_generation_prompt=True).ids
    found = engine.generate([ids] * 100, [SamplingParams(max_tokens=8, seed=seed) for seed in range(100)])
    return sum("lake" in one.text for one in found) / 100


def test_the_better_of_two_arms_is_found(two_armed, asking, settled, tmp_path):
    figures, rows = learn(settled(two_armed, asking, validation=[asking]), tmp_path)
    assert 0.3 < says_lake(two_armed, "Which?") < 0.7
    assert says_lake(tmp_path, "Which?") > 0.9
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["kl"] == pytest.approx(math.log(2), abs=0.35)  # of one word that was one of two
    assert rows[-1]["reward"]["lake"]["mean"] > 0.9 > rows[0]["reward"]["lake"]["mean"]
    assert [row["iteration"] for row in rows] == list(range(1, 11))
    assert {"sampling", "scoring", "measuring", "updating"} == set(rows[-1]["seconds"])
    assert {"clip_share", "approx_kl", "value_loss", "entropy", "explained_variance"} <= set(rows[-1])
    assert figures["reward"] == rows[-1]["reward"]["total"]["mean"]
    assert {"before.reward.lake", "after.reward.lake", "after.length"} <= set(figures)
    assert (tmp_path / "critic" / "task.json").exists()


def test_adapters_beside_a_frozen_model_find_it_too(two_armed, asking, settled, tmp_path):
    given = settled(two_armed, asking, method="lora", trainer={"optimizer": {"learning_rate": 3e-3, "warmup_steps": 0,
                                                                             "schedule": "constant"}})
    _, rows = learn(given, tmp_path)
    assert rows[-1]["reward"]["lake"]["mean"] > 0.85
    assert says_lake(tmp_path, "Which?") > 0.85
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "critic" / "adapter_model.safetensors").exists()


def test_a_price_on_leaving_the_reference_keeps_the_policy_where_both_are_in_balance(
        two_armed, asking, settled, tmp_path):
    _, free = learn(settled(two_armed, asking), tmp_path / "free")
    _, held = learn(settled(two_armed, asking, kl={"start": 3.0}), tmp_path / "held")
    assert sum(row["kl"] for row in held[5:]) < 0.3 * sum(row["kl"] for row in free[5:])
    # The best policy is that before times exp(reward / beta); the reward is 1 / spread = 2 higher for the one word.
    best = 1 / (1 + math.exp(-2 / 3))
    assert sum(row["reward"]["lake"]["mean"] for row in held[5:]) / 5 == pytest.approx(best, abs=0.12)


def test_while_the_critic_warms_up_the_policy_does_not_move(two_armed, asking, settled, tmp_path):
    _, rows = learn(settled(two_armed, asking, iterations=4, passes=2, critic_warmup=15,
                            trainer={"checkpoint_seconds": 1e-9}), tmp_path)
    assert [row["kl"] for row in rows] == pytest.approx([0] * 4, abs=1e-5)
    assert all("ratio" not in row for row in rows[:3])
    checkpoint = tmp_path / "checkpoints" / "step-00000015"
    tensors = {}
    for file in checkpoint.glob("*.safetensors"):
        tensors |= read_tensors(file)
    before = read_tensors(two_armed / "model.safetensors")
    assert torch.equal(tensors["weight:model.embedding.weight"], before["model.embed_tokens.weight"])
    assert torch.equal(tensors["weight:model.blocks.1.feedforward.down.weight"],
                       before["model.layers.1.mlp.down_proj.weight"])
    assert hash_file(tmp_path / "model.safetensors") != hash_file(two_armed / "model.safetensors")  # by the last step
    gains = [row["advantage_variance"] for row in rows]
    assert gains[-1] < 0.9 * gains[0]  # of the same policy: what the critic knows is no surprise any more


def test_what_cannot_be_learned_from_is_counted_and_the_run_goes_on(two_armed, asking, settled, tmp_path):
    def moody(answers):
        found = lake(answers)
        found[::3] = float("nan")
        return found

    _, rows = learn(settled(two_armed, asking, iterations=2, temperature=2.0, max_tokens=5), tmp_path, moody)
    for row in rows:
        assert row["answers"] == 32
        assert row["left_out"]["answers whose reward is no finite number"] > 3
    assert sum(row["left_out"].get("answers that did not end in the room given", 0) for row in rows) > 3
    assert rows[-1]["ratio"] == pytest.approx(1, abs=0.2)


def test_an_iteration_of_nothing_to_learn_from_is_an_error_that_says_why(two_armed, asking, settled, tmp_path):
    with pytest.raises(HeadwaterError, match=r"of 32 answers of iteration 1 none .* 32 answers that did not end"):
        learn(settled(two_armed, asking, max_tokens=1), tmp_path / "short")
    with pytest.raises(InputError, match="'lake' gives no answer a finite reward"):
        learn(settled(two_armed, asking), tmp_path / "nan", lambda answers: torch.full((len(answers),), float("nan")))


def test_answers_that_are_gone_are_not_made_up(two_armed, asking, settled, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    whole = Rollouts.batch

    def stopping(self, step, rank=0, ranks=1):
        if step == 3:
            raise Stopped
        return whole(self, step, rank, ranks)

    given = settled(two_armed, asking, iterations=2, trainer={"checkpoint_seconds": 1e-9})
    with monkeypatch.context() as patch:
        patch.setattr(Rollouts, "batch", stopping)
        with pytest.raises(Stopped):
            learn(given, tmp_path)
    (tmp_path / "rollouts" / "00001.safetensors").unlink()
    with pytest.raises(CheckpointError, match="in the middle of iteration 2, whose answers are gone"):
        learn(given, tmp_path)


def test_only_answers_that_a_checkpoint_may_need_stay_on_the_disk(two_armed, asking, settled, tmp_path):
    learn(settled(two_armed, asking, answers=8, iterations=8, trainer={"checkpoint_seconds": 1e-9}), tmp_path)
    kept = sorted(path.stem for path in (tmp_path / "rollouts").glob("*.safetensors"))
    assert kept[-1] == "00007"
    assert len(kept) <= 4
    assert len(list((tmp_path / "rollouts").glob("*.json"))) == 8


def test_a_rule_that_can_judge_nothing_stops_the_run_before_it_samples(two_armed, asking, settled, tmp_path):
    with pytest.raises(InputError, match=r"rewards\.rules\.careful: the rule can judge no answer"):
        learn(settled(two_armed, asking, rewards={"rules": {"careful": 1}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused(two_armed, asking, settled, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process samples and judges"):
        run(PpoSettings.parse(settled(two_armed, asking)), tmp_path)


def test_every_model_beside_the_policy_is_counted(two_armed, asking, settled, small_model, tmp_path):
    TaskHead("regression", 64, ["reward"]).save(tmp_path / "judge", small_model, 64)
    policy, judge = read_config(two_armed)[0], read_config(small_model)[0]
    # keys and values of 32 answers, 64 tokens each, in 2 layers of 32 numbers
    cache = 32 * 64 * 2 * 2 * 32 * 4
    one, other = (4 * plan.parameters(config) for config in (policy, judge))
    rewards = {"helpful": tmp_path / "judge", "safe": tmp_path / "judge"}
    full = PpoSettings.parse(settled(two_armed, asking, rewards=rewards, critic=tmp_path / "judge"))
    assert held_beside(full, policy) == ((judge,), cache + 2 * one + 2 * other)
    lora = PpoSettings.parse(settled(two_armed, asking, method="lora"))
    assert held_beside(lora, policy) == ((), cache + one)
