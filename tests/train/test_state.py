"""Checkpoints that are damaged, half-written, or do not fit the disk."""

import errno
import json
from collections import namedtuple

import pytest
import torch
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from headwater.errors import CheckpointError
from headwater.train import disk, state
from headwater.train.parallel import Parallel, ParallelSettings
from headwater.train.state import Checkpoints

Usage = namedtuple("Usage", "total used free")


def checkpoints(folder, keep=2):
    return Checkpoints(folder, Parallel(ParallelSettings(), "cpu"), keep)


def tensors(value):
    return {"weight:a": torch.full((300, 7), float(value)), "exp_avg:a": torch.full((300, 7), value / 2)}


def saved(folder, *steps, keep=2):
    kept = checkpoints(folder, keep)
    for step in steps:
        kept.save(step, tensors(step), {"updates": step}, wait=False)
    kept.finish()
    return kept


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    kept, live = checkpoints(tmp_path), tensors(1)
    kept.save(1, live, {"updates": 1}, wait=False)
    for tensor in live.values():
        tensor.fill_(99.0)
    kept.finish()
    read = tensors(0)
    assert kept.load(read)["updates"] == 1
    assert torch.equal(read["weight:a"], tensors(1)["weight:a"])
    assert torch.equal(read["exp_avg:a"], tensors(1)["exp_avg:a"])


def test_the_newest_stay(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [
    lambda folder: flip(next(folder.glob("*.safetensors"))), lambda folder: next(folder.glob("*.safetensors")).unlink(),
    lambda folder: (folder / "state.json").unlink(), lambda folder: (folder / "state.json").write_text('{"step": 2'),
    lambda folder: (folder / "state.json").write_text("[]"),
    lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"")])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path, capfd, damage):
    kept = saved(tmp_path, 1, 2)
    damage(tmp_path / "step-00000002")
    read = tensors(0)
    assert kept.load(read)["step"] == 1
    assert torch.equal(read["weight:a"], tensors(1)["weight:a"])
    assert "step-00000002 is damaged" in capfd.readouterr().err


def test_what_was_being_written_when_the_process_died_is_no_checkpoint(tmp_path):
    kept = saved(tmp_path, 1)
    half = tmp_path / ".step-00000002.tmp"
    half.mkdir()
    (half / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"torn")
    assert kept.load(tensors(0))["step"] == 1
    kept.save(2, tensors(2), {}, wait=False)
    kept.finish()
    assert kept.load(tensors(0))["step"] == 2


def test_where_none_is_good_training_starts_again(tmp_path, capfd):
    kept = saved(tmp_path, 1)
    flip(next((tmp_path / "step-00000001").glob("*.safetensors")))
    assert kept.load(tensors(0)) is None
    assert "damaged" in capfd.readouterr().err


@pytest.mark.parametrize("other", [{"weight:a": torch.zeros(300, 8)}, {"weight:b": torch.zeros(300, 7)},
                                   {**tensors(0), "weight:b": torch.zeros(1)}])
def test_another_model_is_refused(tmp_path, other):
    with pytest.raises(CheckpointError, match="of another model"):
        saved(tmp_path, 1).load(other)


def test_other_moments_are_refused(tmp_path):
    kept = saved(tmp_path, 1)
    with pytest.raises(CheckpointError, match="cannot be read"):
        kept.load({"weight:a": torch.zeros(300, 7), "momentum_buffer:a": torch.zeros(300, 7)})


def test_a_checkpoint_holds_no_pickle(tmp_path):
    saved(tmp_path, 1)
    names = [path.name for path in (tmp_path / "step-00000001").iterdir()]
    assert sorted(name.rpartition(".")[2] for name in names) == ["json", "safetensors"]
    assert json.loads((tmp_path / "step-00000001" / "state.json").read_text())["updates"] == 1


def test_a_full_disk_pauses_the_run_and_says_so(tmp_path, monkeypatch, capfd):
    free = iter([100, 100, 100, *[1 << 30] * 9])
    monkeypatch.setattr(disk, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: Usage(0, 0, next(free)))
    kept = saved(tmp_path, 1)
    said = capfd.readouterr().err
    assert "paused" in said
    assert "going on" in said
    assert kept.load(tensors(0))["step"] == 1


def test_a_disk_that_fills_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    kept = saved(tmp_path, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "WAIT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(HuggingFaceStorageWriter, "write_data", full)
        kept.save(2, tensors(2), {}, wait=False)
        with pytest.raises(state.DiskFull):
            kept.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    kept.save(2, tensors(2), {}, wait=False)
    kept.finish()
    assert kept.load(tensors(0))["step"] == 2


def test_every_checkpoint_is_copied_into_the_same_memory(tmp_path):
    kept = checkpoints(tmp_path)
    live = tensors(1)
    first, second = (kept._copies.stage(live) for _ in range(2))
    assert all(first[name].data_ptr() == second[name].data_ptr() != live[name].data_ptr() for name in live)
