"""Breaks when sizes are not counted as the report counts them, or the size beyond takes part in the fit."""

from __future__ import annotations

import json

import pytest

from headwater import plan
from headwater.errors import SettingsError
from headwater.studies.power_law import Prediction
from headwater.studies.scaling import Rung, ScalingSettings, Size, run, verdicts

TABLE_10 = [(384, 6, 11.51), (704, 8, 51.56), (832, 12, 108.01), (1216, 16, 307.60), (1792, 20, 835.00),
            (2240, 24, 1565.60), (2880, 28, 3019.33)]
"""Hidden size, layers, millions of parameters (2309.10305)."""


@pytest.mark.parametrize(("hidden", "layers", "millions"), TABLE_10)
def test_parameters_are_those_of_the_reports_table(hidden, layers, millions):
    assert Size(hidden_size=hidden, layers=layers, heads=1).parameters / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_rule_counts_what_the_decoder_holds_without_embeddings():
    settings = ScalingSettings()
    for size in settings.ladder:
        assert plan.parameters(settings.shape(size, 64)) - 2 * 64 * size.hidden_size == size.parameters


def test_tokens_follow_parameters_and_the_size_beyond_takes_three_times_the_compute():
    settings = ScalingSettings()
    for size in settings.ladder:
        assert settings.steps_of(size) * 1024 == pytest.approx(2 * size.parameters, rel=0.01)
    assert settings.compute(settings.beyond) >= 3 * max(map(settings.compute, settings.ladder))
    with pytest.raises(SettingsError, match="times the parameters"):
        ScalingSettings.parse({"beyond": {"hidden_size": 96, "layers": 6, "heads": 3}})
    with pytest.raises(SettingsError, match="steps"):
        ScalingSettings.parse({"steps": 3})


def test_a_prediction_is_judged_by_its_interval_and_its_distance():
    def words(loss):
        told = verdicts(Rung(Size(hidden_size=64, layers=1, heads=1), 1e12, [loss]), Prediction(3.0, 2.9, 3.1))
        return [verdict.word for verdict in told]

    assert words(3.05) == ["shown", "shown"]
    assert words(3.095) == ["shown", "refuted"]
    assert words(2.85) == ["refuted", "refuted"]


def test_a_ladder_is_climbed_once_and_the_size_beyond_is_no_part_of_the_fit(tmp_path, small, capsys):
    chosen = {name: value for name, value in small.items() if name not in ("hidden_size", "layers", "heads", "steps")}
    settings = ScalingSettings.parse({
        **chosen, "seeds": 1, "tokens_per_parameter": 0.2, "learning_rate": 0.01,
        "ladder": [{"hidden_size": hidden, "layers": 1, "heads": 2} for hidden in (16, 24, 32, 48)],
        "beyond": {"hidden_size": 64, "layers": 1, "heads": 2}})
    run(tmp_path, settings)
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert len(found["results"]["ladder"]) == 4
    assert len(found["results"]["beyond"]["losses"]) == 1
    assert "<svg" in (tmp_path / "scaling.svg").read_text()
    assert "falls into the predicted" in capsys.readouterr().out
    (tmp_path / "64x1-0.json").write_text('{"loss": 9.9}')
    run(tmp_path, settings)  # reads what is there
    again = json.loads((tmp_path / "scaling.json").read_text())
    assert again["results"]["law"] == found["results"]["law"]
    assert again["results"]["beyond"]["losses"] == [9.9]
