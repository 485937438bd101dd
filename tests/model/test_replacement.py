"""Positional vector replacement: stretched by hand, installed at load, used with and without a cache."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from headwater.errors import InputError, SettingsError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.cache import KVCache
from headwater.model.checkpoint import load_model, save_model
from headwater.model.extension import ContextSettings, KeptContext
from headwater.model.replacement import add_by_position, difference, stretched, whose, write_vectors

CONFIG = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
                     max_position_embeddings=16, position="none", initializer_range=0.3)


def test_vectors_are_stretched_on_straight_lines_behind_the_first_four():
    line = torch.arange(24.0)[:, None]
    assert stretched(line, 8, 2).flatten()[:13].tolist() == [0, 1, 2, 3, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7, 7]


@settings(deadline=None, max_examples=30)
@given(st.integers(6, 20), st.floats(1, 6))
def test_a_straight_line_is_stretched_by_the_ratio_and_never_leaves_what_was_trained(trained, ratio):
    line = torch.arange(64.0)[:, None]
    found = stretched(line, trained, ratio).flatten()
    places = torch.arange(4, 64)
    torch.testing.assert_close(found[4:], (4 + (places - 4) / ratio).clamp(max=trained - 1))
    assert found[:4].tolist() == [0, 1, 2, 3]


def test_a_ratio_of_one_changes_nothing_within_the_trained_length():
    vectors = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    found = difference(vectors, 12, 1.0, 1.0)
    assert found[:12].abs().max() == 0
    torch.testing.assert_close(vectors[12:] + found[12:], vectors[11].expand(18, -1))
    torch.testing.assert_close(difference(vectors, 12, 1.0, 1.5)[4:12], 0.5 * vectors[4:12])
    assert difference(vectors, 12, 3.0, 1.5)[:4].abs().max() == 0


def test_rows_are_added_by_position_with_and_without_a_cache():
    plain, changed = (initialise(Decoder(CONFIG), 0).eval() for _ in range(2))
    table = torch.randn(40, 32, generator=torch.Generator().manual_seed(0))
    add_by_position(changed, 2, table)
    ids = torch.randint(0, 64, (2, 40), generator=torch.Generator().manual_seed(1))
    seen = []
    plain.blocks[1].register_forward_hook(lambda _, __, output: output + table)
    changed.blocks[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        wanted, found = plain(ids), changed(ids)
        torch.testing.assert_close(found, wanted)
        cache = KVCache(CONFIG, 2, 40)
        pieces = [changed(ids[:, at : at + 13], cache=cache) for at in range(0, 40, 13)]
        torch.testing.assert_close(torch.cat(pieces, 1), wanted, rtol=1e-4, atol=1e-4)
        with pytest.raises(InputError, match="position 40 of 40 positional vectors"):
            changed(torch.zeros(1, 41, dtype=torch.int64))


def folder(tmp_path, **vectors):
    save_model(initialise(Decoder(CONFIG), 0), tmp_path / "model")
    save_file(vectors, tmp_path / "vectors.safetensors")
    return tmp_path / "model", tmp_path / "vectors.safetensors"


def test_a_model_is_loaded_with_its_vectors_replaced(tmp_path):
    vectors = torch.randn(4, 40, 32, generator=torch.Generator().manual_seed(0))
    model, file = folder(tmp_path, vectors=vectors)
    asked = {"length": 32, "method": "vectors", "vectors": file, "layer": 1}
    ids = torch.arange(32)[None]
    with torch.no_grad():
        wanted = initialise(Decoder(CONFIG), 0)
        add_by_position(wanted, 1, difference(vectors[1], 16, 2.0, 1.0))
        found = load_model(model, context=ContextSettings(**asked))
        torch.testing.assert_close(found(ids), wanted(ids))
        assert found.config.longest == 32
        stronger = load_model(model, context=ContextSettings(**asked, ratio=2.5, strength=1.3))
        assert not torch.allclose(stronger(ids), found(ids), atol=1e-3)
        torch.testing.assert_close(load_model(model, context=ContextSettings(length=32))(ids)[:, :4], found(ids)[:, :4])


@pytest.mark.parametrize(("vectors", "asked", "words"), [
    ({"vectors": torch.zeros(4, 40, 32)}, {"length": 64}, "40 positions for a context of 64"),
    ({"vectors": torch.zeros(5, 40, 32)}, {"length": 32}, "of 4 blocks, 32 wide, for a model of 3"),
    ({"vectors": torch.zeros(40, 32)}, {"length": 32}, "no positional vectors here"),
    ({"others": torch.zeros(4, 40, 32)}, {"length": 32}, "no positional vectors here")])
def test_vectors_that_are_not_the_models_are_refused(tmp_path, vectors, asked, words):
    model, file = folder(tmp_path, **vectors)
    with pytest.raises(InputError, match=words):
        load_model(model, context=ContextSettings(method="vectors", vectors=file, layer=1, **asked))


def test_vectors_of_other_weights_are_refused(tmp_path):
    vectors = {"vectors": torch.zeros(4, 40, 32)}
    model, file = folder(tmp_path, **vectors)
    asked = ContextSettings(method="vectors", vectors=file, layer=1, length=32)
    write_vectors(file, vectors, model)
    load_model(model, context=asked)
    save_model(initialise(Decoder(CONFIG), 1), tmp_path / "other")
    write_vectors(file, vectors, tmp_path / "other")
    with pytest.raises(InputError, match="of other weights"):
        load_model(model, context=asked)
    vectors["vectors"][1, 7, 3] = math.nan
    write_vectors(file, vectors, model)
    with pytest.raises(InputError, match="block 1 that are not finite"):
        load_model(model, context=asked)
    with pytest.raises(InputError, match="no such file"):
        load_model(model, context=asked.model_copy(update={"vectors": tmp_path}))


def test_weights_that_begin_alike_are_told_apart(tmp_path):
    embedding = torch.zeros(1 << 18)  # the million bytes that files begin with
    for name, value in (("base", 0.0), ("tuned", 1.0)):
        (tmp_path / name).mkdir()
        save_file({"a": embedding, "b": torch.full((1 << 18,), value)}, tmp_path / name / "model.safetensors")
    assert whose(tmp_path / "base") != whose(tmp_path / "tuned")


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    model, file = folder(tmp_path, vectors=torch.zeros(1))
    file.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="no positional vectors here"):
        load_model(model, context=ContextSettings(method="vectors", vectors=file, layer=1, length=32))


def test_a_model_folder_cannot_keep_them():
    with pytest.raises(SettingsError, match="method vectors is for reading alone"):
        KeptContext.parse({"length": 32, "method": "vectors", "vectors": "v"})
