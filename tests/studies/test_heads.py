"""Breaks when the three kinds are not of one size, or their caches are not in the ratio of their heads."""

from __future__ import annotations

import pytest

from headwater import plan
from headwater.errors import SettingsError
from headwater.studies.heads import PARITY, HeadsSettings, run


@pytest.mark.parametrize("hidden", [64, 128, 512])
def test_all_kinds_have_the_same_parameters(hidden):
    settings = HeadsSettings(hidden_size=hidden)
    counts = [plan.parameters(settings.shape(kind, 4096)) for kind in settings.kinds()]
    assert max(counts) / min(counts) - 1 < PARITY
    assert [settings.shape(kind, 4096).num_key_value_heads for kind in settings.kinds()] == [8, 2, 1]


def test_groups_must_divide_the_heads():
    for groups in (3, 8):
        with pytest.raises(SettingsError, match="groups must divide"):
            HeadsSettings.parse({"groups": groups})


def test_the_study_counts_times_and_trains_all_three(tmp_path, small, capsys):
    settings = HeadsSettings(**{**small, "heads": 4, "cached": 16, "rounds": 3})
    found = run(tmp_path, settings)
    assert [one.name for one in found] == ["MHA", "GQA", "MQA"]
    assert [found[0].cache_bytes // one.cache_bytes for one in found] == [1, 2, 4]
    assert all(len(one.losses) == 2 and len(one.step) == len(one.decode) == 3 for one in found)
    assert "<svg" in (tmp_path / "heads.svg").read_text()
    assert "cache is 4 times smaller than MHA's: shown" in capsys.readouterr().out
    assert run(tmp_path, settings) == found  # neither timed nor trained again
