import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from headwater.compress.gguf import export
from headwater.compress.quantize import QuantizeSettings, _calibration, check, disk_bytes, formula_bytes, run
from headwater.errors import InputError, SettingsError
from headwater.generate.engine import Engine
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.packed import Form, pack_linears, packed_linears
from headwater.tokenizer import Tokenizer

IDS = torch.arange(20)[None]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("The river Velna is 482 km long and rises on Mount Taro. 维尔纳河全长482公里。\n" * 60)
    return file


def settings(model, **values):
    own = {"calibration": {"text": values.pop("text"), "tokens": 512, "length": 32}} if "text" in values else {}
    return QuantizeSettings.parse({"model": model, **own, **values})


def test_the_int8_model_is_smaller_and_agrees(small_model, tmp_path):
    figures = run(QuantizeSettings(model=small_model), tmp_path / "out")
    assert figures["bytes_after"] < 0.6 * figures["bytes_before"]
    assert figures["largest_relative_error"] < 0.02
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] == 8
    with torch.inference_mode():
        before, after = load_model(small_model)(IDS).float(), load_model(tmp_path / "out")(IDS).float()
    agreement = torch.cosine_similarity(before, after, dim=-1)
    assert float(agreement.min()) > 0.99


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "nf4"])
def test_a_model_of_four_bits_is_a_third_and_generates(small_model, tmp_path, text, method):
    reads = {"text": text} if method in ("gptq", "awq") else {}
    figures = run(settings(small_model, bits=4, method=method, **reads), tmp_path)
    assert figures["bytes_after"] < 0.4 * figures["bytes_before"]
    assert figures["largest_relative_error"] < 0.2
    assert Engine.load(tmp_path).log_likelihoods([([1, 5, 6], [7, 8])])[0].logprob < 0
    written = json.loads((tmp_path / "quantize.json").read_text())
    assert written["bytes"] == figures["bytes_after"] == disk_bytes(tmp_path)
    assert all((one["outputs"] is not None) == bool(reads) for one in written["matrices"])


def test_gptq_changes_outputs_less_than_rounding(small_model, tmp_path, text):
    outputs = {}
    for method in ("gptq", "awq"):
        outputs[method] = run(settings(small_model, bits=4, method=method, group=32, text=text),
                              tmp_path / method)["largest_output_error"]
    assert outputs["gptq"] < outputs["awq"]


def test_bits_per_byte_are_taken_before_and_after(small_model, tmp_path):
    rows = [{"text": "The river Velna is 482 km long. " * 6, "language": "en"}] * 3
    (tmp_path / "corpus/validation").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "corpus/validation/part.parquet")
    figures = run(settings(small_model, bits=4, corpus=tmp_path / "corpus"), tmp_path / "out")
    before, after = (figures[f"text.en.bits_per_byte.{when}"] for when in ("before", "after"))
    assert before != after
    assert after == pytest.approx(before, rel=0.1)


def test_bytes_are_those_of_the_formula(tmp_path):
    """By hand: two blocks of qkv 64 x 64 and 2 of 32 x 64, out 64 x 64, gate and up 96 x 64, down 64 x 96."""
    config = ModelConfig(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)
    model = initialise(Decoder(config), 0).to(torch.bfloat16)
    pack_linears(model, head=False, form="int4", group=64)
    save_model(model, tmp_path)
    weights = [(64, 64), (32, 64), (32, 64), (64, 64), (96, 64), (96, 64), (64, 96)]
    block = sum(rows * columns // 2 + (rows * 2 + rows // 8 * 4) * (columns // (64 if columns == 64 else 32)) + 16
                for rows, columns in weights)
    assert disk_bytes(tmp_path) == formula_bytes(model) == 2 * block + 2 * (512 * 64 + 5 * 64)


@pytest.mark.parametrize("form", ["int8", "int4", "nf4"])
@pytest.mark.parametrize("name", ["baichuan1_13b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b", "llama2_gqa"])
def test_every_family_is_written_in_the_bytes_of_the_formula(shared, tmp_path, name, form):
    model = load_model(shared / "vectors" / name, dtype=torch.bfloat16)
    pack_linears(model, head=False, form=form, group=64, symmetric=name == "glm_10b")
    save_model(model, tmp_path)
    assert disk_bytes(tmp_path) == formula_bytes(model)


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize("name", ["baichuan2_7b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b"])
def test_every_family_is_quantized(shared, name, method):
    from headwater.compress.inputs import pack_blocks
    from headwater.compress.quantize import _pack_block

    model = load_model(shared / "vectors" / name, dtype=torch.float32, mmap=False)
    ids = torch.randint(3, 60, (4, 16), generator=torch.Generator().manual_seed(0))
    ids = torch.cat([torch.tensor(model.config.prefix_ids[::2], dtype=torch.long).expand(4, -1), ids], 1)
    own = QuantizeSettings(model="x", bits=4, method=method, group=32)
    with torch.inference_mode():
        exact = model(ids)
        if method == "rtn":
            pack_linears(model, head=False, form="int4", group=32)
        else:
            pack_blocks(model, ids, lambda *given: list(_pack_block(*given, own)) and None,
                        in_turn=method == "gptq")
        found = model(ids)
    assert {Form.of(one).base for _, one in packed_linears(model)} <= {"int4", "int8"}
    assert (found - exact).square().mean().sqrt() < 0.6 * exact.std()  # the weights are random


def test_gptq_and_awq_need_text(small_model):
    check(QuantizeSettings(model=small_model, bits=4))
    for method in ("gptq", "awq"):
        with pytest.raises(InputError, match="no text for the model"):
            check(QuantizeSettings(model=small_model, bits=4, method=method))


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_handful_of_tokens_is_no_sample(small_model, tmp_path, text, method):
    few = {"text": text, "tokens": 124, "length": 4}
    with pytest.raises(InputError, match="124 tokens are no sample"):
        run(QuantizeSettings.parse({"model": small_model, "bits": 4, "method": method, "calibration": few}), tmp_path)


def test_fewer_tokens_than_columns_are_said(small_model, text, capsys):
    model = Decoder(ModelConfig(vocab_size=512, hidden_size=64, intermediate_size=256, num_hidden_layers=1,
                                num_attention_heads=4))
    for tokens in (252, 256):
        own = settings("m", bits=4, method="gptq", calibration={"text": text, "tokens": tokens, "length": 4})
        rows = _calibration(own, model, Tokenizer.load(small_model))
        assert rows.numel() == tokens
        assert ("the 256 columns of a matrix" in capsys.readouterr().err) == (tokens < 256)


@pytest.mark.parametrize("how", [{}, {"bits": 4}, {"bits": 4, "method": "nf4"}, {"bits": 4, "method": "awq"}])
def test_weights_that_are_not_finite_are_refused_by_name(small_model, tmp_path, text, how):
    broken = tmp_path / "broken"
    shutil.copytree(small_model, broken)
    tensors = load_file(broken / "model.safetensors")
    name = next(one for one in tensors if one.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name].fill_(float("nan"))
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    reads = {"text": text} if "awq" in how.values() else {}
    with pytest.raises(InputError, match=f"{broken}: {name}"):
        run(settings(broken, **how, **reads), tmp_path / "out")
    with pytest.raises(InputError, match=f"{broken}: {name}"):
        export(broken, tmp_path / "x.gguf")


def test_weights_too_large_for_the_scales_are_those_of_the_model_given(small_model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(small_model, broken)
    tensors = load_file(broken / "model.safetensors")
    name = next(one for one in tensors if one.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name].mul_(1e9)
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"{broken}: {name}: .*do not fit float16"):
        run(settings(broken, bits=4), tmp_path / "out")


def test_quantizing_twice_is_refused(small_model, tmp_path):
    run(QuantizeSettings(model=small_model), tmp_path / "once")
    with pytest.raises(InputError, match="quantized already"):
        run(QuantizeSettings(model=tmp_path / "once"), tmp_path / "twice")


def test_a_tied_head_cannot_be_quantized(small_model, tmp_path):
    with pytest.raises(InputError, match="tied"):
        run(QuantizeSettings(model=small_model, head=8), tmp_path / "out")


@pytest.mark.parametrize("name", ["llama2_gqa", "chatglm2_6b"])
def test_a_head_of_its_own_has_its_own_bits(shared, tmp_path, name):
    from headwater.compress.quantize import quantize

    model = load_model(shared / "vectors" / name, dtype=torch.float32, mmap=False)
    quantize(model, QuantizeSettings(model="x", bits=4, group=32, head=8))
    assert (Form.of(model.head).base, Form.of(model.blocks[0].attention.qkv).base) == ("int8", "int4")
    save_model(model, tmp_path)
    assert disk_bytes(tmp_path) == formula_bytes(model)
    ids = torch.arange(3, 15)[None]
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)(ids), model(ids))
    targets = [one["targets"] for one in json.loads((tmp_path / "config.json").read_text())["quantization_config"][
        "config_groups"].values()]
    assert any(target in one for one in targets for target in ("lm_head", "re:.*\\.output_layer$"))


@pytest.mark.parametrize(("values", "words"), [
    ({"method": "gptq"}, "is for bits=4"), ({"group": 64}, "group and symmetric"), ({"group": 128}, "group and sym"),
    ({"bits": 4, "calibration": {"seed": 7}}, "calibration has no effect"), ({"seed": 7}, "unknown setting 'seed'"),
    ({"bits": 4, "method": "nf4", "symmetric": True}, "group and symmetric"),
    ({"bits": 4, "act_order": True}, "act_order has no effect"),
    ({"head": 4}, "a head of 4 bits does not go with int8"),
    ({"bits": 4, "method": "nf4", "head": 8}, "a head of 8 bits does not go with nf4"),
    ({"bits": 4, "calibration": {"tokens": 99}}, "calibration has no effect")])
def test_settings_without_effect_are_refused(values, words):
    with pytest.raises(SettingsError, match=words):
        QuantizeSettings.parse({"model": "m", **values})
