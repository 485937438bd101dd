"""Ablations of early positions: nothing taken changes nothing, and a model that rests on the first token misses it."""

import json

import pytest
import torch

from headwater.cli.main import main
from headwater.context.ablation import effects, ranges, similarity
from headwater.context.intervention import without
from headwater.context.perplexity import losses
from headwater.context.positional import PositionalVectors, positional_vectors
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.presets import preset

TINY = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3}


def model_of(**changes):
    return initialise(Decoder(ModelConfig(**{**TINY, **changes})), 0).eval()


def texts(count, length=64, seed=0):
    return torch.randint(50, (count, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("position", ["none", "rope", "alibi"])
def test_taking_what_is_zero_changes_nothing(position):
    model, ids = model_of(position=position), texts(10)
    nothing = PositionalVectors(torch.zeros(4, 64, 24), torch.zeros(4), 10)
    found = effects(model, ids, nothing, [0, 1, 2])
    assert len(found) == 10
    assert found[0].part is None
    assert found[0].loss.mean == pytest.approx(losses(model, ids)[:, 32:].mean().item(), rel=1e-5)
    for one in found:
        if one.part != "value":
            assert one.change == (0.0, 0.0)
            assert one.vectors.mean == pytest.approx(1.0)
            assert one.basis.mean == pytest.approx(1.0)
        else:
            assert one.change.mean != 0
            assert one.vectors.mean < 1 - 1e-6
            assert 0 < one.vectors.error < 0.1


def test_changes_are_paired_by_text_however_texts_are_batched(monkeypatch):
    model, ids = model_of(), texts(9)
    vectors = positional_vectors(model, [ids])
    found = effects(model, ids, vectors, [1])
    plain = losses(model, ids)[:, 32:].mean(1)
    for one in found[1:]:
        with without(model, one.part, slice(*one.positions), [1], vectors):
            change = losses(model, ids)[:, 32:].mean(1) - plain
        assert one.change == pytest.approx((change.mean().item(), change.std().item() / 3), abs=1e-6)
    monkeypatch.setattr("headwater.context.ablation.TOKENS", 128)
    for one, other in zip(found, effects(model, ids, vectors, [1]), strict=True):
        assert one.change == pytest.approx(other.change, abs=1e-6)
        assert one.vectors == pytest.approx(other.vectors, abs=1e-5)


def test_the_targets_are_never_those_that_something_is_taken_from():
    for length in (32, 64, 256, 1024):
        taken, (first, stop) = ranges(length)
        assert stop == length
        assert all(start < end <= first for start, end in taken)
    assert ranges(256) == ([(0, 4), (32, 36), (32, 128)], (128, 256))


def test_a_similarity_is_the_mean_cosine_of_means_and_its_error_that_of_texts():
    generator = torch.Generator().manual_seed(0)
    one = torch.tensor([[[1.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]).double()  # [groups,T,D]
    other = torch.tensor([[[0.0, 2.0], [1.0, 0.0]], [[0.0, 2.0], [2.0, 0.0]]]).double()
    assert similarity(one, other) == (0.5, 0.0)  # at right angles at one position, the same at the next
    # the error is the spread over draws of eight texts
    draws = [similarity(*(mean + 0.3 * torch.randn(8, 5, 6, generator=generator).double()
                          for mean in (torch.ones(6), torch.arange(6)))) for _ in range(300)]
    spread = torch.tensor([one.mean for one in draws]).std().item()
    assert sum(one.error for one in draws) / 300 == pytest.approx(spread, rel=0.15)


def test_what_an_earlier_block_has_taken_is_not_taken_twice():
    """Where blocks add nothing, the stream of all of them is the embedding: without its vector, everywhere."""
    model = model_of(position="none")
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.zero_()
            block.feedforward.down.weight.zero_()
    ids, seen = texts(12), []
    vectors = positional_vectors(model, [ids])
    hooks = [block.attention_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
             for block in model.blocks]
    with torch.no_grad(), without(model, "vector", slice(0, 8), [2, 0, 1], vectors):
        model.hidden(ids)
    for hook in hooks:
        hook.remove()
    state = model.embedding(ids).detach()
    state[:, :8] -= vectors.vectors[0, :8]
    for own in seen:
        torch.testing.assert_close(own, state)


def test_a_model_that_rests_on_the_first_token_misses_its_alone(resting):
    ids = torch.full((6, 64), 2)
    ids[:, 0] = 0
    found = effects(resting, ids, positional_vectors(resting, [ids]), [0])
    assert found[0].loss.mean < 0.05
    for one in found[1:]:
        if one.positions == (0, 4):
            assert one.change.mean > 1
            assert one.vectors.mean < 0.95
        elif one.positions == (32, 36) or one.part == "value":
            assert abs(one.change.mean) < 0.01
            assert one.vectors.mean > 0.999


def arguments(model, corpus, out, *more):
    return ["context", "ablate", str(model), "--out", str(out), f"corpus={corpus}", "texts=4", *more]


def test_the_command_tells_every_ablation_and_attention_by_part(small_model, corpus, tmp_path, capsys):
    assert main(arguments(small_model, corpus, tmp_path, "length=128")) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "positions 32 to 63 of 4 texts, with something taken from other positions in all blocks" in told
    assert "within 64 tokens / beyond them" in told
    assert "bias" not in told
    found = json.loads((tmp_path / "ablations.json").read_text())
    assert [(one["part"], one["positions"]) for one in found["effects"]][:4] == [
        (None, [0, 0]), ("value", [0, 4]), ("value", [16, 20]), ("value", [16, 32])]
    assert found["effects"][0]["change"] == {"mean": 0.0, "error": 0.0}
    for layer in found["attention"]["shares"]:
        assert [sum(stretch) for stretch in layer] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert "position alone, beyond" in (tmp_path / "ablations.svg").read_text()


def test_texts_that_end_within_the_trained_length_have_no_beyond(small_model, corpus, tmp_path, capsys):
    assert main(arguments(small_model, corpus, tmp_path, "length=48", "layers=[1]")) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "positions 24 to 47 of 4 texts, with something taken from other positions in block 1" in told
    assert "beyond" not in told
    found = json.loads((tmp_path / "ablations.json").read_text())
    assert all(layer[1] == [None] * 5 for layer in found["attention"]["shares"])
    assert main(arguments(small_model, corpus, tmp_path, "length=48", "layers=[1,1]")) == 2
    assert "1 is given twice" in capsys.readouterr().err
    assert main(arguments(small_model, corpus, tmp_path, "length=48", "layers=[2]")) == 2
    assert "block 2 of 0 to 1" in capsys.readouterr().err


def test_positions_of_two_numbers_are_refused_with_what_is_needed(trained, corpus, tmp_path, capsys):
    config = preset("ChatGLM-6B", vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=2, head_dim=16, max_position_embeddings=64)
    save_model(initialise(Decoder(config), 0), tmp_path / "model")
    (tmp_path / "model" / "tokenizer.model").write_bytes(trained.to_bytes())
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    assert main(arguments(tmp_path / "model", corpus, tmp_path / "out")) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "'rope_2d', two numbers a token" in told
    assert "give a causal model" in told
    assert not (tmp_path / "out").exists()
