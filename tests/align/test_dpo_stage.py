import json

import pytest
import torch

from headwater.align.dpo import DirectPreference
from headwater.align.dpo_stage import DpoSettings, both_less_likely, run
from headwater.errors import InputError, SettingsError
from headwater.folders import is_adapter
from headwater.model.checkpoint import load_model
from headwater.model.tensors import read_tensors

TRAINER = {"rows": 4, "sequence_length": 96, "threads": 1, "precision": "float32", "compile": "off", "epochs": 4,
           "optimizer": {"learning_rate": 2e-3, "warmup_steps": 2}}
GOOD, BAD = ["482 km.", "120 m.", "Mount Taro."], ["I hate you.", "Go away.", "No idea."]


def said(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture
def pairs(tmp_path):
    rows = [{"chosen": said(f"Lake {number}?", GOOD[number % 3]), "rejected": said(f"Lake {number}?", BAD[number % 3]),
             "rating": "better", "language": "en"} for number in range(24)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def settings(small_model, pairs, **values):
    return DpoSettings.parse({"model": small_model, "pairs": [pairs], "validation_share": 0.3, **values,
                              "trainer": {**TRAINER, **values.get("trainer", {})}})


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_tuned_model_prefers_what_was_chosen(small_model, pairs, tmp_path, method):
    rate = {"learning_rate": 2e-3 if method == "full" else 1e-2, "warmup_steps": 2}
    figures = run(settings(small_model, pairs, method=method, trainer={"optimizer": rate}), tmp_path / "out")
    assert figures["validation.accuracy"] == 1
    assert figures["validation.margin"] > 0.1
    assert figures["validation.preference"] < 0.69
    found = json.loads((tmp_path / "out" / "dpo.json").read_text())
    assert found["accuracy"]["gap"][0]["accuracy"] == 1
    likely = found["log_probability"]
    gained = (likely["chosen"]["after"] - likely["chosen"]["before"]) - (
        likely["rejected"]["after"] - likely["rejected"]["before"])
    assert 0.1 * gained == pytest.approx(figures["validation.margin"], abs=1e-3)
    assert is_adapter(tmp_path / "out") == (method == "lora")
    assert load_model(tmp_path / "out").config == load_model(small_model).config


def test_the_reference_is_the_model_that_was_given(small_model, pairs, tmp_path):
    run(settings(small_model, pairs), tmp_path / "full")
    run(settings(small_model, pairs, method="lora"), tmp_path / "lora")
    full, lora = (read_tensors(tmp_path / name / "reference.safetensors") for name in ("full", "lora"))
    for side in ("train", "validation"):
        assert torch.allclose(full[side], lora[side], atol=1e-4)


def test_the_chosen_stay_likely_with_a_share_of_their_cross_entropy(small_model, pairs, tmp_path):
    held = run(settings(small_model, pairs, sft_weight=1.0), tmp_path / "held")
    plain = run(settings(small_model, pairs), tmp_path / "plain")
    assert held["validation.chosen_log_probability"] > plain["validation.chosen_log_probability"]


@pytest.mark.parametrize(("chosen", "rejected", "told"), [
    (-130.0, -150.0, True), (-120.0002, -150.0, False), (-110.0, -150.0, False), (-130.0, -90.0, False)])
def test_it_is_said_where_the_chosen_answers_lose_too(chosen, rejected, told):
    likely = {"chosen": {"before": -120.0, "after": chosen}, "rejected": {"before": -100.0, "after": rejected}}
    assert ("-120.00 before, -130.00 after" in both_less_likely(likely, 0.0)) == told
    assert ("sft_weight=0.5" in both_less_likely(likely, 0.0)) == told
    assert ("an sft_weight above 0.2" in both_less_likely(likely, 0.2)) == told


def test_training_that_was_stopped_goes_on_to_the_same_bytes(small_model, pairs, tmp_path, monkeypatch):
    often = settings(small_model, pairs, trainer={"checkpoint_seconds": 1e-6})
    run(often, tmp_path / "whole")
    forward, calls = DirectPreference.forward, []

    def stopped(self, *given):
        calls.append(self)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return forward(self, *given)

    monkeypatch.setattr(DirectPreference, "forward", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(often, tmp_path / "halves")
    reference = tmp_path / "halves" / "reference.safetensors"
    written = reference.stat().st_mtime_ns
    run(often, tmp_path / "halves")
    assert reference.stat().st_mtime_ns == written
    for name in ("model.safetensors", "reference.safetensors", "dpo.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes()


def test_pairs_that_teach_nothing_are_counted_and_none_at_all_is_an_error(small_model, tmp_path, capsys):
    same = {"chosen": said("a", "b"), "rejected": said("a", "b")}
    path = tmp_path / "same.jsonl"
    path.write_text(json.dumps(same))
    with pytest.raises(InputError, match="no pair that can be learned from"):
        run(settings(small_model, path), tmp_path / "out")


@pytest.mark.parametrize(("values", "told"), [
    ({"label_smoothing": 0.5}, "label_smoothing"), ({"beta": 0}, "beta"),
    ({"lora": {"rank": 2}}, "lora has no effect")])
def test_settings_that_mean_nothing_are_refused(values, told):
    with pytest.raises(SettingsError, match=told):
        DpoSettings.parse({"pairs": ["p"], "trainer": TRAINER, **values})
