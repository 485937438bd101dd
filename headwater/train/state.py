"""Training checkpoints: everything a resumed run needs to go on as if never stopped, without pickle.

PyTorch's distributed checkpoint writes every process's parts as safetensors, beside training, and reads them back onto
any other number of processes. A checkpoint appears whole, with the sums of its files, or not at all.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from headwater.artifacts import read_json, says_full, write_json
from headwater.errors import CheckpointError, HeadwaterError
from headwater.hardware import outside_the_heap
from headwater.plan.training import FILE_BYTES
from headwater.progress import say
from headwater.train import disk
from headwater.train.disk import wait_for_space
from headwater.train.parallel import Parallel
from headwater.train.processes import agree, any_says, is_leader

STATE = "state.json"
WEIGHT = "weight:"
"""Before the names of weights in a checkpoint; moments are named by what they are."""
MOMENTS = ("exp_avg:", "exp_avg_sq:", "momentum_buffer:")


class Checkpoints:
    """The checkpoints of a run, `step-N/` below `folder`, of which the newest `keep` stay."""

    def __init__(self, folder: Path, parallel: Parallel, keep: int) -> None:
        self.folder, self.parallel, self.keep = folder, parallel, keep
        self._writing: tuple[Path, Future[None]] | None = None
        self.beside = False
        """Whether one was written while training went on."""
        self._copies = _Copies()
        # One thread for all of them: each new one would take, and keep, a heap of its own.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        # Said by the library at every writing of a process alone, in a thread of its own.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: dict[str, Any], *, wait: bool) -> None:
        """Begin to write the state after `step` steps; training may go on and change the tensors.

        facts: what else is to be remembered, as JSON can hold it. wait: until it is written. Waits in any case for the
        writing before to end, and while the disk is full, saying so. Called by every process.
        """
        self.finish()
        staging = self.folder / f".step-{step:08d}.tmp"
        self._make_room(staging, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
        writer = HuggingFaceStorageWriter(str(staging), _files(tensors), save_distributed=True)
        future = self._writer.submit(dcp.save, self._copies.stage(dict(tensors)), storage_writer=writer,
                                     no_dist=self.parallel.ranks == 1, process_group=self.parallel.checkpoint_group)
        facts = {**facts, "step": step, "weights": _shapes(tensors)}
        self._writing = staging, self._sealed(future, staging, facts)
        if wait:
            self.finish()
        self.beside = self.beside or not wait

    def finish(self) -> None:
        """Wait until what is being written is there. Raises `HeadwaterError` where it cannot be written."""
        if self._writing is None:
            return
        (staging, sealed), self._writing, failure = self._writing, None, ""
        try:
            sealed.result()
        except (Exception, dcp.CheckpointException) as error:  # the library's own, of what any process met
            failure = f"{type(error).__name__}: {error}"
        if any_says(bool(failure)):
            self._failed(staging, failure)

    def _sealed(self, written: Future[Any], staging: Path, facts: dict[str, Any]) -> Future[None]:
        """Done when the folder is in its place: the leader puts it there as soon as all processes have written."""
        sealed: Future[None] = Future()

        def seal(_: Future[Any]) -> None:
            try:
                written.result()
                if is_leader():
                    _seal(staging, self.folder / f"step-{facts['step']:08d}", facts, self.keep)
                sealed.set_result(None)
            except BaseException as error:
                sealed.set_exception(error)

        written.add_done_callback(seal)
        return sealed

    def _failed(self, staging: Path, failure: str) -> None:
        """Raises `HeadwaterError`: what was being written is removed, the checkpoints before stay."""
        if is_leader():
            shutil.rmtree(staging, ignore_errors=True)
        full = any_says(says_full(failure))
        if full:
            say(f"a checkpoint did not fit ({failure}): it is written again")
            time.sleep(disk.WAIT_SECONDS)  # a quota may be full where the disk is not
        raise DiskFull(failure) if full else HeadwaterError(
            f"a checkpoint could not be written: {failure}", where=self.folder, fix="the one before is still good")

    def _make_room(self, staging: Path, size: int) -> None:
        if is_leader():
            shutil.rmtree(staging, ignore_errors=True)
            wait_for_space(self.folder, size, "a checkpoint")
            staging.mkdir(parents=True)
        agree(None)

    def load(self, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Read the newest good checkpoint into the tensors; its facts, with `step`, or None where there is none.

        A damaged one is passed over, saying so. Raises `CheckpointError` for one of another model.
        """
        name = agree(self._newest_good() if is_leader() else None)
        if name is None:
            return None
        path = self.folder / name
        facts: dict[str, Any] = read_json(path / STATE)
        known, own = facts["weights"], _shapes(tensors)
        other = next((name for name in sorted({*known, *own}) if known.get(name) != own.get(name)), None)
        if other is not None:
            raise CheckpointError(f"the training checkpoint is of another model: {other} has shape {known.get(other)}, "
                                  f"expected {own.get(other)}", where=path,
                                  fix="delete the checkpoints folder to start this stage again")
        try:
            dcp.load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(path)),
                     no_dist=self.parallel.ranks == 1, process_group=self.parallel.checkpoint_group)
        except dcp.CheckpointException as error:
            raise CheckpointError(f"the training checkpoint cannot be read: {error}", where=path,
                                  fix="delete it, or the checkpoints folder to start this stage again") from error
        return facts

    def _newest_good(self) -> str | None:
        for path in reversed(_finished(self.folder)):
            damage = _damage(path)
            if damage is None:
                return path.name
            say(f"checkpoint {path} is damaged ({damage}): it is passed over")
        if _finished(self.folder):
            say("no checkpoint is good: the run begins again")
        return None


class _Copies(DefaultStager):
    """The copies that are written while training goes on: made once, outside of the heap, and filled anew for every
    checkpoint. Copies that came and went would leave holes between the tensors of a step."""

    def __init__(self) -> None:
        super().__init__(StagingOptions(use_pinned_memory=False, use_shared_memory=False, use_async_staging=False,
                                        use_non_blocking_copy=False))

    def stage(self, state_dict: dict[str, Any], **settings: Any) -> Any:
        with outside_the_heap():
            return super().stage(state_dict, **settings)


class DiskFull(HeadwaterError):
    """A checkpoint did not fit the disk."""


def _files(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The file, counted from 1, of each weight and of its moments, which another process may hold: the library keeps
    what it writes to a file twice in memory."""
    files, number, size = {}, 1, 0
    for name in (name.removeprefix(WEIGHT) for name in tensors if name.startswith(WEIGHT)):
        files.update({f"{kind}{name}": number for kind in (WEIGHT, *MOMENTS)})
        size += 3 * tensors[f"{WEIGHT}{name}"].numel() * tensors[f"{WEIGHT}{name}"].element_size()
        if size >= FILE_BYTES:
            number, size = number + 1, 0
    return files


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Of the weights; which moments a process holds is for the optimizer to say."""
    return {name: list(tensor.shape) for name, tensor in tensors.items() if name.startswith(WEIGHT)}


def _seal(staging: Path, path: Path, facts: dict[str, Any], keep: int) -> None:
    """Note the files' sums, put the folder in its place and remove the oldest."""
    files = sorted(file for file in staging.iterdir() if file.is_file())
    for file in files:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())
    sums = {file.name: _sum(file) for file in files}
    write_json(staging / STATE, {**facts, "files": sums})
    shutil.rmtree(path, ignore_errors=True)
    os.replace(staging, path)
    for older in _finished(path.parent)[:-keep]:
        shutil.rmtree(older)


def _sum(file: Path) -> list[int]:
    """Size and CRC-32: what recognises a torn or rotten file; not meant against forgery."""
    crc = 0
    with open(file, "rb") as stream:
        while part := stream.read(1 << 20):
            crc = zlib.crc32(part, crc)
    return [file.stat().st_size, crc]


def _damage(path: Path) -> str | None:
    try:
        facts = read_json(path / STATE)
        for name, known in facts["files"].items():
            if _sum(path / name) != known:
                return f"{name} has changed"
        int(facts["step"])
    except KeyError as error:
        return f"{STATE} says nothing of {error}"
    except (OSError, HeadwaterError, TypeError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def steps_kept(folder: Path) -> list[int]:
    """After how many steps a run can go on from each of its checkpoints, whole or damaged."""
    return [int(path.name.removeprefix("step-")) for path in _finished(folder)]


def _finished(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())
