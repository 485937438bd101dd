"""Breaks when a reward is learned from anything but the pairs, or is not the same after a stop."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from headwater.align.pairs import ReadPair, packed
from headwater.align.preferences import Preference
from headwater.align.ranking import Ranking
from headwater.align.reward import RewardStageSettings, run
from headwater.align.reward_model import REWARD, RewardModel, judged_ids
from headwater.cli.main import main
from headwater.compress.quantize import QuantizeSettings
from headwater.compress.quantize import run as quantize
from headwater.errors import InputError, SettingsError
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead

TRAINER = {"rows": 4, "sequence_length": 96, "threads": 1, "precision": "float32", "compile": "off",
           "optimizer": {"learning_rate": 5e-3, "warmup_steps": 2}}
GOOD, BAD = ["482 km.", "120 m.", "Mount Taro."], ["I hate you.", "Go away.", "No idea."]


def said(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def rows(count=24, **known):
    return [{"chosen": said(f"Lake {number}?", GOOD[number % 3]), "rejected": said(f"Lake {number}?", BAD[number % 3]),
             **known} for number in range(count)]


def write(path, lines):
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def settings(small_model, pairs, **values):
    trainer = {**TRAINER, "epochs": 6, **values.pop("trainer", {})}
    return RewardStageSettings.parse({"model": small_model, "pairs": [pairs], "validation_share": 0.3,
                                      "trainer": trainer, **values})


@pytest.mark.parametrize("how", [{}, {"frozen_blocks": 1}, {"method": "lora"}, {"method": "lora", "base": "nf4"},
                                 {"method": "head"}])
def test_what_is_preferred_has_the_higher_reward_when_loaded_again(small_model, tmp_path, how):
    pairs = write(tmp_path / "p.jsonl", rows(rating="better"))
    figures = run(settings(small_model, pairs, margins="small", **how), tmp_path / "out")
    assert figures["accuracy"] == 1
    assert figures["accuracy_low"] < 1 == figures["accuracy_high"]
    judge = RewardModel.load(tmp_path / "out")
    good, bad = judge.scores([judged_ids(said("Lake 99?", answer), judge.tokenizer) for answer in (GOOD[0], BAD[0])])
    assert good > bad
    told = json.loads((tmp_path / "out" / "reward.json").read_text())
    assert told["held_back"] == figures["held_back"] == told["accuracy"]["gap"][0]["pairs"]
    assert told["accuracy"]["gap"][0]["gap"] == 3
    assert told["calibration"]["scale"] == pytest.approx(float(judge.head.spread[0]))
    assert (tmp_path / "out" / "model.safetensors").exists() == ("method" not in how)


def test_unsafe_answers_fall_below_the_threshold_where_labels_say_so(small_model, tmp_path):
    lines = rows(chosen_safe=True, rejected_safe=False)
    figures = run(settings(small_model, write(tmp_path / "p.jsonl", lines), safety_weight=1.0,
                           trainer={"epochs": 12}), tmp_path / "out")
    told = json.loads((tmp_path / "out" / "reward.json").read_text())
    assert figures["safety_auc"] == told["safety"]["accuracy"] == 1
    assert told["calibration"]["by"] == "safety"
    judge = RewardModel.load(tmp_path / "out")
    rewards = judge.scores([judged_ids(said("Lake 99?", answer), judge.tokenizer) for answer in (GOOD[0], BAD[0])])
    assert rewards[0] > 0 > rewards[1]


@pytest.mark.parametrize(("values", "words"), [
    ({"margins": "large"}, "margins large have no effect"), ({"safety_weight": 1.0}, "safety_weight has no effect"),
    ({"trainer": {"sequence_length": 24}}, "no pair fits"), ({"frozen_blocks": 99}, "^frozen_blocks: ")])
def test_what_cannot_work_is_refused(small_model, tmp_path, values, words):
    with pytest.raises(InputError, match=words):
        run(settings(small_model, write(tmp_path / "p.jsonl", rows(4)), **values), tmp_path / "out")


def test_labels_of_one_kind_teach_no_safety(small_model, tmp_path):
    lines = rows(4, chosen_safe=True, rejected_safe=True)
    with pytest.raises(InputError, match="every answer with a label is safe"):
        run(settings(small_model, write(tmp_path / "p.jsonl", lines), safety_weight=1.0), tmp_path / "out")


def test_rewards_that_no_pair_was_held_back_for_are_said_not_to_be_calibrated(small_model, tmp_path, capsys):
    run(settings(small_model, write(tmp_path / "p.jsonl", rows(4)), validation_share=None,
                 trainer={"epochs": None, "steps": 1}), tmp_path / "out")
    assert "the rewards are not calibrated" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{"method": "head", "frozen_blocks": 1}, {"base": "nf4"}, {"margins": "huge"},
                                    {"method": "full", "lora": {"rank": 2}}, {"safety_weight": -1}])
def test_settings_without_effect_are_refused(small_model, tmp_path, values):
    with pytest.raises(SettingsError):
        settings(small_model, write(tmp_path / "p.jsonl", rows(4)), **values)


FAMILIES = sorted(["baichuan1_7b", "baichuan2_13b", "chatglm2_6b", "chatglm3_6b", "chatglm_6b", "glm4_0414", "glm4_9b",
                   "glm_10b", "llama2_gqa", "llama_mha", "llama_rope_yarn"])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_learns_from_a_pair(shared, trained, name):
    model = load_model(shared / "vectors" / name, dtype=torch.float32)
    model.requires_grad_(True)
    marks = [model.config.prefix_ids[0], model.config.prefix_ids[-1]] if model.config.prefix_ids else []
    preferences = [Preference(said("a", "b"), said("a", "c"), "better", True, False)] * 2
    pairs = [ReadPair(one, [20, 21, *marks, 22 + place, 9], [20, 21, *marks, 40, 41, 9])
             for place, one in enumerate(preferences)]
    objective = Ranking(TaskHead("regression", model.config.hidden_size, [REWARD]).draw(0), preferences, "large", 0.5)
    batch = packed(pairs, trained, model.config, rows=2, length=24, seed=0).batch(0)
    outcome = objective(model, batch, 4)
    outcome.loss.backward()
    unused = {"head.weight"} - ({"embedding.weight"} if model.config.tie_word_embeddings else set())
    for key, one in (*model.named_parameters(), *objective.named_parameters()):
        if one.grad is None:
            assert key in unused, key
        else:
            assert one.grad.isfinite().all(), key
    assert objective.head.weight.grad.abs().max() > 0
    judge = RewardModel(model, objective.head, trained)
    rewards = judge.scores([ids for pair in pairs for ids in (pair.chosen, pair.rejected)])
    asked = Ranking(objective.head, preferences, "large", 0.5)
    gaps = rewards[::2] - rewards[1::2]
    wished = -torch.nn.functional.logsigmoid(gaps - 2).mean() - 0.5 * torch.nn.functional.logsigmoid(
        torch.stack([rewards[::2], -rewards[1::2]])).mean()
    with torch.no_grad():
        assert float(asked(model, batch, 4).loss) == pytest.approx(float(wished), abs=2e-4)


def test_a_reward_model_is_judged_by_other_pairs_and_stays_as_it_is(small_model, tmp_path, capsys):
    pairs = write(tmp_path / "p.jsonl", rows())
    run(settings(small_model, pairs), tmp_path / "out")
    before = (tmp_path / "out" / "task.safetensors").read_bytes()
    turned = [{"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows(6)]
    other = write(tmp_path / "o.jsonl", turned)
    assert main(["reward", "judge", str(tmp_path / "out"), f"pairs=[{other}]", "--out", str(tmp_path / "told")]) == 0
    assert "0.0%" in capsys.readouterr().out
    assert main(["reward", "judge", str(tmp_path / "out"), f"pairs=[{pairs}]", "--out", str(tmp_path / "told")]) == 2
    assert "another judgement, of other pairs" in capsys.readouterr().err
    assert main(["reward", "judge", str(tmp_path / "out"), f"pairs=[{other}]", "--out", str(tmp_path / "out")]) == 2
    assert "there is a reward.json that is of no judgement" in capsys.readouterr().err
    told = json.loads((tmp_path / "told" / "reward.json").read_text())
    assert told["accuracy"]["all"][0]["accuracy"] == 0
    assert (tmp_path / "out" / "task.safetensors").read_bytes() == before


WORDS = {"validation_share": 0.3, "seed": 3}


def command(small_model, pairs, trainer):
    return [sys.executable, "-m", "headwater", "reward", f"model={small_model}", f"pairs=[{pairs}]",
            *(f"{name}={value}" for name, value in WORDS.items()), f"trainer={json.dumps(trainer)}"]


def test_a_killed_run_goes_on_to_the_same_bytes(small_model, tmp_path):
    pairs = write(tmp_path / "p.jsonl", rows())
    trainer = {**TRAINER, "steps": 40, "log_every": 1, "checkpoint_seconds": 0.05}
    process = subprocess.Popen([*command(small_model, pairs, trainer), "--out", tmp_path / "killed"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 8):
        time.sleep(0.01)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "reward.json").exists()
    asked = RewardStageSettings.parse({"model": small_model, "pairs": [pairs], "trainer": trainer, **WORDS})
    for name in ("killed", "whole"):
        run(asked, tmp_path / name)
    for name in ("reward.json", "task.safetensors", "model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_two_processes_learn_the_same_judgement(small_model, tmp_path):
    pairs, trainer = write(tmp_path / "p.jsonl", rows()), {**TRAINER, "epochs": 2}
    words = command(small_model, pairs, trainer)
    done = subprocess.run([words[0], "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *words[1:],
                           "--out", str(tmp_path / "two")], check=False, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    run(RewardStageSettings.parse({"model": small_model, "pairs": [pairs], "trainer": trainer, **WORDS}),
        tmp_path / "one")
    one, both = (RewardModel.load(tmp_path / name) for name in ("one", "two"))
    ids = [judged_ids(said("Lake 99?", answer), one.tokenizer) for answer in GOOD + BAD]
    assert torch.allclose(one.scores(ids), both.scores(ids), atol=1e-3)


def test_packed_matrices_learn_no_reward(small_model, tmp_path):
    quantize(QuantizeSettings.parse({"model": small_model}), tmp_path / "int8")
    with pytest.raises(InputError, match=r"packed \(compressed-tensors\), and cannot be trained"):
        run(settings(tmp_path / "int8", write(tmp_path / "p.jsonl", rows())), tmp_path / "out")
