"""A model of 128 tokens that learns to read 512."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from headwater.compress.quantize import QuantizeSettings
from headwater.compress.quantize import run as quantize
from headwater.context.long_rows import LongBatches
from headwater.context.stage import ExtendSettings, run
from headwater.errors import InputError, SettingsError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model

TRAINER = {"steps": 8, "rows": 2, "threads": 1, "precision": "float32", "compile": "off", "log_every": 1,
           "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}
MEASURE = {"tasks": ["passkey"], "depths": [0, 1], "each": 1, "texts": 4, "last": 16}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 6), ("validation", 2)):
        texts = {"en": "The river runs south past the old mill. Number {n} is painted on its door. ",
                 "zh": "河水流过古老的磨坊。门上写着{n}号。"}
        rows = [{"text": text.replace("{n}", str(number)) * (40 if number % 3 else 1), "language": language}
                for language, text in texts.items() for number in range(1, count + 1)]
        (folder / split).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / split / "part.parquet")
    return folder


def model_of(folder, tokenizer_from, **config):
    """A model folder: random weights."""
    config = ModelConfig(vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, **{"max_position_embeddings": 128, **config})
    save_model(initialise(Decoder(config), 0), folder, tokenizer_from=tokenizer_from)
    return folder


@pytest.fixture(scope="module")
def model(small_model, tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("model"), small_model)


def settings(model, corpus, context=None, **trainer):
    return ExtendSettings.parse({"model": model, "corpus": corpus, "measure": MEASURE,
                                 "context": context or {"length": 512, "method": "yarn"},
                                 "trainer": {**TRAINER, **trainer}})


def test_the_model_reads_longer_texts_better_than_before(model, corpus, tmp_path, capsys):
    figures = run(settings(model, corpus, steps=20), tmp_path)
    config = load_model(tmp_path).config
    assert (config.longest, config.rope_scaling.factor) == (512, 4)
    found = json.loads((tmp_path / "extend.json").read_text())
    assert list(found["measured"]) == ["before", "untrained", "after"]
    assert found["lengths"] == [128, 256, 512]
    for name, one in found["measured"].items():
        assert figures[f"perplexity.512.{name}"] == pytest.approx(np.exp(one["loss"]["512"]["mean"]))
    assert figures["perplexity.512.after"] < 0.2 * figures["perplexity.512.untrained"]
    assert figures["perplexity.512.before"] != figures["perplexity.512.untrained"]
    assert (tmp_path / "extend.svg").exists()
    told = capsys.readouterr()
    assert "found, 512" in told.out
    assert "note: the corpus has few long documents" in told.err


def test_a_stopped_run_goes_on_to_the_same_bytes_and_measures_once(model, corpus, tmp_path, monkeypatch, capsys):
    run(settings(model, corpus), tmp_path / "undisturbed")
    batch = LongBatches.batch

    def stops(self, step, rank=0, ranks=1):
        if step == 5:
            raise KeyboardInterrupt
        return batch(self, step, rank, ranks)

    monkeypatch.setattr(LongBatches, "batch", stops)
    with pytest.raises(KeyboardInterrupt):
        run(settings(model, corpus, checkpoint_seconds=1e-9), tmp_path / "stopped")
    monkeypatch.undo()
    text = (tmp_path / "stopped" / "before.json").read_text()
    (tmp_path / "stopped" / "before.json").write_text(text[:100])
    with pytest.raises(InputError, match=r"damaged(?s:.*)delete it"):
        run(settings(model, corpus), tmp_path / "stopped")
    (tmp_path / "stopped" / "before.json").write_text(text)
    kept = (tmp_path / "stopped" / "before.json").stat().st_mtime_ns
    run(settings(model, corpus), tmp_path / "stopped")
    assert (tmp_path / "stopped" / "before.json").stat().st_mtime_ns == kept
    for name in ("model.safetensors", "extend.json", "metrics.jsonl"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("undisturbed", "stopped"))
        assert one == two or name == "metrics.jsonl"
    assert "from step 5" in capsys.readouterr().err
    steps = [json.loads(line)["step"] for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_a_model_without_rotary_positions_goes_on_as_it_is(small_model, corpus, tmp_path):
    model = model_of(tmp_path / "model", small_model, position="alibi")
    run(settings(model, corpus, {"length": 256}, steps=2), tmp_path / "out")
    assert list(json.loads((tmp_path / "out" / "extend.json").read_text())["measured"]) == ["before", "after"]
    assert load_model(tmp_path / "out").config.longest == 256


def test_what_cannot_be_is_refused(model, small_model, corpus, tmp_path):
    for context, words in (({"length": 128, "method": "yarn"}, "reads 128 tokens already"),
                           ({"length": 256}, "rotary positions beyond are new")):
        with pytest.raises(InputError, match=words):
            run(settings(model, corpus, context), tmp_path)
    with pytest.raises(SettingsError, match=r"sequence_length 128 is not context\.length 512"):
        settings(model, corpus, sequence_length=128)
    with pytest.raises(SettingsError, match=r"context\.length is not given"):
        settings(model, corpus, {"log_n": False})
    with pytest.raises(SettingsError, match="give steps or epochs"):
        settings(model, corpus, steps=None)
    quantize(QuantizeSettings.parse({"model": model}), tmp_path / "int8")
    with pytest.raises(InputError, match="packed"):
        run(settings(tmp_path / "int8", corpus), tmp_path / "out")
    long = model_of(tmp_path / "long", small_model, max_position_embeddings=4096)
    with pytest.raises(InputError, match="none of 12 documents is longer than"):
        run(settings(long, corpus, {"length": 8192, "method": "ntk"}), tmp_path / "out")


def test_rows_are_as_long_as_the_context_and_computed_one_by_one(model, corpus):
    found = settings(model, corpus).trainer
    assert (found.sequence_length, found.micro_rows, found.recompute) == (512, 1, "full")
    assert settings(model, corpus, micro_rows=None, recompute="none").trainer.recompute == "none"


def test_needles_that_the_trained_length_does_not_hold_are_left_out(small_model, corpus, tmp_path, capsys):
    short = model_of(tmp_path / "model", small_model, max_position_embeddings=64)
    asked = {"model": short, "corpus": corpus, "context": {"length": 128, "method": "yarn"},
             "measure": {"each": 1, "texts": 4, "last": 16}, "trainer": {**TRAINER, "steps": 1}}
    figures = run(ExtendSettings.parse(asked), tmp_path / "out")
    assert "note: left out: 64 tokens hold no sentence beside the question of task 'passkey'" in capsys.readouterr().err
    assert "perplexity.128.after" in figures
    assert not any(name.startswith("found.") for name in figures)
    with pytest.raises(InputError, match="64 tokens hold no sentence"):
        run(ExtendSettings.parse({**asked, "measure": {"tasks": ["passkey"], "last": 16}}), tmp_path / "refused")


@pytest.mark.slow
def test_two_processes_train_the_same_model(model, corpus, tmp_path):
    chosen = settings(model, corpus)
    words = [f"model={model}", f"corpus={corpus}", "context={length: 512, method: yarn}",
             f"measure={json.dumps(MEASURE)}", f"trainer={json.dumps(TRAINER)}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "headwater",
               "extend", "--out", str(tmp_path / "two"), *words]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    run(chosen, tmp_path / "one")
    one, two = (dict(load_model(tmp_path / name).named_parameters()) for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=2e-3, atol=2e-3)
    assert done.stdout.count("needles found again") == 1
