"""Positional vectors: identities, streaming, and how much of a mean is chance."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from headwater.cli.main import main
from headwater.context.positional import positional_vectors, states_of
from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig, initialise

TINY = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.2}


def model_of(**changes):
    return initialise(Decoder(ModelConfig(**{**TINY, **changes})), 0).eval()


def texts(count, length=20, seed=0):
    return torch.randint(50, (count, length), generator=torch.Generator().manual_seed(seed))


def all_states(model, ids):
    with torch.no_grad(), states_of(model) as states:
        model.hidden(ids)
        return torch.stack(states)


@pytest.mark.parametrize("position", ["none", "rope", "alibi"])
def test_positional_and_semantic_parts_add_up_and_meanings_average_to_nothing(position):
    model, ids = model_of(position=position), texts(30)
    found = positional_vectors(model, ids.split(7))
    states = all_states(model, ids)  # [layers + 1, N, T, D]
    semantic = states - found.vectors[:, None]
    torch.testing.assert_close(found.vectors, states.mean(1), rtol=1e-5, atol=1e-6)
    assert semantic.mean(1).abs().max() < 1e-5
    assert found.basis.mean(1).abs().max() < 1e-5
    assert found.texts == 30


def test_how_texts_are_batched_makes_no_difference():
    model, ids = model_of(), texts(24)
    one, other = (positional_vectors(model, ids.split(size)) for size in (24, 5))
    torch.testing.assert_close(one.vectors, other.vectors)
    torch.testing.assert_close(one.noise, other.noise, rtol=1e-4, atol=1e-8)


def test_the_noise_is_that_of_a_mean_over_so_many_texts():
    """Random tokens have no positional vector before the first block: all of the basis there is chance."""
    model = model_of(position="none")
    found = positional_vectors(model, texts(4000).split(500))
    embedding = model.embedding.weight.detach()
    variance = embedding.var(0).sum() * 49 / 50
    assert found.noise[0].item() == pytest.approx(variance.item() / 4000, rel=0.3)
    assert abs(found.energy()[0]) < 0.3 * found.noise[0]
    assert found.energy()[-1] > 3 * found.noise[-1]  # causal attention alone tells positions apart


def test_principal_components_are_those_of_the_basis():
    found = positional_vectors(model_of(), texts(40).split(10))
    places, shares = found.principal(2, 20)
    assert shares.sum().item() == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(places @ places.T, found.basis[2] @ found.basis[2].T, rtol=1e-3, atol=1e-3)


def test_texts_of_several_lengths_and_too_few_are_refused():
    model = model_of()
    with pytest.raises(InputError, match="a text of 12 tokens after one of 20"):
        positional_vectors(model, [texts(2), texts(2, 12)])
    with pytest.raises(InputError, match="at least two"):
        positional_vectors(model, [texts(1)])


def test_the_hooks_are_gone_afterwards():
    model = model_of()
    positional_vectors(model, [texts(4)])
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.blocks)


def test_the_command_takes_a_model_apart(small_model, tmp_path, capsys):
    folder = tmp_path / "corpus" / "validation"
    folder.mkdir(parents=True)
    texts = [f"The river number {n} runs south past mill {n * n}. Nobody knows why." for n in range(300)]
    pq.write_table(pa.Table.from_pylist([{"text": text, "language": "en"} for text in texts]), folder / "a.parquet")
    words = ["context", "positions", str(small_model), "--out", str(tmp_path / "out"),
             f"corpus={tmp_path / 'corpus'}", "texts=40", "length=80"]
    assert main(words) == 0
    assert "beyond 64: likest within" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "out" / "positions.json").read_text())
    assert [row["layer"] for row in found["layers"]] == [0, 1, 2]
    assert found["texts"] == 40
    kept = load_file(tmp_path / "out" / "vectors.safetensors")
    assert kept["vectors"].shape == (3, 80, 64)
    assert "after layer 2" in (tmp_path / "out" / "positions.svg").read_text()
    for layers, told in (("[9]", "layer 9 of 2"), ("[1,0,1]", "1 is given twice")):
        assert main([*words, f"layers={layers}"]) == 2
        assert told in capsys.readouterr().err


def test_a_mean_of_too_few_texts_is_told(small_model, corpus, tmp_path, capsys):
    words = ["context", "positions", str(small_model), f"corpus={corpus}", "length=64"]
    assert main([*words, "--out", str(tmp_path / "few"), "texts=2"]) == 0
    told = capsys.readouterr()
    rows = json.loads((tmp_path / "few" / "positions.json").read_text())["layers"]
    buried = [row["layer"] for row in rows[1:] if row["energy"] < row["chance"]]
    assert buried
    assert f"note: after layers {', '.join(map(str, buried))} positions leave less than chance" in told.err


def test_the_length_of_a_model_with_dynamic_ntk_is_the_one_that_it_reads(small_model, corpus, tmp_path):
    assert main(["convert", str(small_model), str(tmp_path / "long"), "context.length=128",
                 "context.method=dynamic"]) == 0
    assert main(["context", "positions", str(tmp_path / "long"), "--out", str(tmp_path / "out"), f"corpus={corpus}",
                 "texts=4"]) == 0
    assert load_file(tmp_path / "out" / "vectors.safetensors")["vectors"].shape[1] == 128
