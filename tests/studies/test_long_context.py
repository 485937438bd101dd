"""Breaks when a way is measured with another's model, or a verdict reads the wrong figures."""

import json
import math

import pytest
import torch

from headwater.model.extension import ContextSettings
from headwater.studies.long_context import run, verdicts
from headwater.studies.long_models import (
    KINDS,
    Laboratory,
    LongSettings,
    Measured,
    effective_ratio,
    fields_of,
    ways,
)


@pytest.fixture(scope="module")
def chosen(small):
    return LongSettings.parse({**small, "layers": 2, "steps": 3, "tuned_steps": 2, "texts": 4, "vector_texts": 16,
                               "factor": 2, "seeds": 1})


def test_every_way_is_measured_once_and_kept(tmp_path, chosen, capsys):
    run(tmp_path, chosen)
    told = capsys.readouterr()
    assert "rope, yarn" in told.out
    found = json.loads((tmp_path / "long-context.json").read_text())["results"]
    assert [(one["kind"], one["way"]) for one in found["ways"]] == [(way.kind, way.name) for way in ways(chosen)]
    at = {(one["kind"], one["way"]): one["seeds"][0]["loss"] for one in found["ways"]}
    assert set(at["rope", "as it is"]) == {"64", "128"}
    assert len({one["128"] for one in at.values()}) == len(at)  # each reads in its own way
    assert "<svg" in (tmp_path / "long-context.svg").read_text()
    run(tmp_path, chosen)
    assert "training" not in capsys.readouterr().err
    assert json.loads((tmp_path / "long-context.json").read_text())["results"] == found


def test_a_way_is_read_as_it_says(tmp_path, chosen):
    laboratory = Laboratory(chosen, tmp_path, 0)
    for kind in KINDS:
        config = laboratory.trained(kind).config
        assert all(getattr(config, name) == value for name, value in fields_of(kind, chosen).items())
    wide = laboratory.trained("window", ContextSettings(length=128, method="window")).config
    assert wide.sliding_window == 2 * laboratory.trained("window").config.sliding_window


def found_of(**changes):
    """Figures that bear out every claim; `changes` by kind and way, as losses at both lengths and shares found."""
    figures = {("rope", "as it is"): (4.0, 4.6, 1.0), ("rope", "yarn"): (4.0, 4.1, 1.0),
               ("rope", "ntk"): (4.0, 4.2, 1.0), ("rope", "linear"): (5.0, 5.1, 1.0),
               ("rope", "linear, trained on"): (4.1, 4.1, 1.0),
               ("rope, low base", "as it is"): (4.0, 4.1, 0.2), ("alibi", "as it is"): (4.0, 4.0, 1.0),
               ("none", "as it is"): (4.0, 4.5, 1.0), ("none", "vectors replaced"): (4.0, 4.4, 1.0),
               ("none", "shuffled vectors"): (4.5, 4.9, 1.0), ("window", "as it is"): (4.0, 4.05, 1.0)}
    figures |= {tuple(name.split("/")): value for name, value in changes.items()}
    return {key: [Measured({"128": short + wobble, "512": long + wobble * (1 + 0.1 * wobble)},
                           {"128": [share], "512": [share]}) for wobble in (0.0, 0.01, 0.02)]
            for key, (short, long, share) in figures.items()}


def test_claims_that_hold_are_shown_and_others_refuted():
    settings = LongSettings()
    def judged(changes, stretched):
        return verdicts(found_of(**changes), [{"widened": ratio, "as it is": 1.0} for ratio in stretched], settings)

    assert {one.word for one in judged({}, (4.1, 3.9, 4.0))} == {"shown"}

    def refuted(changes, stretched=(4.1, 3.9, 4.0)):
        found = judged(changes, stretched)
        return [number for number, one in enumerate(found) if one.word != "shown"]

    assert refuted({"alibi/as it is": (4.0, 4.2, 1.0)}) == [0]
    assert refuted({"rope/as it is": (4.0, 4.3, 1.0)}) == [1]
    assert refuted({"rope/yarn": (4.0, 4.7, 1.0)}) == [2]
    assert refuted({"rope/ntk": (4.0, 4.7, 1.0)}) == [3]
    assert refuted({"rope/linear": (4.0, 4.5, 1.0)}) == [4]
    assert refuted({"rope/linear, trained on": (4.0, 4.7, 1.0)}) == [5]
    assert refuted({"rope, low base/as it is": (4.1, 4.2, 0.2)}) == [6]
    assert refuted({"rope, low base/as it is": (4.0, 4.1, 0.8)}) == [7]
    assert refuted({"none/vectors replaced": (4.0, 4.6, 1.0)}) == [8]
    assert refuted({"none/shuffled vectors": (4.0, 4.4, 1.0)}) == [9]
    assert refuted({"window/as it is": (4.0, 4.3, 1.0)}) == [10]
    assert refuted({}, (2.0, 2.1, 1.9)) == [11]


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_stretched_vectors_tell_by_how_much(ratio):
    """An arc that is walked `ratio` times as slowly."""
    def arc(count, over):
        angle = math.pi * torch.arange(count) / over
        return torch.stack((angle.cos(), angle.sin(), torch.full_like(angle, 3.0)), 1)

    assert effective_ratio(arc(100, 100), arc(100 * ratio, 100 * ratio), 8) == pytest.approx(ratio, rel=0.1)


def test_quick_takes_less_and_keeps_what_is_given():
    quick, whole = LongSettings(quick=True), LongSettings()
    assert (quick.seeds, quick.steps, quick.texts) == (1, 500, 32)
    assert (whole.seeds, whole.steps, whole.texts) == (3, 1200, 64)
    assert LongSettings(quick=True, steps=7).steps == 7
    assert LongSettings(length=128, factor=4).lengths == [128, 256, 512]
    assert LongSettings(length=128, factor=3).lengths == [128, 256, 384]
