import json

import pytest
import torch

from headwater.finetune.stage import FinetuneSettings, run
from headwater.model.checkpoint import load_model
from headwater.tokenizer import Tokenizer

TRAINER = {"rows": 2, "sequence_length": 48, "threads": 1, "precision": "float32", "compile": "off",
           "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}


@pytest.fixture
def dialogues(tmp_path):
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}], "language": language}
            for q, a, language in [("How long?", "482 km.", "en"), ("多长?", "482公里。", "zh")]]
    path = tmp_path / "dialogues.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_tuned_model_answers_and_ends_its_turn(small_model, dialogues, tmp_path):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues], "validation": [dialogues],
                                       "trainer": {**TRAINER, "epochs": 60}})
    figures = run(settings, tmp_path / "out")
    model, tokenizer = load_model(tmp_path / "out"), Tokenizer.load(tmp_path / "out")
    assert figures["validation.dialogue.en.loss"] < 0.5
    assert figures["validation.dialogue.zh.loss"] < 0.5
    ids = tokenizer.chat.render([{"role": "user", "content": "多长?"}], add_generation_prompt=True).ids
    prompt = len(ids)
    with torch.inference_mode():
        while ids[-1] not in tokenizer.chat.stop_ids and len(ids) < prompt + 20:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert tokenizer.decode(ids[prompt:]) == "482公里。"
    assert ids[-1] in tokenizer.chat.stop_ids


def test_the_users_words_carry_no_loss(small_model, dialogues, tmp_path):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues],
                                       "trainer": {**TRAINER, "steps": 1, "log_every": 1}})
    run(settings, tmp_path / "out")
    row = json.loads((tmp_path / "out" / "metrics.jsonl").read_text())
    tokenizer = Tokenizer.load(small_model)
    spoken = sum(len(tokenizer.encode(answer)) + 1 for answer in ("482 km.", "482公里。"))
    assert row["target_share"] == pytest.approx(spoken / (2 * 48))


def test_a_longer_context_is_trained_and_saved(small_model, dialogues, tmp_path):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues],
                                       "context": {"length": 256, "method": "yarn"},
                                       "trainer": {**TRAINER, "steps": 2, "sequence_length": 128}})
    run(settings, tmp_path / "out")
    config = load_model(tmp_path / "out").config
    assert config.longest == 256
    assert config.rope_scaling.factor == 4
