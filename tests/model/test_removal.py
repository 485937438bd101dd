"""Breaks when a block is lost that should stay, or one that stays keeps its old place in the cache."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, read_config, save_model
from headwater.model.removal import remove_blocks, without_blocks

IDS = torch.arange(3, 15)[None]


@pytest.fixture
def model() -> Decoder:
    config = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=5,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    return initialise(Decoder(config), 0).eval()


@torch.inference_mode()
def test_what_is_left_is_a_decoder_of_the_other_blocks(model):
    other = Decoder(model.config.model_copy(update={"num_hidden_layers": 3})).eval()
    names = {0: 0, 1: 2, 2: 4}
    state = model.state_dict()
    other.load_state_dict({name: state[name if not name.startswith("blocks.") else
                                       f"blocks.{names[int(name.split('.')[1])]}.{name.split('.', 2)[2]}"]
                           for name in other.state_dict()})
    remove_blocks(model, {1, 3})
    assert model.config == other.config
    assert torch.equal(model(IDS), other(IDS))


@torch.inference_mode()
def test_the_others_take_their_places_in_the_cache(model):
    remove_blocks(model, [0, 2])
    cache = model.cache(1, 12)
    assert len(cache.keys) == 3
    pieces = torch.cat([model(IDS[:, :7], cache=cache), model(IDS[:, 7:], cache=cache)], 1)
    assert torch.allclose(pieces, model(IDS), atol=1e-4)


@torch.inference_mode()
def test_removed_for_a_while_they_come_back(model):
    before, config = model(IDS), model.config
    with pytest.raises(RuntimeError), without_blocks(model, [1]) as shorter:
        assert shorter.config.num_hidden_layers == len(shorter.blocks) == 4
        assert not torch.equal(shorter(IDS), before)
        raise RuntimeError
    assert model.config == config
    assert [block.attention.layer for block in model.blocks] == [0, 1, 2, 3, 4]
    assert torch.equal(model(IDS), before)


@pytest.mark.parametrize(("layers", "why"), [([5], "block 5 of 5"), ([-1], "block -1 of 5"), (range(5), "all 5 blocks")])
def test_blocks_that_are_not_there_and_all_of_them_are_refused(model, layers, why):
    with pytest.raises(InputError, match=why):
        remove_blocks(model, layers)
    assert len(model.blocks) == 5


@torch.inference_mode()
def test_the_first_chatglm_keeps_the_scale_of_its_residual(shared, tmp_path):
    """That of 28 layers, however many are left: the weights were learned with it."""
    folder = shared / "vectors" / "chatglm_6b"
    model = load_model(folder)
    scale = model.config.residual_scale
    remove_blocks(model, [3, 20])
    save_model(model, tmp_path, tokenizer_from=folder)
    again = load_model(tmp_path)
    assert again.config.num_hidden_layers == 26
    assert again.config.residual_scale == scale == pytest.approx(56**0.5)
    assert all(block.scale == scale for block in again.blocks)
    gmask, _, sop = model.config.prefix_ids
    ids = torch.tensor([[5, 6, gmask, sop, 7, 8]])
    assert torch.equal(again(ids), model(ids))


def test_every_name_of_the_number_of_layers_is_set_right(shared, tmp_path):
    """GLM-4's own file says it twice, and a later one lists something for every layer."""
    folder = tmp_path / "old"
    shutil.copytree(shared / "vectors" / "glm4_9b_chatglm", folder)
    values = json.loads((folder / "config.json").read_text())
    layers = values["num_layers"]
    values |= {"num_hidden_layers": layers, "layer_types": ["full"] * layers, "kept": "said"}
    (folder / "config.json").write_text(json.dumps(values))
    save_model(remove_blocks(load_model(folder), [0]), tmp_path / "new", tokenizer_from=folder)
    config, said = read_config(tmp_path / "new")
    assert said["num_layers"] == said["num_hidden_layers"] == config.num_hidden_layers == layers - 1
    assert "layer_types" not in said
    assert said["kept"] == "said"
