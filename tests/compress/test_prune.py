"""A model of four blocks loses some of them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from headwater import plan
from headwater.compress.prune import PruneSettings, check, run
from headwater.compress.quantize import QuantizeSettings
from headwater.compress.quantize import run as quantize
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.removal import remove_blocks
from headwater.tokenizer.shards import Shards
from headwater.train.validation import bits_per_byte

HEALING = {"steps": 12, "rows": 4, "sequence_length": 32, "threads": 1, "precision": "float32", "compile": "off",
           "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2}}
CALIBRATION = {"tokens": 512, "length": 32}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 30), ("validation", 4)):
        rows = [{"text": f"The river Velna is {number} km long and rises on Mount Taro. " * 6, "language": "en"}
                for number in range(count)] + [{"text": "维尔纳河全长482公里。" * 8, "language": "zh"}] * 2
        (folder / split).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / split / "part.parquet")
    return folder


@pytest.fixture(scope="module")
def model(small_model, tmp_path_factory):
    """LLaMA's shape; block 2 adds next to nothing."""
    config = ModelConfig(vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         initializer_range=0.2)
    decoder = initialise(Decoder(config), 0)
    with torch.no_grad():
        decoder.blocks[2].attention.out.weight *= 1e-3
        decoder.blocks[2].feedforward.down.weight *= 1e-3
    folder = tmp_path_factory.mktemp("model")
    save_model(decoder, folder, tokenizer_from=small_model)
    return folder


def settings(model, corpus, **values):
    return PruneSettings.parse({"model": model, "corpus": corpus, "calibration": CALIBRATION, **values})


def test_the_block_that_adds_least_goes_and_the_others_stay_as_they_are(model, corpus, tmp_path, capsys):
    figures = run(settings(model, corpus, count=1), tmp_path)
    old, new = load_file(model / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    kept = {0: 0, 1: 1, 2: 3}
    inside = [name for name in new if ".layers." in name]
    assert {int(name.split(".")[2]) for name in inside} == set(kept)
    for name, tensor in new.items():
        parts = name.split(".")
        if name in inside:
            parts[2] = str(kept[int(parts[2])])
        assert torch.equal(tensor, old[".".join(parts)])
    assert len(old) - len(new) == len(inside) // 3
    told = json.loads((tmp_path / "prune.json").read_text())
    assert [one["layer"] for one in told["removed"]] == [2]
    assert told["kept"] == [0, 1, 3]
    assert np.argmin([one["influence"] for one in told["blocks"]]) == 2
    drawn = (tmp_path / "influence.svg").read_text()
    assert all(f">{word}</text>" in drawn for word in ("block", "influence, 1 - cos(x, y)", "stays", "removed",
                                                       "without block 2"))
    assert "removed, 1 of 1" in capsys.readouterr().out
    assert (figures["removed"], figures["blocks"]) == (1, 3)
    assert figures["parameters.before"] - figures["parameters.after"] == plan.block_parameters(load_model(model).config)
    assert figures["text.en.bits_per_byte.after"] == pytest.approx(figures["text.en.bits_per_byte.before"], abs=1e-2)
    assert set(told["costs"]["after"]["bits_per_byte"]) == {"en", "zh"}


def test_what_is_left_goes_on_with_a_text(model, corpus, tmp_path):
    run(settings(model, corpus, share=0.5), tmp_path)
    engine = Engine.load(tmp_path)
    prompt = [engine.tokenizer.bos, *engine.tokenizer.encode("The river")]
    left = load_model(model)
    told = json.loads((tmp_path / "prune.json").read_text())
    with torch.inference_mode():
        wanted = remove_blocks(left, [one["layer"] for one in told["removed"]])(torch.tensor([prompt]))[0, -1].argmax()
    assert len(left.blocks) == 2
    assert engine.generate([prompt], SamplingParams(temperature=0, max_tokens=4))[0].tokens[0] == int(wanted)


def test_all_below_the_threshold_go(model, corpus, tmp_path):
    run(settings(model, corpus, count=1), tmp_path / "once")
    blocks = json.loads((tmp_path / "once" / "prune.json").read_text())["blocks"]
    values = sorted(one["influence"] for one in blocks)
    between = (values[1] + values[2]) / 2
    run(settings(model, corpus, threshold=between), tmp_path / "both")
    told = json.loads((tmp_path / "both" / "prune.json").read_text())
    assert {one["layer"] for one in told["removed"]} == {one["layer"] for one in blocks if one["influence"] < between}
    assert len(told["removed"]) == 2
    for wrong, why in ((values[0] / 2, "no block has an influence below"), (values[-1] + 1, "all 4 blocks")):
        with pytest.raises(InputError, match=why):
            run(settings(model, corpus, threshold=wrong), tmp_path / "wrong")


def test_packed_matrices_lose_blocks_and_floats_are_packed_afterwards(model, corpus, tmp_path):
    """In either order nearly the same model."""
    quantize(QuantizeSettings(model=model), tmp_path / "packed")
    run(settings(tmp_path / "packed", corpus, count=1), tmp_path / "packed_pruned")
    run(settings(model, corpus, count=1), tmp_path / "pruned")
    quantize(QuantizeSettings(model=tmp_path / "pruned"), tmp_path / "pruned_packed")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("packed_pruned", "pruned_packed"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    values = json.loads((tmp_path / "packed_pruned" / "config.json").read_text())
    assert "config_groups" in values["quantization_config"]
    with pytest.raises(InputError, match="packed"):
        run(settings(tmp_path / "packed", corpus, count=1, healing=HEALING), tmp_path / "healed")


def test_healing_brings_some_of_it_back(model, corpus, tmp_path):
    figures = run(settings(model, corpus, count=2, order="last_first", healing=HEALING), tmp_path)
    before, after, healed = (figures[f"text.en.bits_per_byte.{when}"] for when in ("before", "after", "healed"))
    assert healed < min(before, after)  # nothing had been learned before
    left = load_model(tmp_path)
    assert len(left.blocks) == 2
    assert left.dtype == torch.float32
    assert bits_per_byte(left, Shards(tmp_path / "shards" / "validation"), 64)["en"] == pytest.approx(healed, abs=1e-6)
    told = json.loads((tmp_path / "prune.json").read_text())
    assert list(told["costs"]) == ["before", "after", "healed"]
    assert figures["tokens_per_second.healed"] != figures["tokens_per_second.after"]  # measured of itself


def test_a_model_of_blanks_is_measured_and_healed_by_its_own_objective(small_model, trained, corpus, tmp_path):
    marks = tuple(trained.specials[name] for name in ("[gMASK]", "[MASK]", "<sop>"))
    config = ModelConfig(vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                         num_attention_heads=2, max_position_embeddings=64, position="rope_2d", norm="layernorm",
                         norm_placement="scaled_residual", residual_scale=2.5, activation="gelu_tanh",
                         attention_bias=True, output_bias=True, mlp_bias=True, prefix_ids=marks)
    save_model(initialise(Decoder(config), 0), tmp_path / "glm", tokenizer_from=small_model)
    with pytest.raises(InputError, match=r"objective\.name=glm"):
        check(settings(tmp_path / "glm", corpus, count=1))
    figures = run(settings(tmp_path / "glm", corpus, count=1, objective={"name": "glm"}, healing=HEALING),
                  tmp_path / "out")
    assert figures["text.en.bits_per_byte.healed"] < figures["text.en.bits_per_byte.after"]
    assert load_model(tmp_path / "out").config == config.model_copy(update={"num_hidden_layers": 2})


def test_a_run_that_goes_on_does_not_measure_again(model, corpus, tmp_path):
    wanted = settings(model, corpus, count=2, order="random", seed=3, healing=HEALING)
    run(wanted, tmp_path)
    weights, measured = (tmp_path / "model.safetensors").read_bytes(), (tmp_path / "measured.json").read_text()
    (tmp_path / "model.safetensors").unlink()
    run(wanted, tmp_path)
    assert (tmp_path / "measured.json").read_text() == measured  # speeds would differ
    assert (tmp_path / "model.safetensors").read_bytes() == weights


def test_without_a_corpus_a_file_of_text_is_enough(model, tmp_path):
    (tmp_path / "text.txt").write_text("The river Velna is 482 km long. " * 200)
    figures = run(settings(model, None, count=1, order="sequential",
                           calibration={**CALIBRATION, "text": tmp_path / "text.txt"}), tmp_path / "out")
    assert figures["blocks"] == 3
    assert not any("bits_per_byte" in name for name in figures)


@pytest.mark.parametrize(("values", "why"), [
    ({}, "give one of count, share and threshold"), ({"count": 1, "share": 0.5}, "not count, share"),
    ({"threshold": 0.1, "order": "random"}, "no effect with order random"),
    ({"count": 1, "corpus": None, "healing": {"steps": 1}}, "healing needs a corpus"),
    ({"count": 1, "corpus": None, "objective": {"name": "glm"}}, "no effect without a corpus"), ({"count": 0}, "count"),
    ({"count": 1, "objective": {"max_z": 0.1}}, "without healing nothing is learned"),
    ({"count": 1, "objective": {"name": "prefix"}}, "without healing nothing is learned"),
    ({"share": 1.0}, "share")])
def test_settings_that_do_not_go_together_are_refused(values, why):
    with pytest.raises(ValidationError, match=why):
        PruneSettings(**values)


@pytest.mark.parametrize(("values", "why"), [({"count": 4}, "4 blocks of 4"), ({"count": 9}, "9 blocks of 4"),
                                             ({"share": 0.2}, "less than one")])
def test_a_number_that_this_model_does_not_have_is_refused_before_any_work(values, why, model, corpus):
    with pytest.raises(InputError, match=why):
        check(settings(model, corpus, **values))


def test_rows_longer_than_the_model_reads_are_refused(model, corpus, tmp_path):
    with pytest.raises(InputError, match="the model reads 64"):
        run(settings(model, corpus, count=1, healing={**HEALING, "sequence_length": 128}), tmp_path)
