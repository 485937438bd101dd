"""Sliding windows and attention sinks: against masks, transformers' Mistral, and a text that holds nothing else."""

import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError, SettingsError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.cache import KVCache
from headwater.model.checkpoint import load_model, save_model
from headwater.model.extension import ContextSettings, KeptContext
from headwater.model.intervals import Intervals

SMALL = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 400, "initializer_range": 0.3}
POSITIONS = ["rope", "alibi", "none"]


def make(**changes):
    return initialise(Decoder(ModelConfig.parse({**SMALL, **changes})), 0).eval()


def tokens(length, rows=2):
    return torch.randint(0, 64, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("position", POSITIONS)
def test_a_window_is_a_mask(position):
    ids, places = tokens(90), torch.arange(90)
    mask = (places <= places[:, None]) & (places > places[:, None] - 7)
    windowed = make(position=position, sliding_window=7)
    with torch.no_grad():
        wanted = make(position=position)(ids, mask.expand(2, 1, -1, -1))
        everything = torch.ones_like(ids)
        for found in (windowed(ids), windowed(ids, everything), windowed(ids.int()),
                      windowed(ids, Intervals.causal(torch.zeros_like(ids)))):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-4)


def test_transformers_windows_are_the_same(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers, the reference here, is not installed")
    config = transformers.MistralConfig(
        vocab_size=71, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=3, head_dim=8, sliding_window=9, initializer_range=0.3, attn_implementation="eager")
    torch.manual_seed(4)
    theirs = transformers.MistralForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "model_type": "llama"}))
    ids = torch.randint(0, 71, (2, 60), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted, found = theirs(ids).logits, load_model(tmp_path, context=ContextSettings(window=9))(ids)
    assert (wanted - found).abs().max() <= 1e-4 * wanted.std()
    assert not torch.allclose(load_model(tmp_path)(ids), found, atol=1e-2)


@pytest.mark.parametrize("position", POSITIONS)
def test_with_sinks_a_token_reads_as_if_the_text_held_them_and_its_window_alone(position):
    """Of one layer, whose keys know nothing of other tokens: StreamingLLM's positions within the cache."""
    ids = tokens(60, rows=1)
    streaming, plain = (make(position=position, num_hidden_layers=1, **window) for window in (
        {"sliding_window": 10, "attention_sinks": 3}, {}))
    with torch.no_grad():
        found = streaming(ids)[0]
        for at in (0, 2, 9, 11, 12, 13, 30, 59):
            text = torch.cat((ids[:, :3], ids[:, max(3, at - 9) : at + 1]), 1)[:, : at + 1]
            torch.testing.assert_close(found[at], plain(text)[0, -1], rtol=1e-4, atol=2e-4)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(POSITIONS), st.integers(1, 20), st.integers(0, 5), st.integers(1, 40))
def test_reading_in_pieces_with_a_rolling_cache_equals_reading_at_once(position, window, sinks, piece):
    model, ids = make(position=position, sliding_window=window, attention_sinks=sinks), tokens(100)
    with torch.no_grad():
        whole = model.hidden(ids)
        for cache in (KVCache(model.config, 2, 100, piece=piece), KVCache(model.config, 2, 100)):
            found = [model.hidden(ids[:, at : at + piece], cache=cache) for at in range(0, 100, piece)]
            torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-3, atol=1e-3)
    assert cache.slots == 100
    assert KVCache(model.config, 2, 100, piece=piece).slots == min(100, window + sinks + piece - 1)


def test_rows_of_other_lengths_share_a_rolling_cache():
    model, ids = make(sliding_window=6, attention_sinks=2), tokens(40)
    cache = KVCache(model.config, 2, 40, piece=1)
    with torch.no_grad():
        whole = model.hidden(ids)
        for row, start in ((0, 0), (1, 0)):
            for at in range(start, 20 + 5 * row):
                model.hidden(ids[row : row + 1, at : at + 1], cache=cache.rows(row, row + 1),
                             slots=torch.tensor([[at]]))
        for step in range(10):
            slots = torch.tensor([[20 + step], [25 + step]])
            found = model.hidden(ids.gather(1, slots), cache=cache, slots=slots)
            torch.testing.assert_close(found[:, 0], whole[torch.arange(2), slots[:, 0]], rtol=1e-4, atol=1e-4)


def test_queries_beyond_one_block_see_the_same():
    model, ids = make(sliding_window=50, attention_sinks=4), tokens(700, rows=1)
    with torch.no_grad():
        torch.testing.assert_close(model.hidden(ids)[:, :300], model.hidden(ids[:, :300]), rtol=1e-4, atol=1e-4)
        cache = KVCache(model.config, 1, 700)
        found = torch.cat([model.hidden(ids[:, at : at + 100], cache=cache) for at in range(0, 700, 100)], 1)
        torch.testing.assert_close(found, model.hidden(ids), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("position", POSITIONS)
def test_packed_documents_have_sinks_of_their_own(position):
    model, ids = make(position=position, sliding_window=6, attention_sinks=3), tokens(400)
    cuts = [[0, 37, 40, 390, 400], [0, 200, 400]]
    documents = torch.stack([torch.bucketize(torch.arange(400), torch.tensor(row[1:]), right=True) for row in cuts])
    places = torch.cat([torch.cat([torch.arange(end - begin) for begin, end in pairwise(row)])[None] for row in cuts])
    with torch.no_grad():
        found = model(ids, Intervals.causal(documents), places)
        for row, ends in enumerate(cuts):
            for begin, end in pairwise(ends):
                alone = model(ids[row : row + 1, begin:end])[0]
                torch.testing.assert_close(found[row, begin:end], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sinks", [0, 2])
def test_a_model_with_a_window_can_be_trained(sinks):
    model = make(sliding_window=5, attention_sinks=sinks)
    model(tokens(20)).square().mean().backward()
    ours = model.blocks[0].attention.qkv.weight.grad
    assert torch.isfinite(ours).all()
    assert ours.abs().sum() > 0


def test_scores_are_scaled_before_the_softmax():
    sharp, plain, ids = make(score_scale=1.5), make(), tokens(30)
    with torch.no_grad():
        for block in plain.blocks:
            block.attention.qkv.weight[:64] *= 1.5
        torch.testing.assert_close(sharp(ids), plain(ids), rtol=1e-4, atol=1e-4)


def test_what_a_window_cannot_read_is_refused():
    model, ids = make(sliding_window=5, attention_sinks=2), tokens(20)
    with pytest.raises(InputError, match="leave it out"):
        model(ids, torch.ones_like(ids))
    with pytest.raises(InputError, match="read both ways"):
        model(ids, Intervals(torch.zeros_like(ids), torch.full_like(ids, 19)))
    for changes, words in (({"attention_sinks": 2}, "attention_sinks needs a sliding_window"),
                           ({"sliding_window": 4, "position": "rope_2d"}, "sliding_window is of causal models")):
        with pytest.raises(SettingsError, match=words):
            ModelConfig.parse({**SMALL, **changes})


def test_a_window_survives_export(tmp_path):
    from headwater.model.convert import ConvertSettings, convert

    save_model(make(), tmp_path / "whole")
    convert(tmp_path / "whole", tmp_path / "windowed", ConvertSettings(context=KeptContext(window=8, sinks=2)))
    ids = tokens(50)
    at_load, exported = load_model(tmp_path / "whole", context=ContextSettings(window=8, sinks=2)), load_model(
        tmp_path / "windowed")
    with torch.no_grad():
        torch.testing.assert_close(exported(ids), at_load(ids), rtol=0, atol=0)
    assert exported.config.sliding_window == 8
