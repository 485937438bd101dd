"""What goes into linear layers, gathered block by block."""

import pytest
import torch
from torch import nn

from headwater.compress.inputs import Inputs, pack_blocks
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model
from headwater.model.packed import pack_linears

ROWS = torch.randint(0, 31, (5, 12), generator=torch.Generator().manual_seed(0))


def beginning(model, rows):
    """With the marks that models of prefixes need."""
    first = torch.tensor(model.config.prefix_ids[::2], dtype=torch.long)
    return torch.cat([first.expand(len(rows), -1), rows], 1)


def test_sums_by_hand():
    inputs = Inputs(2, torch.device("cpu"))
    inputs.add(torch.tensor([[[1.0, -2.0]], [[0.0, 3.0]]]))
    assert inputs.hessian.tolist() == [[2.0, -4.0], [-4.0, 26.0]]
    assert (inputs.sizes.tolist(), inputs.tokens) == ([1.0, 5.0], 2)
    assert inputs.error(torch.tensor([[1.0, 1.0]])) == ((1 - 2) ** 2 + 3**2) / 2
    inputs.divide(torch.tensor([1.0, 2.0]))
    assert inputs.error(torch.tensor([[1.0, 2.0]])) == ((1 - 2) ** 2 + 3**2) / 2


@pytest.mark.parametrize("name", ["baichuan1_13b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b"])
def test_every_block_sees_what_a_whole_pass_gives_it(shared, name, monkeypatch):
    monkeypatch.setattr("headwater.compress.inputs.TOKENS", 24)  # three passes
    model = load_model(shared / "vectors" / name, dtype=torch.float32, mmap=False)
    rows = beginning(model, ROWS + 3)
    given = {}
    hooks = [block.feedforward.down.register_forward_pre_hook(
        lambda _, x, layer=layer: given.setdefault(layer, []).append(x[0].flatten(0, -2)))
        for layer, block in enumerate(model.blocks)]
    with torch.no_grad():
        model.hidden(rows)
    for hook in hooks:
        hook.remove()
    seen = {}
    pack_blocks(model, rows, lambda layer, block, inputs: seen.update({layer: inputs["feedforward.down"]}))
    for layer, (x,) in given.items():
        torch.testing.assert_close(seen[layer].hessian, 2 * x.T @ x, rtol=1e-3, atol=1e-3)
        assert seen[layer].tokens == rows.numel()


def test_a_block_reads_what_the_packed_ones_before_it_give():
    config = ModelConfig(vocab_size=31, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, initializer_range=0.3)
    model, whole = (initialise(Decoder(config), 0) for _ in range(2))
    seen = []

    def nought(layer, block, inputs):
        seen.append(inputs["attention.qkv"].hessian)
        if layer == 0:
            for one in block.modules():
                if isinstance(one, nn.Linear):
                    one.weight.data.zero_()

    pack_blocks(model, ROWS, nought)
    with torch.no_grad():
        x = whole.blocks[1].attention_norm(whole.embedding(ROWS)).flatten(0, 1)  # the first block adds nothing
    torch.testing.assert_close(seen[1], 2 * x.T @ x, rtol=1e-4, atol=1e-4)


def test_in_turn_a_layer_reads_what_the_packed_ones_before_it_give_and_the_floats_beside():
    config = ModelConfig(vocab_size=31, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, initializer_range=0.3)
    model, whole = (initialise(Decoder(config), 0) for _ in range(2))
    seen = {}

    def halved(layer, block, inputs):
        for name, own in inputs.items():
            seen[layer, name] = own
            block.get_submodule(name).weight.data *= 0.5

    def given(of, layer, name):
        found = []
        hook = of.blocks[layer].get_submodule(name).register_forward_pre_hook(
            lambda _, x: found.append(x[0].flatten(0, -2)))
        of.hidden(ROWS)
        hook.remove()
        return found[0]

    pack_blocks(model, ROWS, halved, in_turn=True)
    assert list(seen) == [(layer, name) for layer in range(2) for name in (
        "attention.qkv", "attention.out", "feedforward.up", "feedforward.down")]
    with torch.no_grad():
        for (layer, name), own in seen.items():
            x, floats = given(model, layer, name), given(whole, layer, name)
            torch.testing.assert_close(own.hessian, 2 * x.T @ x, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(own.drift, 2 * (floats - x).T @ x, rtol=1e-3, atol=1e-3)


def test_blocks_have_their_type_again():
    config = ModelConfig(vocab_size=31, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=4)
    model = initialise(Decoder(config), 0).to(torch.bfloat16)
    pack_blocks(model, ROWS, lambda layer, block, inputs: pack_linears(model, head=False, form="int4") and None)
    assert model.blocks[0].attention_norm.weight.dtype == torch.bfloat16
    assert model.blocks[0].attention.qkv.scale.dtype == torch.float16
