import json
import shutil

import pytest
import torch

from headwater.errors import InputError
from headwater.finetune.stage import FinetuneSettings, run
from headwater.generate import Engine, SamplingParams
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


@pytest.mark.parametrize("turns", ["together", "separate"])
def test_the_template_is_recorded_and_a_share_is_held_back(small_model, dialogues, tmp_path, turns):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues], "validation_share": 0.5,
                                       "turns": turns, "trainer": {**TRAINER, "steps": 1}})
    figures = run(settings, tmp_path / "out")
    assert [name for name in figures if name.startswith("validation.dialogue")]
    assert figures["dialogues"] == 1
    said = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert said == {"chat_format": "headwater's template with tools"}


def test_a_model_of_another_template_is_refused_before_it_is_tuned(small_model, dialogues, tmp_path):
    model = shutil.copytree(small_model, tmp_path / "model")
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}</s>"}))
    values = {"model": model, "dialogues": [dialogues], "trainer": {**TRAINER, "steps": 1}}
    with pytest.raises(InputError, match="the recorded chat template writes 'ask</s>'"):
        run(FinetuneSettings.parse(values), tmp_path / "out")
    run(FinetuneSettings.parse({**values, "force_template": True}), tmp_path / "out")
    assert "chat_template" not in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())


def test_a_model_tuned_on_tools_calls_and_then_answers(small_model, tmp_path):
    ask, call, result = ({"role": "user", "content": "How long?"},
                         {"role": "assistant", "content": '{"of": 1}', "metadata": "find"},
                         {"role": "observation", "content": "482"})
    path = tmp_path / "tools.jsonl"
    path.write_text(json.dumps({"messages": [ask, call, result, {"role": "assistant", "content": "482 km."}],
                                "tools": [{"name": "find"}]}))
    run(FinetuneSettings.parse({"model": small_model, "dialogues": [path], "trainer": {
        **TRAINER, "sequence_length": 96, "rows": 1, "epochs": 60}}), tmp_path / "out")
    engine = Engine.load(tmp_path / "out")
    offered = {"role": "system", "content": "", "tools": [{"name": "find"}]}
    prompts = [engine.tokenizer.chat.render(messages, add_generation_prompt=True).ids
               for messages in ([offered, ask], [offered, ask, call, result])]
    said = [engine.tokenizer.spell(answer.tokens)
            for answer in engine.generate(prompts, SamplingParams(temperature=0, max_tokens=20))]
    assert said == ['<|call|>find\n{"of": 1}', "482 km."]
