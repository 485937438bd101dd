import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.linear import Int8Linear, quantize_rows
from headwater.model.packed import pack_linears
from headwater.model.tensors import read_tensors, write_tensors

LLAMA = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2}
TOKENS = torch.arange(12)[None] % 31


def model_of(**fields):
    return initialise(Decoder(ModelConfig(**{**LLAMA, **fields})), 3).eval()


@pytest.mark.parametrize(("fields", "kind"), [
    ({}, "llama"), ({"tie_word_embeddings": True}, "llama"), ({"attention_bias": True, "output_bias": True}, "llama"),
    ({"attention_bias": True}, "headwater"), ({"position": "alibi"}, "headwater"),
    ({"norm": "layernorm", "activation": "gelu", "mlp_bias": True}, "headwater")], ids=str)
def test_saving_and_loading_changes_no_logit(tmp_path, fields, kind):
    model = model_of(**fields)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == kind
    with torch.inference_mode():
        assert torch.equal(model(TOKENS), loaded(TOKENS))


def test_equal_models_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(model_of(), tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_an_int8_model_survives_a_round_trip(tmp_path):
    model = model_of()
    pack_linears(model, head=True)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded.head, Int8Linear)
    with torch.inference_mode():
        assert torch.equal(model(TOKENS), loaded(TOKENS))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_int8_rounds_to_the_nearest_step(rows, columns, seed, size):
    weight = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    packed, scale = quantize_rows(weight)
    assert int(packed.abs().max()) <= 127
    assert torch.all((packed * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001)


def test_a_zero_row_stays_zero():
    packed, scale = quantize_rows(torch.zeros(2, 4))
    assert not packed.any()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("columns", [64, 344, 17])
@pytest.mark.parametrize("rows", [1, 16, 17])
def test_int8_products_agree_between_the_kernels(rows, columns):
    linear = torch.nn.Linear(columns, 32)
    packed = Int8Linear.pack(linear)
    x = torch.randn(rows, columns)
    wanted = torch.nn.functional.linear(x, packed.weight.float() * packed.scale[:, None], linear.bias)
    torch.testing.assert_close(packed(x), wanted, atol=1e-4, rtol=1e-4)
    half = packed.to(torch.bfloat16)(x.bfloat16())
    torch.testing.assert_close(half.float(), wanted, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_int8_products_survive_memory_at_odd_addresses(rows):
    linear = Int8Linear.pack(torch.nn.Linear(256, 256, bias=False)).to(torch.bfloat16)
    x = torch.randn(rows, 256).bfloat16()
    wanted = linear(x)
    linear.weight = torch.zeros(256 * 256 + 8, dtype=torch.int8)[8:].view(256, 256).copy_(linear.weight)
    shifted = torch.zeros(rows * 256 + 4, dtype=torch.bfloat16)[4:].view(rows, 256).copy_(x)
    assert torch.equal(linear(shifted), wanted)


def test_missing_weights_file_is_named(tmp_path):
    save_model(model_of(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: file is missing"):
        load_model(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(tmp_path, keep):
    save_model(model_of(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or not safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), r"1 missing: model\.layers\.1\.mlp\.up_proj\.weight"),
    (lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}), "1 unexpected: model.layers.0"),
    (lambda t: t.update({"model.norm.weight": torch.zeros(17)}), r"norm\.weight is \[17\], .* asks for \[16\]")])
def test_weights_that_do_not_fit_are_named(tmp_path, change, words):
    save_model(model_of(), tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    change(tensors)
    write_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


@pytest.mark.parametrize(("text", "words"), [
    ('{"model_type": "mystery"}', "unknown family: model_type 'mystery'"), ("{", "not valid JSON"),
    ('{"model_type": "llama"}', "unusable configuration"), ("[]", "not an object"),
    ('{"model_type": "llama", "rope_scaling": {"type": "longrope"}}', "rope scaling")])
def test_unusable_configurations_are_refused(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        load_model(tmp_path)


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="not a model folder"):
        load_model(tmp_path)
