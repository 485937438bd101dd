"""Scales are folded into what stands before, so that a float model stays what it was."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headwater.compress.awq import folds, search, smooth
from headwater.compress.inputs import Inputs, pack_blocks
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model
from headwater.model.packed import Form, replace_layer

FAMILIES = {"baichuan1_13b": 4, "baichuan2_7b": 4, "chatglm2_6b": 3, "chatglm_6b": 1, "glm4_0414": 3, "glm_10b": 3,
            "llama2_gqa": 3}
"""Layers of a block whose inputs can be divided: without GQA the values', with GELU not the last, with ChatGLM-6B's
residual behind the norm neither of those behind norms."""


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_folded_says_the_same(shared, name):
    model = load_model(shared / "vectors" / name, dtype=torch.float32, mmap=False)
    ids = torch.tensor([[*model.config.prefix_ids[::2], *range(3, 13)]])
    with torch.no_grad():
        before = model(ids)
        for block in model.blocks:
            found = list(folds(block))
            assert len(found) == FAMILIES[name]
            for fold in found:
                weight = block.get_submodule(fold.name).weight.data
                by = 1 + torch.rand(weight.shape[1], generator=torch.Generator().manual_seed(1))
                weight *= by
                fold.divide(by)
        torch.testing.assert_close(model(ids), before, rtol=1e-3, atol=1e-3)


def test_a_column_of_large_inputs_is_scaled_up():
    weight, x = drawn(16, 64), drawn(500, 64, seed=1)
    x[:, 7] *= 60
    inputs = Inputs(64, torch.device("cpu"))
    inputs.add(x)
    scales = search(weight, inputs, Form("int4", 32, symmetric=False))
    assert scales.argmax() == 7
    assert scales[7] > 1.5 * scales.median()


@given(seed=st.integers(0, 30), symmetric=st.booleans())
def test_the_search_never_does_worse_than_none(seed, symmetric):
    weight, inputs = drawn(8, 64, seed=seed), Inputs(64, torch.device("cpu"))
    inputs.add(drawn(200, 64, seed=seed + 1) * (1 + 9 * drawn(64, seed=seed + 2).square()))
    form = Form("int4", 32, symmetric)
    scales = search(weight, inputs, form)

    def changed(by):
        linear = nn.Linear(64, 8, bias=False)
        linear.weight.data = weight * by
        return inputs.error(form.pack(linear).unpacked(torch.float32) / by - weight)

    assert changed(scales) <= changed(torch.ones(64))


def test_what_is_smoothed_is_nearer_when_it_is_rounded():
    """Of a whole model with sizes that differ between channels."""
    config = ModelConfig(vocab_size=31, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, initializer_range=0.3)
    rows = torch.randint(0, 31, (16, 16), generator=torch.Generator().manual_seed(0))
    lost = {}
    for method in ("rtn", "awq"):
        model = initialise(Decoder(config), 0)
        for block in model.blocks:
            block.attention_norm.weight.data[::16] *= 20
            block.feedforward_norm.weight.data[::16] *= 20
        with torch.no_grad():
            exact = model(rows)
            pack_blocks(model, rows, lambda layer, block, inputs, method=method: pack(block, inputs, method))
            lost[method] = float((model(rows) - exact).square().mean())
    assert lost["awq"] < 0.85 * lost["rtn"]


def pack(block, inputs, method):
    forms = {name: Form.fitting("int4", own.hessian.shape[0]) for name, own in inputs.items()}
    if method == "awq":
        smooth(block, inputs, forms)
    for name, form in forms.items():
        replace_layer(block, name, form.pack(block.get_submodule(name)))
