"""Longer contexts: every method against transformers' own implementation, refusals, and export."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from headwater.errors import HeadwaterError, SettingsError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.cache import KVCache
from headwater.model.checkpoint import load_model, read_config, save_model
from headwater.model.convert import ConvertSettings, convert
from headwater.model.extension import ContextSettings, KeptContext, extended, ntk_base
from headwater.model.intervals import Intervals
from headwater.model.positions import frequencies

SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 2, "max_position_embeddings": 64}
METHODS = ["linear", "ntk", "dynamic", "yarn", "llama3", "base", "ratio"]


def context(method, length=256):
    more = {"base": {"base": 5e5}, "ratio": {"ratio": 50.0}}.get(method, {})
    return ContextSettings(length=length, method=method, **more)


def kept(method):
    return KeptContext(**context(method).model_dump(exclude_unset=True))


def theirs(config, longest):
    """transformers' frequencies and factor for the same official configuration."""
    scaling = config.rope_scaling
    official = LlamaConfig(
        hidden_size=config.hidden_size, num_attention_heads=config.num_attention_heads, head_dim=config.head_dim,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters={"rope_theta": config.rope_theta, **({"rope_type": "default"} if scaling is None
                                                             else scaling.official())})
    if scaling is None:
        return 1.0 / (config.rope_theta ** (torch.arange(0, config.head_dim, 2).float() / config.head_dim)), 1.0
    return ROPE_INIT_FUNCTIONS[scaling.kind](official, device="cpu", seq_len=longest)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(METHODS), st.sampled_from([8, 16, 64, 128]), st.sampled_from([1e4, 5e4, 1e6]),
       st.integers(64, 8192), st.floats(1.1, 40), st.floats(0.2, 2))
def test_every_method_gives_the_official_frequencies(method, dims, base, trained, factor, share):
    config = ModelConfig(**{**SMALL, "hidden_size": 2 * dims, "rope_theta": base, "max_position_embeddings": trained})
    longer = extended(config, context(method, int(trained * factor) + 1))
    longest = int(share * longer.longest) + 1
    wanted, magnitude = theirs(longer, longest)
    torch.testing.assert_close(frequencies(longer, longest), wanted, rtol=3e-6, atol=0)
    if longer.rope_scaling is not None:
        assert longer.rope_scaling.magnitude == pytest.approx(magnitude)


def test_ntk_interpolates_the_slowest_dimension_whole_and_the_quickest_not_at_all():
    config = ModelConfig(**SMALL)
    plain, longer = frequencies(config, 1), frequencies(extended(config, context("ntk")), 1)
    assert longer[0] == plain[0]
    assert longer[-1] == pytest.approx(plain[-1].item() / 4, rel=1e-5)
    assert ntk_base(1e4, 4, 128) == pytest.approx(1e4 * 4 ** (128 / 126))


@pytest.mark.parametrize("method", METHODS)
def test_a_longer_context_survives_export(tmp_path, method):
    model = initialise(Decoder(ModelConfig(**SMALL)), 0)
    save_model(model, tmp_path / "short")
    convert(tmp_path / "short", tmp_path / "long", ConvertSettings(context=kept(method)))
    at_load, exported = load_model(tmp_path / "short", context=context(method)), load_model(tmp_path / "long")
    ids = torch.arange(90)[None].repeat(1, 2)
    torch.testing.assert_close(exported(ids), at_load(ids), rtol=0, atol=0)
    assert exported.config.longest == at_load.config.longest == 256
    assert json.loads((tmp_path / "long" / "config.json").read_text())["model_type"] == "llama"
    assert not torch.allclose(load_model(tmp_path / "short")(ids), exported(ids), atol=1e-4)


@pytest.mark.parametrize(("method", "layout"), [("linear", "chatglm2"), ("ratio", "chatglm2"), ("ntk", "chatglm2"),
                                                ("base", "chatglm2"), ("yarn", "headwater")])
def test_chatglm_writes_what_its_ratio_can_say(tmp_path, method, layout):
    config = ModelConfig(**{**SMALL, "head_dim": 16, "rope_dims": 8, "rope_layout": "interleaved", "layout": "chatglm2",
                            "attention_bias": True})
    save_model(initialise(Decoder(config), 0), tmp_path / "short")
    convert(tmp_path / "short", tmp_path / "long", ConvertSettings(context=kept(method)))
    found, values = read_config(tmp_path / "long")
    wanted = extended(config, context(method))
    assert found.rope_theta == pytest.approx(wanted.rope_theta)
    assert found.rope_scaling == wanted.rope_scaling
    assert values["model_type"] == ("chatglm" if layout == "chatglm2" else "headwater")


@pytest.mark.parametrize(("changes", "asked", "words"), [
    ({}, {"length": 128}, "give context.method=yarn"),
    ({}, {"length": 64, "method": "yarn"}, "reads 64 tokens without it"),
    ({"position": "alibi"}, {"length": 128, "method": "ntk"}, "positions, and this model's are 'alibi'"),
    ({"position": "learned_2d"}, {"length": 128}, "end at 64"),
    ({"rope_scaling": {"kind": "linear", "factor": 2}}, {"length": 128, "method": "ntk"}, "stretched already"),
    ({"rope_scaling": {"kind": "dynamic", "factor": 2}}, {"window": 8}, "of which a sliding_window sees none"),
    ({"rope_scaling": {"kind": "dynamic", "factor": 4}}, {"window": 300}, "further than the 256 that this model sees"),
    ({"rope_scaling": {"kind": "dynamic", "factor": 4}}, {"length": 512}, "reads 256 (?s:.*)before it was stretched"),
    ({"rope_scaling": {"kind": "dynamic", "factor": 4}}, {"length": 512, "log_n": True}, "beyond are new to it"),
    ({"rope_scaling": {"kind": "dynamic", "factor": 4}}, {"length": 256, "method": "yarn"}, "256 tokens without it"),
    ({}, {"window": 62, "sinks": 4}, "reach further than the 64 (?s:.*)give at most 64 together"),
    ({"position": "alibi"}, {"length": 90, "window": 80, "sinks": 10}, "80 tokens and 10 sinks leave nothing of 90"),
    ({}, {"length": 64, "window": 60, "sinks": 4}, "60 tokens and 4 sinks leave nothing of 64"),
    ({}, {"length": 32}, "reads 64 tokens without it"), ({}, {"length": 64, "log_n": True}, "64 tokens without it"),
    ({"position": "alibi"}, {"length": 128, "log_n": True, "window": 4}, "sees as many at any position"),
    ({"position": "none", "sliding_window": 4}, {"length": 128, "log_n": True}, "sees as many at any position"),
    ({"sliding_window": 8, "attention_sinks": 2, "max_position_embeddings": 999}, {"window": 9, "sinks": 2},
     "further than the 10 (?s:.*)begin with the model before it had a window"),
    ({"sliding_window": 8, "max_position_embeddings": 999}, {"length": 2000, "method": "yarn"},
     "a window of 8 tokens, and no distance within it is new(?s:.*)give the length alone"),
    ({"position": "learned_2d"}, {"window": 8}, "sliding_window is of causal models"),
    ({}, {"length": 128, "method": "window"}, "for models without positions (?s:.*)give context.method=yarn"),
    ({"position": "alibi"}, {"length": 128, "method": "vectors", "vectors": "v"},
     "are 'alibi'(?s:.*)give the length alone"),
    ({"position": "none"}, {"length": 128, "method": "window"}, "models that see a window(?s:.*)give method vectors"),
    ({"position": "none", "sliding_window": 8}, {"length": 128, "method": "vectors", "vectors": "v"},
     "this one sees a window(?s:.*)give method window"),
    ({"position": "none"}, {"length": 128, "method": "vectors", "vectors": "v"}, "layer 4 of 2"),
    ({"position": "none"}, {"length": 128, "method": "yarn"}, "give the length alone")])
def test_what_cannot_be_stretched_is_refused(changes, asked, words):
    with pytest.raises(HeadwaterError, match=words):
        extended(ModelConfig.parse({**SMALL, **changes}), ContextSettings(**asked))


@pytest.mark.parametrize(("asked", "words"), [
    ({"method": "yarn"}, "method yarn needs a length"), ({"length": 9, "method": "base"}, "method base needs base"),
    ({"length": 9, "method": "ntk", "base": 9.0}, "base has no effect with method ntk"),
    ({"length": 9, "method": "vectors"}, "method vectors needs vectors"), ({"sinks": 2}, "sinks need a window"),
    ({"length": 9, "method": "window", "window": 4}, "leave window out"),
    ({"length": 9, "method": "yarn", "layer": 2}, "layer has no effect with method yarn"),
    ({"length": 9, "method": "base", "base": 1e300}, "less than or equal to 1000000000000"),
    ({"length": 9, "method": "window", "score_scale": 1e30}, "less than or equal to 100"),
    ({"length": 9, "method": "vectors", "vectors": "v", "strength": 1e300}, "less than or equal to 100")])
def test_settings_that_contradict_each_other_are_refused(asked, words):
    with pytest.raises(SettingsError, match=words):
        ContextSettings.parse(asked)


@pytest.mark.parametrize("method", METHODS)
def test_an_extended_model_is_given_its_own_length(method):
    longer = extended(ModelConfig(**SMALL), context(method))
    assert extended(longer, ContextSettings(length=256)) == longer


def test_a_model_with_a_window_is_given_a_smaller_one_and_any_length():
    config = extended(ModelConfig(**SMALL), ContextSettings(window=40, sinks=4, length=5000))
    found = extended(config, ContextSettings(window=20, sinks=2, length=9000))
    assert (found.sliding_window, found.attention_sinks, found.longest) == (20, 2, 9000)


def test_other_positions_only_count_further():
    for position in ("alibi", "none"):
        config = ModelConfig(**{**SMALL, "position": position})
        assert extended(config, ContextSettings(length=128)).longest == 128
    assert extended(ModelConfig(**SMALL), ContextSettings()).longest == 64


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_log_n_sharpens_the_scores_beyond_the_trained_length_alone(position, tmp_path):
    config = ModelConfig(**{**SMALL, "position": position, "max_position_embeddings": 16})
    model = initialise(Decoder(config), 0)
    save_model(model, tmp_path / "short")
    asked = KeptContext(length=64, log_n=True)
    longer = load_model(tmp_path / "short", context=asked)
    ids = torch.arange(60)[None]
    with torch.no_grad():
        plain, found = model(ids), longer(ids)
        rows = Intervals.causal(torch.zeros_like(ids))
        torch.testing.assert_close(longer(ids, rows), found, rtol=1e-4, atol=1e-5)
        cache = KVCache(longer.config, 1, 60)
        pieces = torch.cat([longer(ids[:, :20], cache=cache), longer(ids[:, 20:], cache=cache)], 1)
        torch.testing.assert_close(pieces, found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, :16], plain[:, :16])
    assert not torch.allclose(found[:, 30:], plain[:, 30:], atol=1e-5)
    convert(tmp_path / "short", tmp_path / "long", ConvertSettings(context=asked))
    exported = load_model(tmp_path / "long")
    assert exported.config.log_n_length == 16
    with torch.no_grad():
        torch.testing.assert_close(exported(ids), found, rtol=0, atol=0)


def test_log_n_multiplies_scores_by_the_logarithm_of_the_position():
    config = ModelConfig(**{**SMALL, "position": "none", "log_n_length": 8})
    model = initialise(Decoder(config), 0)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].scale))
    model(torch.arange(20)[None])
    assert seen[0].flatten()[:8].tolist() == [1.0] * 8
    assert seen[0].flatten()[15].item() == pytest.approx(math.log(16) / math.log(8))
