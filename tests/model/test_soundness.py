"""A number that means nothing is refused with the name of its tensor, wherever weights are packed or read packed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.gguf.numbers import LARGEST
from headwater.model.gguf.writing import write_gguf
from headwater.model.linear import quantize_rows
from headwater.model.packed import BASES, pack_linears
from headwater.model.soundness import require_finite

CONFIG = ModelConfig(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2)
UP, KEY = "model.layers.1.mlp.up_proj", "model.layers.0.self_attn.k_proj"


def float_folder(folder):
    save_model(initialise(Decoder(CONFIG), 0), folder)
    return folder


def packed_folder(folder, form, **how):
    model = initialise(Decoder(CONFIG), 0)
    pack_linears(model, head=False, form=form, **how)
    save_model(model, folder)
    return folder


def changed(folder, name, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("base", BASES)
def test_a_weight_that_is_not_finite_is_not_packed(tmp_path, base, wrong):
    changed(float_folder(tmp_path), f"{UP}.weight", lambda one: one[3].__setitem__(5, wrong))
    with pytest.raises(CheckpointError, match=rf"{UP}\.weight: 1 of 6,144 numbers .*the first at \[3, 5\]"):
        load_model(tmp_path, base=base)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.norm.weight"])
def test_what_stays_a_float_beside_packed_matrices_is_finite(tmp_path, base, name):
    changed(float_folder(tmp_path / "floats"), name, lambda one: one.view(-1)[7:8].fill_(math.nan))
    changed(packed_folder(tmp_path / "packed", base), name, lambda one: one.view(-1)[7:8].fill_(math.nan))
    for folder, how in ((tmp_path / "floats", {"base": base}), (tmp_path / "packed", {})):
        with pytest.raises(CheckpointError, match=f"{name}: 1 of"):
            load_model(folder, **how)


def test_weights_too_large_for_the_scales_are_named(tmp_path):
    changed(float_folder(tmp_path), f"{UP}.weight", lambda one: one.mul_(1e9))
    with pytest.raises(InputError, match=rf"{UP}\.weight: weights so large that .* do not fit float16"):
        load_model(tmp_path, base="int4")
    load_model(tmp_path, base="int8")


@pytest.mark.parametrize("form", BASES)
@pytest.mark.parametrize(("change", "words"), [
    (lambda scale: scale[2:3].neg_(), "negative"), (lambda scale: scale.zero_(), "0 where codes stand"),
    (lambda scale: scale[2:3].fill_(math.inf), "not finite")])
def test_scales_that_mean_nothing_are_refused(tmp_path, form, change, words):
    packed_folder(tmp_path, form)
    name = f"{KEY}.scale" if form == "nf4" else f"{KEY}.weight_scale"
    changed(tmp_path, name, change)
    with pytest.raises(CheckpointError, match=f"{KEY}: .* scales are {words}"):
        load_model(tmp_path)


@pytest.mark.parametrize("form", BASES)
def test_a_group_of_noughts_may_have_any_scale(tmp_path, form):
    model = initialise(Decoder(CONFIG), 0)
    with torch.no_grad():
        model.blocks[0].attention.qkv.weight[64:96] = 0.0  # the keys
    pack_linears(model, head=False, form=form)
    save_model(model, tmp_path)
    changed(tmp_path, f"{KEY}.scale" if form == "nf4" else f"{KEY}.weight_scale", lambda scale: scale.zero_())
    ids = torch.arange(9)[None]
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)(ids), model(ids))


def test_a_row_with_nan_is_not_packed_as_noughts():
    weight = torch.ones(3, 8)
    weight[1, 4], weight[2] = math.nan, 0.0
    assert quantize_rows(weight)[1].isnan().tolist() == [False, True, False]


@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_exactly_what_is_not_finite_is_refused(tmp_path_factory, values):
    wrong = sum(not math.isfinite(value) for value in values)
    if not wrong:
        require_finite("w", torch.tensor(values), "folder")
        return
    with pytest.raises(CheckpointError, match=f"w: {wrong} of {len(values)} numbers"):
        require_finite("w", torch.tensor(values), "folder")


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
def test_a_gguf_file_holds_no_number_that_its_type_does_not(tmp_path, kind):
    pytest.importorskip("gguf")
    model = initialise(Decoder(CONFIG), 0)
    with torch.no_grad():
        model.blocks[1].feedforward.up.weight[100, 3] = LARGEST[kind] * 1.01
    with pytest.raises(InputError, match=rf"blk\.1\.ffn_up\.weight holds .*, and {kind} at most"):
        write_gguf(model, tmp_path / "x.gguf", kind)
    assert not (tmp_path / "x.gguf").exists()
    with torch.no_grad():
        model.blocks[1].feedforward.up.weight[100, 3] = LARGEST[kind] * 0.99
    write_gguf(model, tmp_path / "x.gguf", kind)
