"""One number from which a pretraining follows, and what goes before it."""

import pytest

from headwater.errors import SettingsError
from headwater.model import Decoder
from headwater.train.dial import DialSettings, batch_and_rate, derive
from headwater.train.stage import PretrainSettings, model_config

PLACES = {"corpus": "a", "tokenizer": "b"}


def parsed(**values):
    return PretrainSettings.parse({**PLACES, **values})


@pytest.mark.parametrize("depth", [1, 3, 8, 32])
def test_the_parameters_it_counts_are_those_of_the_blocks(depth):
    import torch

    found = derive(DialSettings(depth=depth))
    settings = parsed(dial={"depth": depth})
    with torch.device("meta"):
        model = Decoder(model_config(settings, 64))
    assert found.parameters == sum(one.numel() for one in model.blocks.parameters())
    assert found.tokens == 20 * found.parameters


@pytest.mark.parametrize("budget", [1e6, 7e6, 1e8, 7e9])
def test_a_budget_finds_the_nearest_depth(budget):
    found = derive(DialSettings(parameters=budget))
    others = [derive(DialSettings(depth=found.layers + step)).parameters for step in (-1, 1) if found.layers + step > 0]
    assert all(abs(found.parameters / budget - 1) <= abs(other / budget - 1) or other < budget for other in others)


def test_batch_and_rate_follow_the_compute():
    """By hand, for one layer: N = 4 64^2 + 3 64 256 + 2 64 = 65,664, D = 20 N, C = 6 N D."""
    found, compute = derive(DialSettings(depth=1)), 6 * 65_664 * 20 * 65_664
    assert found.parameters == 65_664
    assert found.learning_rate == pytest.approx(0.3118 * compute**-0.125)
    assert found.batch_tokens == pytest.approx(0.2920 * compute**0.3271)


def test_what_is_given_goes_before_the_dial():
    settings = parsed(dial={"depth": 4}, model={"hidden_size": 128, "num_attention_heads": 2},
                      trainer={"epochs": 2.0, "steps": None, "rows": 6, "optimizer": {"learning_rate": 0.5}})
    assert settings.trainer.epochs == 2.0
    assert settings.trainer.rows == 6
    assert settings.trainer.optimizer.learning_rate == 0.5
    assert settings.model["hidden_size"] == 128
    assert settings.model["num_hidden_layers"] == 4


def test_what_goes_before_the_dial_is_said():
    settings = parsed(dial={"depth": 4}, model={"hidden_size": 128, "num_attention_heads": 2}, trainer={"rows": 6})
    assert derive(settings.dial).overruled(settings.model, settings.trainer.model_dump()) == [
        "model.hidden_size=128", "model.num_attention_heads=2", "trainer.rows=6"]
    settings = parsed(dial={"depth": 4})
    assert derive(settings.dial).overruled(settings.model, settings.trainer.model_dump()) == []


def test_settings_written_out_are_read_as_the_same():
    settings = parsed(dial={"depth": 4}, trainer={"epochs": None})
    assert settings.trainer.steps
    assert PretrainSettings.parse(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(("dial", "words"), [({"dept": 3}, "did you mean 'dial.depth'"), ({"depth": 0}, "greater than"),
                                            ({"depth": 2, "parameters": 1e6}, "one of depth and parameters")])
def test_an_impossible_dial_is_told_at_its_place(dial, words):
    with pytest.raises(SettingsError, match=words):
        parsed(dial=dial, trainer={"steps": 1})


@pytest.mark.parametrize(("parameters", "rows", "rate"), [(6.9e9, 2304, 4.2e-4), (67e9, 4608, 3.2e-4)])
def test_the_fit_is_the_one_its_authors_trained_by(parameters, rows, rate):
    """DeepSeek LLM's table 2: 2e12 tokens, rows of 4,096."""
    found = batch_and_rate(6 * parameters * 2e12)
    assert found == (pytest.approx(rows * 4096, rel=0.03), pytest.approx(rate, rel=0.03))
