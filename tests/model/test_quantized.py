"""Folders of packed matrices in the public layouts: written by packers of a few lines from their documentation, and by
us; and what is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.int4 import Int4Linear
from headwater.model.linear import Int8Linear
from headwater.model.packed import pack_linears
from headwater.model.quantized.bits import codes_of, words_of
from headwater.model.tensors import read_tensors, write_tensors

GROUP = 32
IDS = torch.arange(12)[None]
CONFIG = ModelConfig(vocab_size=31, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, attention_bias=True, output_bias=True)
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}


def words(nibbles, order=range(8)):
    """Eight numbers of the last axis to a word, number order[k] at bits 4k, in numpy."""
    eights = nibbles.astype(np.uint32).reshape(*nibbles.shape[:-1], -1, 8)
    found = sum(eights[..., place] << np.uint32(4 * bit) for bit, place in enumerate(order))
    return torch.from_numpy(found.astype(np.uint32).view(np.int32))


def matrices(seed=0):
    """By official module: codes [O,I] and zeros [O,G] of 1 to 15, scales [O,G]."""
    draw = np.random.default_rng(seed)
    sizes = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
             "self_attn.o_proj": (64, 64), "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64),
             "mlp.down_proj": (64, 96)}
    return {f"model.layers.{layer}.{name}": (draw.integers(0, 16, (rows, columns)),
                                             draw.integers(1, 16, (rows, columns // GROUP)),
                                             draw.uniform(0.001, 0.02, (rows, columns // GROUP)).astype(np.float16))
            for layer in range(2) for name, (rows, columns) in sizes.items()}


def float_folder(folder, found):
    """The model that they stand for."""
    save_model(initialise(Decoder(CONFIG), 0), folder)
    tensors = read_tensors(folder / "model.safetensors")
    for name, (codes, zeros, scales) in found.items():
        whole = (codes - zeros.repeat(GROUP, 1)) * scales.astype(np.float32).repeat(GROUP, 1)
        tensors[f"{name}.weight"] = torch.from_numpy(whole.astype(np.float32))
    write_tensors(folder / "model.safetensors", tensors)
    return folder


def gptq(codes, zeros, scales, less=1):
    return {"qweight": words(codes.T.reshape(-1, 8, codes.shape[0]).transpose(0, 2, 1)).squeeze(-1),
            "qzeros": words(zeros.T - less), "scales": torch.from_numpy(scales.T.copy()),
            "g_idx": torch.arange(codes.shape[1], dtype=torch.int32) // GROUP}


def awq(codes, zeros, scales):
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    return {"qweight": words(codes.T, order), "qzeros": words(zeros.T, order),
            "scales": torch.from_numpy(scales.T.copy())}


def packed_folder(folder, found, said, pack):
    """With its quantization_config, in the place of the float matrices."""
    tensors = read_tensors(float_folder(folder, found) / "model.safetensors")
    for name, parts in found.items():
        tensors.pop(f"{name}.weight")
        tensors |= {f"{name}.{kind}": tensor.contiguous() for kind, tensor in pack(*parts).items()}
    write_tensors(folder / "model.safetensors", tensors)
    say(folder, said)
    return folder


def say(folder, said):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"quantization_config": said}))


def said_of(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def change(folder, changes):
    tensors = read_tensors(folder / "model.safetensors")
    changes(tensors)
    write_tensors(folder / "model.safetensors", tensors)


@given(rows=st.integers(1, 20), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_words_are_the_codes_again(rows, columns, seed):
    codes = torch.randint(0, 16, (rows, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    for own in (codes, codes.T.contiguous().T):
        assert torch.equal(codes_of(words_of(own))[:, :columns], codes)


@pytest.mark.parametrize(("said", "pack"), [
    (GPTQ, gptq), ({**GPTQ, "checkpoint_format": "gptq_v2"}, lambda *parts: gptq(*parts, less=0)), (AWQ, awq)],
    ids=["gptq", "gptq_v2", "awq"])
def test_a_foreign_folder_is_read(tmp_path, said, pack):
    found = matrices()
    whole = load_model(float_folder(tmp_path / "float", found))
    model = load_model(packed_folder(tmp_path / "packed", found, said, pack))
    assert isinstance(model.blocks[1].feedforward.down, Int4Linear)
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS), whole(IDS), rtol=1e-4, atol=1e-4)
    save_model(model, tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert said_of(tmp_path / "again")["quant_method"] == "compressed-tensors"
    with torch.inference_mode():
        assert torch.equal(again(IDS), model(IDS))


@pytest.mark.parametrize(("form", "symmetric"), [("int8", False), ("int4", False), ("int4", True)])
def test_what_we_write_is_read_as_its_documentation_says(tmp_path, form, symmetric):
    """Every matrix from its tensors alone, in numpy."""
    model = initialise(Decoder(CONFIG), 0)
    pack_linears(model, head=False, form=form, group=GROUP, symmetric=symmetric)
    save_model(model, tmp_path)
    tensors = {name: tensor.numpy() for name, tensor in read_tensors(tmp_path / "model.safetensors").items()}
    down = model.blocks[1].feedforward.down
    name = "model.layers.1.mlp.down_proj"
    scale = tensors[f"{name}.weight_scale"].astype(np.float32)
    if form == "int8":
        assert tensors[f"{name}.weight_shape"].tolist() == [64, 96]
        wanted = down.weight * down.scale[:, None]
        found = (tensors[f"{name}.weight_packed"].view(np.uint8).astype(int) - 128) * scale
    else:
        bits = np.arange(8) * 4
        codes = (tensors[f"{name}.weight_packed"].view(np.uint32)[..., None] >> bits & 15).reshape(64, -1)
        zeros = np.full((64, 3), 8) if symmetric else (
            tensors[f"{name}.weight_zero_point"].view(np.uint32)[:, None] >> bits[:, None] & 15).reshape(64, 3)
        assert tensors[f"{name}.weight_shape"].tolist() == [64, 96]
        assert (f"{name}.weight_zero_point" in tensors) is not symmetric
        wanted = down.unpacked(torch.float32)
        found = (codes - zeros.astype(int).repeat(GROUP, 1)) * scale.repeat(GROUP, 1)
    torch.testing.assert_close(torch.from_numpy(found.astype(np.float32)), wanted)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)(IDS), model(IDS))
        assert torch.equal(load_model(tmp_path, mmap=False)(IDS), model(IDS))


@pytest.mark.parametrize(("form", "symmetric"), [("int8", True), ("int4", True)])
def test_transformers_opens_what_we_write(tmp_path, form, symmetric):
    pytest.importorskip("compressed_tensors")
    transformers = pytest.importorskip("transformers")
    model = initialise(Decoder(CONFIG), 0)
    pack_linears(model, head=False, form=form, group=GROUP, symmetric=symmetric)
    save_model(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(IDS).logits, model(IDS), rtol=1e-4, atol=1e-4)


def test_a_matrix_that_the_group_does_not_divide_has_eight_bits_and_comes_back(tmp_path):
    model = initialise(Decoder(CONFIG.model_copy(update={"intermediate_size": 90})), 0)
    pack_linears(model, head=False, form="int4", group=64)
    save_model(model, tmp_path)
    groups = said_of(tmp_path)["config_groups"]
    assert [(one["targets"], one["weights"]["num_bits"]) for one in groups.values()] == [
        ([f"re:.*\\.{leaf}$" for leaf in ("gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")], 4),
        (["re:.*\\.down_proj$"], 8)]
    loaded = load_model(tmp_path)
    assert isinstance(loaded.blocks[0].feedforward.down, Int8Linear)
    with torch.inference_mode():
        assert torch.equal(loaded(IDS), model(IDS))


@pytest.mark.parametrize("layout", ["int-quantized", "naive-quantized"])
def test_eight_bits_in_rows_of_bytes_are_read(tmp_path, layout):
    model = initialise(Decoder(CONFIG), 0)
    pack_linears(model, head=False)
    save_model(model, tmp_path)
    tensors = read_tensors(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_packed")]:
        words = tensors.pop(name)
        module = name.removesuffix("_packed")
        rows, columns = tensors.pop(f"{module}_shape").tolist()
        tensors[module] = (words.view(torch.uint8)[:, :columns].to(torch.int16) - 128).to(torch.int8)
        assert tensors[module].shape == (rows, columns)
    write_tensors(tmp_path / "model.safetensors", tensors)
    said = said_of(tmp_path)
    said["config_groups"]["group_0"]["format"] = layout
    say(tmp_path, said)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)(IDS), model(IDS))


def test_eight_bits_of_columns_that_fill_no_word_come_back(tmp_path):
    model = initialise(Decoder(CONFIG.model_copy(update={"intermediate_size": 90})), 0)
    pack_linears(model, head=False)
    save_model(model, tmp_path)
    assert read_tensors(tmp_path / "model.safetensors")["model.layers.0.mlp.down_proj.weight_packed"].shape == (64, 23)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)(IDS), model(IDS))


def ours(folder, form="int4"):
    model = initialise(Decoder(CONFIG), 0)
    pack_linears(model, head=False, form=form, group=GROUP)
    save_model(model, folder)
    return folder


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(("changes", "words"), [
    (lambda t: t.pop(f"{Q}.weight_scale"), r"1 missing: model\.layers\.0\.self_attn\.q_proj\.weight_scale"),
    (lambda t: t.update({f"{Q}.weight_packed": t[f"{Q}.weight_packed"][:, :-1]}),
     r"weight_packed is \[64, 7\], .* \[64, 8\]"),
    (lambda t: t.update({f"{Q}.weight_zero_point": t[f"{Q}.weight_zero_point"][:5]}),
     r"\[5, 2\], config.json asks for \[8, 2\]"),
    (lambda t: t.update({f"{Q}.weight_shape": torch.tensor([64, 65])}), r"weight_shape is \[64, 65\]"),
    (lambda t: t[f"{Q}.weight_scale"].__setitem__((3, 1), float("nan")),
     r"q_proj: 1 of 128 scales are not finite, the first at \[3, 1\]"),
    (lambda t: t.update({f"{Q}.weight_scale": t[f"{Q}.weight_scale"].int()}), "is int32, and scales are floats"),
    (lambda t: t.update({f"{Q}.weight_packed": t[f"{Q}.weight_packed"].long()}),
     "is int64, and packed weights are int32"),
    (lambda t: t.update({f"{Q}.weight": torch.zeros(64, 64)}), "1 unexpected: .*q_proj.weight")])
def test_tensors_that_do_not_fit_are_named(tmp_path, changes, words):
    change(ours(tmp_path), changes)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


def test_a_cut_file_is_refused(tmp_path):
    path = ours(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_model(tmp_path)


@pytest.mark.parametrize(("changes", "words"), [
    ({"quant_method": "bitsandbytes"}, "'bitsandbytes' is not supported(.|\n)*known: compressed-tensors, gptq, awq"),
    ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"), ({"config_groups": {}}, "config_groups is empty"),
    ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config"),
    ({"quantization_status": "frozen"}, "not packed"),
    ({"format": "marlin-24", "config_groups": None}, "no attribute")])
def test_a_configuration_that_is_not_supported_is_refused(tmp_path, changes, words):
    said = said_of(ours(tmp_path))
    say(tmp_path, said | changes)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


@pytest.mark.parametrize(("changes", "words"), [
    ({"num_bits": 3}, "3 bits"), ({"type": "float"}, "type 'float'"), ({"actorder": "group"}, "actorder 'group'"),
    ({"group_size": 16}, "group_size 16 .*32, 64, 128"), ({"group_size": 64}, "group_size 64 does not divide the 96"),
    ({"strategy": "channel"}, "strategy 'channel' of 4 bits"), ({"dynamic": True}, "not supported"),
    ({"num_bits": 8}, "8 bits are read with one scale a row"), ({"num_bits": None}, "None bits")])
def test_weights_of_another_kind_are_refused(tmp_path, changes, words):
    said = said_of(ours(tmp_path))
    for group in said["config_groups"].values():
        group["weights"] |= changes
    say(tmp_path, said)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


def test_activations_and_mixed_parts_are_refused(tmp_path):
    said = said_of(ours(tmp_path))
    said["config_groups"]["group_0"]["input_activations"] = {"num_bits": 8}
    say(tmp_path, said)
    with pytest.raises(CheckpointError, match=r"group_0\.input_activations: quantized activations"):
        load_model(tmp_path)
    said["config_groups"]["group_0"]["input_activations"] = None
    say(tmp_path, said | {"ignore": ["lm_head", "re:.*k_proj"]})
    with pytest.raises(CheckpointError, match="packed in different ways"):
        load_model(tmp_path)


@pytest.mark.parametrize(("said", "words"), [
    ({**GPTQ, "bits": 3}, "3 bits"), ({**GPTQ, "group_size": -1}, "group_size -1"),
    ({"quant_method": "gptq"}, "has no 'bits'"),
    ({**GPTQ, "checkpoint_format": "marlin"}, "'marlin'"), ({**GPTQ, "dynamic": {"a": {}}}, "dynamic"),
    ({**AWQ, "version": "gemv"}, "'gemv'"), ({**AWQ, "zero_point": False}, "zero_point"),
    ({**AWQ, "bits": 8}, "8 bits")])
def test_what_the_other_layouts_cannot_hold_is_refused(tmp_path, said, words):
    packed_folder(tmp_path, matrices(), said, awq if said["quant_method"] == "awq" else gptq)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


def test_gptqs_order_of_columns_and_ambiguous_zeros_are_refused(tmp_path):
    packed_folder(tmp_path, matrices(), GPTQ, gptq)
    change(tmp_path, lambda t: t.update({f"{Q}.g_idx": t[f"{Q}.g_idx"].flip(0)}))
    with pytest.raises(CheckpointError, match=r"q_proj\.g_idx: columns of a group stand apart"):
        load_model(tmp_path)
    packed_folder(tmp_path, matrices(), GPTQ, gptq)
    change(tmp_path, lambda t: t[f"{Q}.qzeros"].fill_(-1))
    with pytest.raises(CheckpointError, match=r"q_proj\.qzeros: a stored zero of 15 is 0 or 16"):
        load_model(tmp_path)


def test_a_packed_folder_is_not_packed_in_another_form(tmp_path):
    ours(tmp_path)
    assert isinstance(load_model(tmp_path, base="int4").blocks[0].attention.qkv, Int4Linear)
    with pytest.raises(InputError, match="packed as int4 already, not as nf4"):
        load_model(tmp_path, base="nf4")


CHATGLM = {name: ModelConfig(vocab_size=40, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
                             num_attention_heads=4, max_position_embeddings=32, **values) for name, values in {
    "chatglm": {"position": "rope_2d", "rope_layout": "half", "rope_rounding": "float16", "norm": "layernorm",
                "norm_placement": "scaled_residual", "residual_scale": 56**0.5, "activation": "gelu_tanh",
                "attention_bias": True, "output_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
                "prefix_ids": (39, 38, 37), "layout": "chatglm"},
    "chatglm2": {"num_key_value_heads": 2, "rope_dims": 16, "rope_layout": "interleaved", "attention_bias": True,
                 "layout": "chatglm2"}}.items()}


def chatglm_folder(folder, config, bits):
    """As its `quantization.py` packs: the scale from the row's largest weight, of four bits the first column's in the
    high ones. With the float folder of the same numbers beside."""
    save_model(initialise(Decoder(config), 0).to(torch.float16), folder / "float")
    tensors = read_tensors(folder / "float/model.safetensors")
    packed = {}
    for name, weight in tensors.items():
        if ".layers." not in name or weight.dim() < 2:
            packed[name] = weight
            continue
        scale = (weight.float().abs().amax(1) / (2 ** (bits - 1) - 1)).half()
        codes = torch.round(weight.float() / scale[:, None].float()).to(torch.int8)
        packed[f"{name}_scale"] = scale
        packed[name] = codes if bits == 8 else codes[:, ::2] << 4 | codes[:, 1::2] & 15
        tensors[name] = codes.float() * scale[:, None].float()
    write_tensors(folder / "float/model.safetensors", tensors)
    write_tensors(folder / "model.safetensors", packed)
    values = json.loads((folder / "float/config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"quantization_bit": bits}))
    return folder


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", CHATGLM)
def test_chatglms_own_rows_are_read(tmp_path, name, bits, mmap):
    folder = chatglm_folder(tmp_path, CHATGLM[name], bits)
    model = load_model(folder, dtype=torch.float32, mmap=mmap)
    assert isinstance(model.blocks[1].feedforward.down, Int4Linear if bits == 4 else Int8Linear)
    ids = torch.tensor([[39, 37, *range(3, 13)]])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids), load_model(folder / "float", dtype=torch.float32)(ids), rtol=1e-4,
                                   atol=1e-4)
        save_model(model, tmp_path / "again", tokenizer_from=folder)
        assert torch.equal(load_model(tmp_path / "again", dtype=torch.float32)(ids), model(ids))
    values = json.loads((tmp_path / "again/config.json").read_text())
    assert "quantization_bit" not in values
    assert values["quantization_config"]["quant_method"] == "compressed-tensors"


def test_what_of_chatglms_cannot_be_read_is_refused(tmp_path):
    folder = chatglm_folder(tmp_path, CHATGLM["chatglm2"], 4)
    values = json.loads((folder / "config.json").read_text())
    for changes, words in (({"quantization_bit": 3}, "quantization_bit 3"),
                           ({"quantization_embeddings": True}, "quantization_embeddings"),
                           ({"quantization_bit": 8}, r"\[256, 64\], config.json asks for")):
        (folder / "config.json").write_text(json.dumps(values | changes))
        with pytest.raises(CheckpointError, match=words):
            load_model(folder)
    (folder / "float/config.json").write_text(json.dumps(values | {"quantization_bit": 8}))
    with pytest.raises(CheckpointError, match="weight_scale"):
        load_model(folder / "float")
    (folder / "config.json").write_text(json.dumps(values))
    change(folder, lambda t: t.update({name: t[name].int() for name in list(t) if t[name].dtype == torch.int8}))
    with pytest.raises(CheckpointError, match="is int32, and packed weights are int8"):
        load_model(folder)
