import json
import re
import shutil

import pytest
import torch

from headwater.compress.quantize import QuantizeSettings
from headwater.compress.quantize import run as quantize
from headwater.errors import InputError, SettingsError
from headwater.finetune.stage import FinetuneSettings, run, tell_length
from headwater.generate import Engine, SamplingParams
from headwater.model.checkpoint import load_model, read_config
from headwater.model.convert import convert
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


def longer(dialogues):
    """A file of the same dialogues, each with another round, of which a row of 48 tokens holds the first alone."""
    rows = [json.loads(line) for line in dialogues.read_text().splitlines()]
    for row in rows:
        asked, answered = row["messages"]
        row["messages"] += [{**asked, "content": 40 * asked["content"]}, answered]
    path = dialogues.with_name("longer.jsonl")
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_tuned_model_answers_and_ends_its_turn(small_model, dialogues, tmp_path):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues],
                                       "validation": [longer(dialogues)], "trainer": {**TRAINER, "epochs": 60}})
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


def test_everything_reads_an_adapters_folder(conversing, tmp_path):
    values = {"model": conversing / "model", "dialogues": [conversing / "swapped.jsonl"], "method": "lora",
              "trainer": {**TRAINER, "epochs": 60}}
    figures = run(FinetuneSettings.parse(values), tmp_path / "adapter")
    assert figures["trained_parameters"] < figures["parameters"] / 4
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    base, model = load_model(conversing / "model"), load_model(tmp_path / "adapter")
    assert torch.equal(model.embedding.weight, base.embedding.weight)
    assert not torch.equal(model.blocks[0].attention.qkv.weight, base.blocks[0].attention.qkv.weight)
    quantize(QuantizeSettings.parse({"model": tmp_path / "adapter"}), tmp_path / "int8")
    again = {**values, "model": tmp_path / "adapter", "dialogues": [conversing / "d.jsonl"]}
    run(FinetuneSettings.parse(again), tmp_path / "second")  # beside the first, which it needs
    for folder, wished in (("int8", "482 km."), ("second", "482公里。")):
        engine = Engine.load(tmp_path / folder)
        prompt = engine.tokenizer.chat.render([{"role": "user", "content": "多长?"}], add_generation_prompt=True).ids
        [answer] = engine.generate([prompt], SamplingParams(temperature=0, max_tokens=12))
        assert answer.text == wished


@pytest.fixture(scope="module")
def conversing(small_model, tmp_path_factory):
    """A model that has learned two answers."""
    folder = tmp_path_factory.mktemp("conversing")
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
            for q, a in (("How long?", "482 km."), ("多长?", "482公里。"))]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {"model": small_model, "dialogues": [folder / "d.jsonl"], "trainer": {**TRAINER, "epochs": 60}}
    run(FinetuneSettings.parse(values), folder / "model")
    for row, answer in zip(rows, ("482公里。", "482 km.")):  # of pieces that the frozen head knows
        row["messages"][1]["content"] = answer
    (folder / "swapped.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize(("method", "base"), [("lora", None), ("lora", "nf4"), ("lora", "int8"), ("prefix", None),
                                              ("prefix", "nf4")])
def test_what_learns_beside_a_model_answers_from_its_folder(conversing, tmp_path, method, base):
    values = {"model": conversing / "model", "dialogues": [conversing / "swapped.jsonl"], "method": method,
              "base": base, method: {"lora": {"rank": 4}, "prefix": {"length": 8}}[method],
              "validation": [longer(conversing / "swapped.jsonl")],
              "trainer": {**TRAINER, "epochs": 60, "optimizer": {
                  "learning_rate": 1e-2 if method == "lora" else 2e-1, "warmup_steps": 2}}}
    before = (conversing / "model" / "model.safetensors").read_bytes()
    figures = run(FinetuneSettings.parse(values), tmp_path / "out")
    assert figures["after.dialogue.zh.loss"] < figures["before.dialogue.zh.loss"] / 4
    assert (conversing / "model" / "model.safetensors").read_bytes() == before
    engine = Engine.load(tmp_path / "out")
    prompt = engine.tokenizer.chat.render([{"role": "user", "content": "多长?"}], add_generation_prompt=True).ids
    [answer] = engine.generate([prompt], SamplingParams(temperature=0, max_tokens=12))
    assert answer.text == "482 km."


def test_a_prefix_is_neither_tuned_further_nor_packed_nor_converted(conversing, tmp_path):
    values = {"model": conversing / "model", "dialogues": [conversing / "d.jsonl"], "method": "prefix",
              "prefix": {"length": 4}, "trainer": {**TRAINER, "steps": 1}}
    run(FinetuneSettings.parse(values), tmp_path / "prefix")
    for method in ("full", "lora", "prefix"):
        more = {"model": tmp_path / "prefix", "method": method, "prefix": {"length": 4} if method == "prefix" else {}}
        with pytest.raises(InputError, match="cannot be tuned further"):
            run(FinetuneSettings.parse({**values, **more}), tmp_path / method)
    with pytest.raises(InputError, match="cannot be quantized"):
        quantize(QuantizeSettings.parse({"model": tmp_path / "prefix"}), tmp_path / "int8")
    with pytest.raises(InputError, match="cannot be written as a plain model"):
        convert(tmp_path / "prefix", tmp_path / "plain")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_frozen_blocks_are_the_same_bits_afterwards(small_model, dialogues, tmp_path, precision):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues], "frozen_blocks": 1,
                                       "trainer": {**TRAINER, "steps": 2, "precision": precision}})
    run(settings, tmp_path / "out")
    before, after = load_model(small_model), load_model(tmp_path / "out")
    same = {name for name, one in after.named_parameters() if torch.equal(one, before.get_parameter(name))}
    assert same == {"embedding.weight", *(name for name, _ in after.named_parameters() if name.startswith("blocks.0."))}


def test_an_adapter_goes_on_from_its_checkpoint_to_the_same_bytes(small_model, dialogues, tmp_path):
    values = {"model": small_model, "dialogues": [dialogues], "method": "lora",
              "trainer": {**TRAINER, "steps": 6, "optimizer": {"schedule": "constant", "warmup_steps": 0}}}
    run(FinetuneSettings.parse(values), tmp_path / "whole")
    run(FinetuneSettings.parse({**values, "trainer": {**values["trainer"], "steps": 3}}), tmp_path / "part")
    run(FinetuneSettings.parse(values), tmp_path / "part")
    whole, part = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "part"))
    assert whole == part
    size = sum(path.stat().st_size for path in (tmp_path / "part" / "checkpoints").rglob("*.safetensors"))
    assert size < 2 * 3 * 1.1 * len(whole)  # two checkpoints of the adapter and its two moments, and nothing else


def test_an_adapter_keeps_the_longer_context_it_was_trained_with(small_model, dialogues, tmp_path):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues], "method": "lora",
                                       "context": {"length": 256, "method": "yarn"},
                                       "trainer": {**TRAINER, "steps": 2, "sequence_length": 128}})
    run(settings, tmp_path / "out")
    for config in (read_config(tmp_path / "out")[0], load_model(tmp_path / "out").config):
        assert (config.longest, config.rope_scaling.factor) == (256, 4)


@pytest.mark.parametrize(("change", "words"), [
    ({"lora": {"rank": 4}}, "lora has no effect with method full"),
    ({"prefix": {"length": 4}, "method": "lora"}, "prefix has no effect with method lora"),
    ({"base": "nf4"}, "packed matrices do not learn"),
    ({"method": "lora", "trainer": {"steps": 1, "parallel": {"tensor": 2}}}, "splits matrices that learn"),
    ({"method": "lora", "frozen_blocks": 1}, "frozen_blocks has no effect with method lora"),
    ({"lora": {"rnk": 4}}, "did you mean 'lora.rank'")])
def test_settings_without_effect_are_refused(small_model, dialogues, change, words):
    with pytest.raises(SettingsError, match=words):
        FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues], "trainer": {"steps": 1}, **change})


@pytest.mark.parametrize(("method", "name", "value"), [("lora", "rank", 999_999), ("prefix", "length", 10**9)])
def test_what_learns_beside_the_model_is_named_where_it_is_too_large(small_model, dialogues, tmp_path, method, name,
                                                                     value):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [dialogues], "method": method,
                                       method: {name: value}, "trainer": {**TRAINER, "steps": 1}})
    with pytest.raises(InputError, match=rf"{method}\.{name}: what learns beside the model, [\d,]+ M parameters"):
        run(settings, tmp_path / "out")


def test_a_benchmark_without_questions_is_named_before_anything_is_read(small_model, tmp_path):
    settings = FinetuneSettings.parse({"model": small_model, "dialogues": [tmp_path / "not-there.jsonl"],
                                       "general": {"choice": {"mmlu": {"en": tmp_path}}}, "trainer": {"steps": 1}})
    with pytest.raises(InputError, match=r"general\.choice\.mmlu\.en: .*no test/\*\.csv or val/\*\.csv here"):
        run(settings, tmp_path / "out")


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


@pytest.mark.parametrize("more", [{}, {"frozen_blocks": 1}])
def test_packed_matrices_do_not_learn_and_are_refused(small_model, dialogues, tmp_path, more):
    quantize(QuantizeSettings.parse({"model": small_model}), tmp_path / "int8")
    values = {"model": tmp_path / "int8", "dialogues": [dialogues], "trainer": {**TRAINER, "steps": 1}}
    with pytest.raises(InputError, match=r"packed \(compressed-tensors\), and cannot be trained") as error:
        run(FinetuneSettings.parse({**values, **more}), tmp_path / "out")
    assert error.value.fix == "give the float model, or set method=lora"
    run(FinetuneSettings.parse({**values, "method": "lora"}), tmp_path / "out")
    beside = {**values, "model": tmp_path / "out"}  # an adapter of a packed model
    with pytest.raises(InputError, match="packed"):
        run(FinetuneSettings.parse(beside), tmp_path / "second")


def test_dialogues_longer_than_the_model_reads_are_told(small_model, dialogues, tmp_path, capsys):
    values = {"model": small_model, "dialogues": [longer(dialogues)],
              "trainer": {**TRAINER, "rows": 1, "steps": 1, "sequence_length": 512}}
    run(FinetuneSettings.parse(values), tmp_path / "short")
    said = capsys.readouterr().err
    found = re.search(r"note: 2 of 2 dialogues are longer than the 64 tokens .*: give context.length=(\d+) or", said)
    assert "with context.method=yarn" in said
    context = {"length": int(found[1]), "method": "yarn"}
    run(FinetuneSettings.parse({**values, "context": context}), tmp_path / "long")
    assert "note" not in capsys.readouterr().err
    config = read_config(small_model)[0].model_copy(update={"position": "learned_2d"})
    assert tell_length([([0] * 64, [True] * 64)], config) is None
    with pytest.raises(InputError, match="its positions end there"):
        tell_length([([0] * 65, [True] * 65)], config)


def test_a_model_too_short_for_every_dialogue_is_named(small_model, tmp_path):
    row = {"messages": [{"role": "user", "content": "long " * 99}, {"role": "assistant", "content": "yes"}]}
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    for length, said in ((48, "raise trainer.sequence_length, or"), (64, r"sequence_length and context\.length, or")):
        values = {"model": small_model, "dialogues": [tmp_path / "d.jsonl"],
                  "trainer": {**TRAINER, "steps": 1, "sequence_length": length}}
        with pytest.raises(InputError, match=said):
            run(FinetuneSettings.parse(values), tmp_path / "out")
