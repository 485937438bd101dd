"""Properties that hold for every family's decoder, on random small models: caches, padding, round trips."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, SettingsError
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.tensors import read_tensors
from headwater.presets import PRESETS, preset

SMALL = {"vocab_size": 67, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 6, "head_dim": 0, "max_position_embeddings": 40}
SHAPES = {"GLM-4-9B-Chat": {"num_key_value_heads": 2}, "GLM-4-9B-0414": {"num_key_value_heads": 2},
          "Llama-2-70B": {"num_key_value_heads": 3}, "Llama-2-7B": {"num_key_value_heads": 0}}
NAMES = ["Llama-2-7B", "Llama-2-70B", "Baichuan-7B", "Baichuan2-7B", "Baichuan2-13B", "ChatGLM-6B", "ChatGLM2-6B",
         "ChatGLM2-6B-32K", "ChatGLM3-6B-32K", "GLM-4-9B-Chat", "GLM-4-9B-0414", "GLM-10B"]
GMASK, MASK, SOP = 61, 60, 64


def small(name: str) -> Decoder:
    """The preset's axes at a size that runs in milliseconds."""
    found = PRESETS[name]
    heads = {"num_key_value_heads": found.get("num_key_value_heads", 0) and 2, "rope_dims": 0, **SHAPES.get(name, {})}
    changes = {**SMALL, **heads}
    if found.get("head_dim"):
        changes |= {"head_dim": 8, "rope_dims": 4}
    if found.get("layout") == "glm":
        changes["intermediate_size"] = 192
    if found.get("prefix_ids"):
        changes["prefix_ids"] = (GMASK, MASK, SOP)
    model = initialise(Decoder(preset(name, **changes)), 5).eval()
    with torch.no_grad():  # norms, biases and scores that a mistake would show in
        generator = torch.Generator().manual_seed(6)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.mul_(10)
    return model


MODELS = {name: small(name) for name in NAMES}


def some_ids(name: str, rows: int, length: int, seed: int, *, context: int | None = None) -> torch.Tensor:
    """Random ids; for the first ChatGLM each row holds a mask token and, at `context`, its <sop>."""
    ids = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(seed))
    if name == "ChatGLM-6B":
        context = length // 2 if context is None else context
        ids[:, context - 1], ids[:, context] = GMASK, SOP
    return ids


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 6), max_size=5), st.integers(0, 99))
@torch.inference_mode()
def test_any_split_of_a_sequence_gives_the_logits_of_the_whole(name, sizes, seed):
    model, length = MODELS[name], 20
    ids = some_ids(name, 2, length, seed, context=6)
    whole, cache, parts, start = model(ids), KVCache(model.config, 2, 24), [], 0
    for size in [8, *sizes]:
        if start < length:
            parts.append(model(ids[:, start : start + size], cache=cache))
            start += size
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, :start], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["left", "right"])
@torch.inference_mode()
def test_padding_never_changes_a_row(name, side):
    model, length = MODELS[name], 14
    ids = some_ids(name, 1, length, 3)
    alone = model(ids)
    pad = torch.full((1, 5), 3)
    padded = torch.cat((pad, ids) if side == "left" else (ids, pad), dim=1)
    mask = (torch.arange(19) >= 5 if side == "left" else torch.arange(19) < length).long()[None]
    other = some_ids(name, 1, 19, 4)
    positions = None
    if model.config.position == "learned_2d" and side == "left":  # absolute positions: the caller counts
        first = (mask.cumsum(-1) - 1).clamp_min(0)
        positions = torch.stack((first, torch.zeros_like(first)), dim=1).expand(2, -1, -1)
    both = model(torch.cat((padded, other)), torch.cat((mask, torch.ones(1, 19).long())), positions)[0]
    torch.testing.assert_close(both[mask[0].bool()], alone[0], atol=3e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_a_left_padded_batch_goes_on_with_a_cache_as_each_row_alone(name):
    model = MODELS[name]
    ids, more = some_ids(name, 1, 12, 7), some_ids("", 2, 3, 8)
    other = some_ids(name, 1, 15, 9)
    mask = (torch.arange(15) >= 3).long()[None]
    batch = torch.cat((torch.cat((torch.full((1, 3), 3), ids), dim=1), other))
    masks = torch.cat((mask, torch.ones(1, 15).long()))
    positions = None
    if model.config.position == "learned_2d":
        first = (masks.cumsum(-1) - 1).clamp_min(0)
        positions = torch.stack((first, torch.zeros_like(first)), dim=1)
    cache = KVCache(model.config, 2, 18)
    model(batch, masks, positions, cache)
    found = torch.cat([model(more[:, step : step + 1], cache=cache) for step in range(3)], dim=1)
    for row, prompt in enumerate((ids, other)):
        wanted = model(torch.cat((prompt, more[row : row + 1]), dim=1))[:, -3:]
        torch.testing.assert_close(found[row : row + 1], wanted, atol=3e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_writing_and_reading_again_is_the_identity(name, tmp_path):
    model = MODELS[name]
    save_model(model, tmp_path / "once")
    again = load_model(tmp_path / "once")
    assert again.config == model.config
    save_model(again, tmp_path / "twice", shard_bytes=20_000)
    assert len(list((tmp_path / "twice").glob("model-*.safetensors"))) > 2
    third = load_model(tmp_path / "twice", mmap=True)
    state = third.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    once = read_tensors(tmp_path / "once" / "model.safetensors")
    files = sorted((tmp_path / "twice").glob("model-*.safetensors"))
    twice = {name: tensor for file in files for name, tensor in read_tensors(file).items()}
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_packed_documents_are_numbers_in_the_mask():
    model = MODELS["Baichuan2-13B"]
    ids = some_ids("", 1, 12, 2)
    mask = torch.tensor([[1] * 5 + [2] * 7])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids, mask)[:, 5:], model(ids[:, 5:]), atol=1e-4, rtol=1e-3)


def test_a_prompt_without_its_marks_is_refused_by_name():
    model = MODELS["ChatGLM-6B"]
    with pytest.raises(InputError, match=r"<sop> \(64\)"):
        model(torch.randint(5, 60, (1, 8)))
    ids = torch.randint(5, 60, (1, 8))
    ids[0, 4] = SOP
    with pytest.raises(InputError, match=r"mask token \(61, 60\)"):
        model(ids)


@pytest.mark.parametrize(("mask", "positions", "words"), [
    (torch.ones(1, 7), None, r"attention_mask has shape \[1, 7\]"),
    (torch.ones(1, 1, 8, 9).bool(), None, r"attention_mask has shape \[1, 1, 8, 9\]"),
    (None, torch.zeros(1, 7).long(), r"position_ids has shape \[1, 7\]"),
    (None, torch.zeros(1, 2, 8).long(), r"position_ids has shape \[1, 2, 8\]")])
def test_arguments_that_do_not_fit_are_refused(mask, positions, words):
    with pytest.raises(InputError, match=words):
        MODELS["Llama-2-7B"](some_ids("", 1, 8, 1), mask, positions)


def test_the_norm_head_keeps_its_parameter_and_follows_it():
    model = MODELS["Baichuan2-7B"]
    ids, weight = some_ids("", 1, 6, 1), model.head.weight
    before = weight.detach().clone()
    with torch.inference_mode():
        first = model(ids)
        plain = model.hidden(ids) @ torch.nn.functional.normalize(weight).T
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-4)
    assert model.head.weight is weight
    assert torch.equal(weight, before)
    with torch.no_grad():
        weight[3] *= 2  # a row's length does not count
        weight[4] = -weight[4]
    with torch.inference_mode():
        second = model(ids)
    torch.testing.assert_close(second[..., 3], first[..., 3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second[..., 4], -first[..., 4], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        weight.copy_(before)


def test_configurations_that_contradict_themselves_are_refused():
    with pytest.raises(SettingsError, match="multiple of 4"):
        ModelConfig.parse({**SMALL, "position": "rope_2d", "head_dim": 6})
    with pytest.raises(SettingsError, match="needs position 'rope'"):
        ModelConfig.parse({**SMALL, "position": "alibi", "rope_scaling": {"kind": "linear", "factor": 2}})
    with pytest.raises(SettingsError, match=r"original_length.* is required"):
        ModelConfig.parse({**SMALL, "rope_scaling": {"kind": "yarn", "factor": 2}})


@pytest.mark.parametrize(("arguments", "words"), [
    ({"input_ids": torch.tensor([1, 2])}, r"input_ids is torch.int64 \[2\]"),
    ({"input_ids": torch.ones(1, 3)}, "torch.float32"),
    ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, "at least one token"),
    ({"input_ids": [[1, 2]]}, "input_ids is list"),
    ({"input_ids": torch.tensor([[1, 99]])}, "from 1 to 99, the vocabulary from 0 to 31"),
    ({"attention_mask": torch.tensor([2])}, "for GLM alone"),
    ({"attention_mask": torch.ones(1, 3, 3, 3, dtype=torch.bool)}, r"give bool \[B, 1, T, S\]"),
    ({"attention_mask": torch.ones(2, 3)}, "1 rows of input_ids, attention_mask has shape"),
    ({"attention_mask": torch.ones(1, 4)}, r"give \[B, 3\]"),
    ({"attention_mask": torch.zeros(1, 1, 3, 3)}, "may mean 0 or -inf"),
    ({"position_ids": torch.ones(1, 3)}, "give integers"),
    ({"position_ids": torch.ones(1, 2, dtype=torch.long)}, r"give \[1, 3\]")])
def test_arguments_that_do_not_fit_are_told(arguments, words):
    model = Decoder(ModelConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                                num_attention_heads=2))
    with pytest.raises(InputError, match=words):
        model(**{"input_ids": torch.tensor([[1, 2, 3]]), **arguments})
    with pytest.raises(InputError, match="for a cache of 2"):
        model(torch.tensor([[1, 2, 3]]), cache=KVCache(model.config, 2, 8))


def test_a_call_that_failed_counts_for_nothing():
    for name in ("Llama-2-7B", "GLM-10B"):
        model = small(name)
        cache = KVCache(model.config, 1, 12)
        with torch.inference_mode():
            model(torch.tensor([[1, 2, 3]]), cache=cache)
            with pytest.raises(InputError):
                model(torch.tensor([[1, 99]]), cache=cache)
            assert cache.filled == 3


@pytest.mark.parametrize("name", ["Llama-2-7B", "Baichuan2-13B", "GLM-4-9B-Chat"])
def test_a_cache_filled_from_right_padded_rows_goes_on_without_the_padding(name):
    model = small(name)
    rows = [torch.randint(1, 60, (length,), generator=torch.Generator().manual_seed(length)) for length in (4, 7)]
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    ids = torch.stack([torch.cat((rows[0], torch.zeros(3, dtype=torch.long))), rows[1]])
    following, places = torch.tensor([[5, 6], [7, 8]]), torch.tensor([[4, 5], [7, 8]])
    cache = KVCache(model.config, 2, 12)
    with torch.inference_mode():
        model(ids, attention_mask=mask, position_ids=torch.arange(7).expand(2, -1), cache=cache)
        found = [model(following[:, step : step + 1], position_ids=places[:, step : step + 1], cache=cache)
                 for step in range(2)]
        for row, tokens in enumerate(rows):
            alone = model(torch.cat((tokens, following[row]))[None])[0, -2:]
            torch.testing.assert_close(torch.cat(found, 1)[row], alone, rtol=1e-4, atol=1e-5)
