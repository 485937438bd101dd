"""Breaks when a snapshot is of another step than its name says, is left out, or is written a second time."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.model import Decoder, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.train.settings import TrainerSettings
from headwater.train.snapshots import Snapshots, folder_of
from tests.train.sharing import run

BATCH = 4 * 32
"""Tokens of a step in `sharing`."""


class Stopped(Exception):
    pass


def rows(out):
    return [json.loads(line) for line in (out / "snapshots.jsonl").read_text().splitlines()]


def taken(out):
    return {int(path.name.removeprefix("tokens-")): load_model(path) for path in (out / "snapshots").iterdir()}


def same(ours, theirs):
    found, wanted = dict(ours.named_parameters()), dict(theirs.named_parameters())
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in found)


def test_a_snapshot_is_the_model_at_its_step(tmp_path):
    flat = {"optimizer": {"learning_rate": 1e-2, "schedule": "constant", "warmup_steps": 0}}
    whole = run(tmp_path / "whole", steps=8, snapshot_tokens=3 * BATCH, **flat)
    found = taken(tmp_path / "whole")
    assert [(row["step"], row["tokens"]) for row in rows(tmp_path / "whole")] == [
        (3, 3 * BATCH), (6, 6 * BATCH), (8, 8 * BATCH)]
    assert whole.figures["snapshot_seconds"] == pytest.approx(sum(row["seconds"] for row in rows(tmp_path / "whole")))
    for steps in (3, 6):
        assert same(found[steps * BATCH], run(tmp_path / str(steps), steps=steps, **flat).model)
    assert same(found[8 * BATCH], whole.model)


@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 60))
def test_there_is_one_behind_every_step_that_reaches_a_multiple_and_at_the_end(tmp_path_factory, every, rows, steps):
    settings = TrainerSettings(steps=steps, rows=rows, sequence_length=2, snapshot_tokens=every)
    found = Snapshots(tmp_path_factory.getbasetemp() / "none", settings, steps, save_model)
    reached = {-(-multiple // (2 * rows)) for multiple in range(every, 2 * rows * steps + 1, every)}
    assert {step for step in range(1, steps + 1) if found.due(step)} == reached | {steps}


def test_a_run_that_goes_on_takes_the_others_and_none_twice(tmp_path):
    settings = TrainerSettings(steps=8, rows=4, sequence_length=32, snapshot_tokens=2 * BATCH)
    model = initialise(Decoder(run(tmp_path / "shape", steps=1).model.config), 0)
    first = Snapshots(tmp_path, settings, 8, save_model)
    for step in (2, 4):
        assert first.due(step)
        first.keep(step, model, 0.0)
    for path in folder_of(tmp_path, 2 * BATCH).iterdir():
        path.unlink()
    folder_of(tmp_path, 2 * BATCH).rmdir()  # evaluated, and deleted
    with open(tmp_path / "snapshots.jsonl", "a") as stream:
        stream.write('{"step": 6, "tok')  # torn by a kill
    again = Snapshots(tmp_path, settings, 8, save_model)
    assert [step for step in range(1, 9) if again.due(step)] == [6, 8]
    again.keep(6, model, 0.0)
    assert [row["step"] for row in rows(tmp_path)] == [2, 4, 6]


def test_a_snapshot_that_cannot_be_written_ends_the_run_and_leaves_no_half_of_it(tmp_path, monkeypatch):
    def refused(model, folder):
        (folder / "half").touch()
        raise Stopped

    monkeypatch.setattr("tests.train.sharing.save_model", refused)
    with pytest.raises(Stopped):
        run(tmp_path, snapshot_tokens=3 * BATCH)
    assert list((tmp_path / "snapshots").iterdir()) == []
    assert not (tmp_path / "snapshots.jsonl").exists()
    monkeypatch.undo()
    run(tmp_path, snapshot_tokens=3 * BATCH)
    assert [row["step"] for row in rows(tmp_path)] == [3, 6]
