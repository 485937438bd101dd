"""The bound on RoPE's base: certified values, published counts, and what the theorem says of random vectors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.cli.main import main
from headwater.context.bound import (
    Turning,
    last_failing_base,
    least_base,
    rounded_up,
    similarity,
    supported_length,
)
from headwater.context.check import verdict
from headwater.errors import InputError
from headwater.model import ModelConfig
from headwater.presets import preset

TINY = {"vocab_size": 64, "hidden_size": 256, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def plain(turning, distances):
    return np.cos(np.outer(distances, turning.frequencies)).sum(1) + turning.still


@pytest.mark.parametrize(("length", "base"), [
    (1024, 4293.44), (2048, 11587.24), (4096, 26952.34), (8192, 83763.8), (16384, 231643.6), (32768, 629978),
    (65536, 2090180)])
def test_the_least_base_of_a_length_is_the_one_found_by_branch_and_bound(length, base):
    found = least_base(length)
    assert found.at == pytest.approx(base, rel=1e-6)
    assert found.above == pytest.approx(found.at, rel=1e-7)


@pytest.mark.parametrize(("dims", "bases"), [
    (16, {128: 2768, 256: 8570, 1024: 413409}), (32, {128: 1029, 512: 12487, 8192: 3.134e6}),
    (64, {128: 463, 1024: 7753, 4096: 100070}), (256, {128: 218, 1024: 2968, 8192: 41307})])
def test_other_heads_need_other_bases(dims, bases):
    for length, base in bases.items():
        assert least_base(length, dims).at == pytest.approx(base, rel=1e-3)


@pytest.mark.parametrize(("base", "length"), [(100, 59), (500, 171), (1e4, 1707), (1e5, 7757), (5e5, 18438),
                                              (1e6, 27115), (5e6, 82999), (1e7, 144660)])
def test_the_length_that_a_base_supports(base, length):
    turning = Turning.of_base(base)
    assert supported_length(turning) == length
    assert similarity(turning, length).min() >= 0
    assert similarity(turning, 1, length)[0] < 0


def test_published_counts_of_two_ways_to_reach_30k():
    """Table 4 of the paper: a larger base, and position interpolation of the slow dimensions."""
    larger = Turning.of_base(5e6)
    i = np.arange(64)
    mixed = Turning(np.where(i >= 44, 1e4 ** (-2 * i / 128) / 8, (1e4 * 8 ** (128 / 88)) ** (-2 * i / 128)))
    counts = [[int((similarity(turning, length) < 0).sum()) for length in (15360, 30720)]
              for turning in (larger, mixed)]
    assert counts == [[0, 0], [97, 2554]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1e-6, 3.0), min_size=1, max_size=9), st.integers(0, 100_000), st.integers(1, 300),
       st.integers(0, 3))
def test_the_matrix_product_gives_the_sums_of_cosines(frequencies, first, count, still):
    turning = Turning(np.array(frequencies), still)
    np.testing.assert_allclose(similarity(turning, count, first), plain(turning, np.arange(first, first + count)),
                               atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.integers(100, 3000), st.sampled_from([16, 32, 64, 128]), st.floats(0, 1))
def test_no_base_below_the_least_supports_the_length(length, dims, share):
    found = least_base(length, dims)
    assert plain(Turning.of_base(found.at, dims), np.arange(length)).min() >= -1e-9
    below = math.exp(share * math.log(found.above))
    assert plain(Turning.of_base(below, dims), np.arange(length)).min() < 1e-9


def test_a_larger_base_may_support_less():
    least = least_base(4096)
    assert supported_length(Turning.of_base(least.at), 4096) is None
    last = last_failing_base(4096, least)
    assert last == pytest.approx(5.9e4, rel=0.01)
    assert supported_length(Turning.of_base(last), 4096) is not None
    assert supported_length(Turning.of_base(last * 10 ** (1 / 2000)), 4096) is None


@pytest.mark.parametrize("spread", [np.ones(64), np.linspace(0.2, 2.0, 64)])
def test_random_keys_are_told_apart_as_the_theorem_says(spread):
    """With components of unequal variance every pair counts by its own."""
    draw, base, count = np.random.default_rng(0), 1e4, 20_000
    turns = Turning.of_base(base).frequencies
    query, other, noise = (spread * (draw.normal(size=(count, 64)) + 1j * draw.normal(size=(count, 64)))
                           for _ in range(3))
    query, other = query + 0.3 * (1 + 1j), other + 0.3 * (1 + 1j)
    for m in (0, 1, 10, 100, 1000, 1707):
        turned = query.conj() * np.exp(1j * m * turns)
        found = ((turned * (query + 0.1 * noise)).real - (turned * other).real).sum(1)
        expected = 2 * (spread**2 * np.cos(m * turns)).sum()
        assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(count)


@pytest.mark.parametrize(("config", "holds"), [
    (preset("Llama-2-7B"), False), (preset("Baichuan2-7B"), False), (preset("ChatGLM3-6B"), True),
    (ModelConfig(**TINY, rope_theta=5e5, max_position_embeddings=8192), True),
    (ModelConfig(**TINY, rope_theta=1e6, max_position_embeddings=32768), False)],
    ids=["LLaMA 2", "Baichuan 2", "ChatGLM3", "LLaMA 3", "Mistral"])
def test_models_held_to_the_lengths_that_they_claim(config, holds):
    assert ("holds" in verdict(config)) == holds


def test_the_verdict_says_how_far_the_base_reaches():
    assert "1,707 of 4,096 tokens" in verdict(preset("Llama-2-7B"))
    assert "27,115 of 32,768" in verdict(ModelConfig(**TINY, rope_theta=1e6, max_position_embeddings=32768))
    with pytest.raises(InputError, match="positions are 'alibi'"):
        verdict(preset("Baichuan2-13B"))


def test_a_half_that_stands_still_has_no_bound():
    assert least_base(4096, 64, 32) is None
    assert supported_length(Turning.of_base(1e4, 64, 32)) is None
    assert least_base(4096, 64, 8).at < least_base(4096, 64).at


def test_the_command_answers_for_lengths_bases_and_models(tmp_path, capsys):
    assert main(["context", "bound", "length=1024", "base=10000", f"plot={tmp_path / 'b.svg'}"]) == 0
    told = capsys.readouterr().out
    assert all(words in told for words in ("4,293.5", "1,707 tokens", "4,300"))
    assert "B(m)" in (tmp_path / "b.svg").read_text()
    assert main(["context", "bound", "model=Llama-2-7B", "grid=false"]) == 0
    assert "1,707 of them" in capsys.readouterr().out
    for wrong, words in ((["base=1e4", "model=Llama-2-7B"], "the model's own"), ([], "give length, base or model"),
                         (["head_dim=63", "length=9"], "even"), (["model=Lama-2-7B"], "did you mean Llama-2-7B")):
        assert main(["context", "bound", *wrong]) == 2
        assert words in capsys.readouterr().err


def test_a_window_is_as_far_as_its_base_has_to_reach():
    config = ModelConfig(**TINY, max_position_embeddings=4096)
    assert "1,707 of 4,096" in verdict(config)
    windowed = config.model_copy(update={"sliding_window": 1700, "attention_sinks": 7})
    assert verdict(windowed) == "RoPE's bound holds: the base supports 1,707 tokens"
    assert "1,707 of 1,708" in verdict(windowed.model_copy(update={"attention_sinks": 8}))


@pytest.mark.parametrize(("length", "dims"), [(128, 32), (512, 64), (1024, 128), (2048, 128), (4096, 128), (777, 96)])
def test_the_base_that_is_told_supports_its_length(length, dims, capsys):
    least = least_base(length, dims)
    told = rounded_up(least, length, dims)
    assert supported_length(Turning.of_base(told, dims), length) is None
    assert least.at <= told < least.at + 0.11
    assert main(["context", "bound", f"length={length}", f"head_dim={dims}", "grid=false"]) == 0
    assert f"{told:,}" in capsys.readouterr().out


def test_places_where_nothing_can_be_read_or_written_are_told_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for words, told in ((["length=64", f"plot={tmp_path}"], "the plot is a file"),
                        (["length=64", f"plot={tmp_path}/file/b.svg"], "give another place for the plot"),
                        ([f"model={tmp_path}/absent"], "no such folder"), (["length=9", "head_dim=2"], "head_dim")):
        assert main(["context", "bound", *words]) == 2
        said = capsys.readouterr()
        assert told in said.err
        assert not said.out
