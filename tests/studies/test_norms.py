"""Breaks when the norms do not take turns, or a loss is compared with that of another seed."""

from __future__ import annotations

import json

from headwater.studies.norms import NormsSettings, Timing, run, verdicts
from headwater.studies.trials import Estimate


def test_the_study_times_every_width_and_a_step_and_trains_both(tmp_path, small, capsys):
    settings = NormsSettings(**small, widths=(16, 32), tokens=8, rounds=3)
    run(tmp_path, settings)
    found = json.loads((tmp_path / "norms.json").read_text())["results"]
    assert [one["what"] for one in found["timings"]] == ["width 16", "width 32", "training step"]
    assert {norm: len(losses) for norm, losses in found["losses"].items()} == {"rmsnorm": 2, "layernorm": 2}
    assert "<svg" in (tmp_path / "norms.svg").read_text()
    run(tmp_path, settings)  # neither timed nor trained again
    assert json.loads((tmp_path / "norms.json").read_text())["results"] == found


def test_speed_and_loss_are_judged_apart():
    timings = [Timing("slow", 1.0, Estimate(1.3, 0.01, 9)), Timing("even", 1.0, Estimate(1.0, 0.01, 9)),
               Timing("fast", 1.0, Estimate(0.7, 0.01, 9))]
    words = [one.word for one in verdicts(timings, {"rmsnorm": [2.0, 4.0], "layernorm": [2.001, 4.001]})]
    assert words == ["shown", "neither shown nor refuted", "refuted", "shown"]
    assert verdicts([], {"rmsnorm": [2.2, 4.4], "layernorm": [2.0, 4.0]})[0].word == "refuted"
