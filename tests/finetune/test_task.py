import json

import pytest
import torch
from torch.nn import functional as F

from headwater.compress.quantize import QuantizeSettings
from headwater.compress.quantize import run as quantize
from headwater.errors import CheckpointError, InputError
from headwater.finetune.examples import Columns, Reader, read_examples
from headwater.finetune.predict import Predictor, PredictSettings, predict
from headwater.finetune.task import Answers, TaskSettings, run
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, lay
from headwater.train.objective import scores
from headwater.train.packing import as_sample

TRAINER = {"rows": 4, "sequence_length": 48, "threads": 1, "precision": "float32", "compile": "off",
           "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}
CITIES, RIVERS = ["Oslo", "Paris", "Rome"], ["Rhine", "Nile", "Volga"]
FAMILIES = ["baichuan2_13b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b", "llama2_gqa"]


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def about(name):
    kind = "city" if name in CITIES else "river"
    return {"text": f"{name} is a {kind}.", "label": kind}


def settings(small_model, examples, **values):
    return TaskSettings.parse({"model": small_model, "examples": [examples], "validation": [examples],
                               "trainer": {**TRAINER, "epochs": 30}, **values})


@pytest.mark.parametrize("method", ["full", "lora"])
def test_texts_are_told_apart_and_told_again_from_the_folder(small_model, tmp_path, method):
    examples = write(tmp_path / "e.jsonl", [about(name) for name in CITIES + RIVERS])
    figures = run(settings(small_model, examples, method=method), tmp_path / "out")
    assert figures["validation.accuracy"] == 1
    assert figures["validation.commonest"] == 0.5
    predict(tmp_path / "out", tmp_path / "told", PredictSettings.parse({"texts": [examples]}))
    told = [json.loads(line) for line in (tmp_path / "told" / "predictions.jsonl").read_text().splitlines()]
    assert [one["label"] for one in told] == ["city"] * 3 + ["river"] * 3
    assert all(one["probability"] > 0.6 for one in told)


def test_a_head_alone_leaves_the_model_where_it_is(small_model, tmp_path):
    examples = write(tmp_path / "e.jsonl", [about(name) for name in CITIES + RIVERS])
    figures = run(settings(small_model, examples, method="head"), tmp_path / "out")
    assert figures["trained_parameters"] == 2 * 64
    assert not (tmp_path / "out" / "model.safetensors").exists()
    predictor = Predictor.load(tmp_path / "out")
    before = load_model(small_model)
    assert all(torch.equal(one, before.get_parameter(name)) for name, one in predictor.model.named_parameters())


def test_numbers_are_told_in_their_own_units(small_model, tmp_path):
    rows = [{"text": "river " * count, "kilometres": 1000.0 + 50 * count} for count in range(1, 7)]
    examples = write(tmp_path / "e.jsonl", rows)
    figures = run(settings(small_model, examples, kind="regression", columns={"label": "kilometres"},
                           trainer={**TRAINER, "epochs": 80}), tmp_path / "out")
    assert figures["validation.rmse_of_mean"] == pytest.approx(85.39, abs=0.01)
    assert figures["validation.rmse"] < 20
    [[found]] = Predictor.load(tmp_path / "out").scores(["river " * 3])
    assert found[0] == pytest.approx(1150, abs=40)


def test_words_are_tagged_one_by_one(small_model, tmp_path):
    rows = [{"words": ["The", name, "is", "long"], "tags": ["O", "NAME", "O", "O"]} for name in RIVERS + CITIES]
    rows += [{"words": [name, "in", "the", "south"], "tags": ["NAME", "O", "O", "O"]} for name in CITIES]
    examples = write(tmp_path / "e.jsonl", rows)
    columns = {"text": "words", "label": "tags"}
    figures = run(settings(small_model, examples, kind="tokens", columns=columns), tmp_path / "out")
    assert figures["validation.f1"] > 0.9
    predict(tmp_path / "out", tmp_path / "told", PredictSettings.parse({"texts": [examples], "columns": columns}))
    told = json.loads((tmp_path / "told" / "predictions.jsonl").read_text().splitlines()[0])
    assert told["label"] == ["O", "NAME", "O", "O"]


def test_packed_texts_are_told_as_each_alone(small_model):
    tokenizer, model = Tokenizer.load(small_model), load_model(small_model)
    head = TaskHead("classification", 64, ["a", "b", "c"]).draw(0)
    predictor = Predictor(model, head, Reader(tokenizer, model.config, "classification", 64), tokenizer.pad)
    texts = [f"Lake {number} lies {'far ' * number}away" for number in range(6)]
    together = list(predictor.scores(texts))
    alone = [next(predictor.scores([text])) for text in texts]
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-5, rtol=1e-4)
    ids = [tokenizer.bos, *tokenizer.encode(texts[2]), tokenizer.eos]
    state = model.hidden(torch.tensor([ids]))[0, -1]
    torch.testing.assert_close(torch.tensor(alone[2][0]), (head.weight @ state).softmax(-1), atol=1e-5, rtol=1e-4)


def test_a_text_beyond_the_trained_length_is_cut_as_in_training_and_counted(small_model, tmp_path, capsys):
    long = {"text": "Oslo is " + "far " * 40, "label": "city"}
    examples = write(tmp_path / "e.jsonl", [about("Nile"), long])
    trainer = {**TRAINER, "sequence_length": 24, "steps": 1}
    run(TaskSettings.parse({"model": small_model, "examples": [examples], "trainer": trainer}), tmp_path / "out")
    said = "of 2 texts, 1 are longer than 24 tokens: their beginning is read"
    assert said in capsys.readouterr().err
    texts = write(tmp_path / "t.jsonl", [{"text": long["text"]}, {"text": long["text"] + "and cold"}])
    predict(tmp_path / "out", tmp_path / "told", PredictSettings.parse({"texts": [texts]}))
    assert said.replace("1 are", "2 are") in capsys.readouterr().err
    told = [json.loads(line) for line in (tmp_path / "told" / "predictions.jsonl").read_text().splitlines()]
    assert told[0]["probability"] == told[1]["probability"]


def test_words_beyond_the_trained_length_are_refused(small_model):
    model, tokenizer = load_model(small_model), Tokenizer.load(small_model)
    predictor = Predictor(model, TaskHead("tokens", 64, ["a", "b"]), Reader(tokenizer, model.config, "tokens", 24),
                          tokenizer.pad)
    with pytest.raises(InputError, match="text 2 is longer than the 24 tokens that the head was trained on"):
        list(predictor.scores([["far"], ["far"] * 40]))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_takes_a_step_and_a_blank_sees_all_of_the_text(shared, name):
    model = load_model(shared / "vectors" / name, dtype=torch.float32)
    model.requires_grad_(True)

    class Marks:
        bos, eos = 1, 2
        specials = {"[MASK]": 3, "[sMASK]": 4, "[gMASK]": 5, "<sop>": 6, "<eop>": 7}

        def encode(self, text):
            return [10 + ord(letter) % 50 for letter in text]

    if model.config.prefix_ids:
        gmask, *_, start = model.config.prefix_ids
        Marks.specials = {**Marks.specials, "[gMASK]": gmask, "<sop>": start}
    reader = Reader(Marks(), model.config, "classification", 64)
    rows = [[as_sample(reader.sample(text, label), 0, model.config.position_axes)]
            for text, label in (("a river", 0), ("the city", 1))]
    batch = lay(rows, 16, pad=0, axes=model.config.position_axes)
    objective = Answers(TaskHead("classification", model.config.hidden_size, ["a", "b"]).draw(0))
    outcome = objective(model, batch, 2)
    outcome.loss.backward()
    head = {"head.weight", "embedding.weight"} if model.config.tie_word_embeddings else {"head.weight"}
    for key, one in (*model.named_parameters(), *objective.named_parameters()):
        assert key in head or (one.grad is not None and one.grad.isfinite().all()), key
    assert objective.head.weight.grad.abs().max() > 0
    if reader.blank is not None:  # a word after others changes what is told of these
        own = Reader(Marks(), model.config, "tokens", 64)
        first, other = (own.sample(["x", "y", last], [0, 0, 1]) for last in ("z", "k"))
        if model.config.prefix_ids:  # the official rule, which the model finds by itself
            sample = reader.sample("a river", 0)
            alone = lay([[as_sample(sample, 0, 2)]], len(sample.ids), pad=0, axes=2)
            torch.testing.assert_close(model.hidden(alone.tokens, alone.intervals, alone.positions),
                                       model.hidden(alone.tokens), atol=1e-4, rtol=1e-4)
        read = [scores(model, objective.head, lay([[as_sample(one, 0, 2)]], 8, pad=0, axes=2))
                for one in (first, other)]
        assert not torch.allclose(read[0][0], read[1][0])


def test_scores_are_those_of_the_transformers_librarys_head(shared):
    transformers = pytest.importorskip("transformers")
    folder = shared / "vectors" / "llama2_gqa"
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, dtype=torch.float32)
    model = load_model(folder, dtype=torch.float32)
    head = TaskHead("classification", model.config.hidden_size, ["a", "b", "c"])
    head.weight.data.copy_(theirs.score.weight)
    theirs.config.pad_token_id = 0
    ids = torch.arange(1, 12)[None]
    targets = torch.full((1, 11), IGNORE)
    targets[0, -1] = 0
    hidden = model.hidden(ids)
    torch.testing.assert_close(head(hidden[targets != IGNORE]), theirs(ids).logits, atol=1e-4, rtol=1e-4)
    wished = F.cross_entropy(theirs(ids).logits, torch.tensor([0]))
    assert F.cross_entropy(head(hidden[:, -1]), torch.tensor([0])).item() == pytest.approx(wished.item(), rel=1e-4)


@pytest.mark.parametrize(("rows", "kind", "words"), [
    ([{"txt": "a", "label": "b"}], "classification", r"no field 'text'(.|\n)*columns\.text=txt"),
    ([{"text": " ", "label": "b"}], "classification", "line 1: the text is empty"),
    ([{"text": "a", "label": "far"}], "regression", "'far' is not a number"),
    ([{"text": ["a", "b"], "label": ["c"]}], "tokens", "not a list of one label a word"),
    ([{"text": "a b", "label": ["c"]}], "tokens", "not a list of words"), ([], "classification", "no examples")])
def test_a_row_of_another_form_is_named(tmp_path, rows, kind, words):
    with pytest.raises(InputError, match=words):
        read_examples([write(tmp_path / "e.jsonl", rows)], Columns(), kind)


def test_csv_is_read_by_its_header(tmp_path):
    (tmp_path / "e.csv").write_text("\ufeff,TEXT,class\n0,\"a, b\",1\n", encoding="utf-8")
    found = read_examples([tmp_path / "e.csv"], Columns(text="TEXT", label="class"), "classification")
    assert found == [("a, b", "1")]


def test_examples_are_read_from_an_array_and_refused_where_a_key_stands_twice(tmp_path):
    (tmp_path / "e.json").write_text('[{"text": "a", "label": "b"},\n{"text": "a", "label": "b", "label": "c"}]')
    with pytest.raises(InputError, match="row 2 on line 2: not valid JSON: the key 'label' stands twice"):
        read_examples([tmp_path / "e.json"], Columns(), "classification")
    (tmp_path / "e.csv").write_bytes(b"text,label\na,b\nMalm\xf6,b\n")
    with pytest.raises(InputError, match="line 3 is not UTF-8 text"):
        read_examples([tmp_path / "e.csv"], Columns(), "classification")


def test_one_label_alone_and_unknown_ones_are_refused(small_model, tmp_path):
    one = write(tmp_path / "one.jsonl", [about("Oslo")] * 3)
    with pytest.raises(InputError, match="all examples have the label 'city'"):
        run(settings(small_model, one), tmp_path / "out")
    both, other = write(tmp_path / "both.jsonl", [about("Oslo"), about("Nile")]), [{"text": "x", "label": "lake"}]
    with pytest.raises(InputError, match="'lake' is of no training example"):
        run(settings(small_model, both, validation=[write(tmp_path / "v.jsonl", other)]), tmp_path / "out2")


def test_a_folder_without_a_head_is_refused(small_model, tmp_path):
    with pytest.raises(CheckpointError, match="no task head here"):
        Predictor.load(small_model)
    TaskHead("classification", 8, ["a", "b"]).save(tmp_path, tmp_path, 48)
    (tmp_path / "task.json").write_text(json.dumps({"kind": "classification", "labels": ["a"], "model": ".",
                                                     "length": 48}))
    with pytest.raises(CheckpointError, match="do not fit its labels"):
        TaskHead.load(tmp_path)


def test_packed_matrices_do_not_learn_and_are_refused(small_model, tmp_path):
    quantize(QuantizeSettings.parse({"model": small_model}), tmp_path / "int8")
    examples = write(tmp_path / "e.jsonl", [about(name) for name in CITIES + RIVERS])
    with pytest.raises(InputError, match="packed"):
        run(settings(tmp_path / "int8", examples), tmp_path / "out")
