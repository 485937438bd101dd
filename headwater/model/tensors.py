"""Safetensors files read and written by offset: straight into a tensor's memory, or mapped, never twice in memory.

The safetensors library materialises whatever it is asked for beside its destination; a row-stacked matrix would need
its parts twice. The format is a length (8 bytes, little endian), a JSON header and the raw data.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import mmap
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from headwater.artifacts import atomic_write, storage_errors
from headwater.errors import CheckpointError
from headwater.hardware import cores
from headwater.model.stitch import Part

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
          "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 64
_LONGEST_HEADER = 100 << 20
_CHUNK = 16 << 20
"""Bytes read at once where a tensor is converted on the way."""
_PIECE = 2 << 20
"""Bytes that one thread reads."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: its type, shape and place in bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """An open safetensors file. Raises `CheckpointError` for a missing, truncated or contradictory one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")  # opening a pipe would wait for a writer
            self._stream: BinaryIO = open(path, "rb")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            reason = "file is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise CheckpointError(reason, where=path, fix="copy the folder again, all of its files") from None
        try:
            self.tensors = self._header()
        except BaseException:
            self.close()
            raise
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        self._stream.close()

    def _header(self) -> dict[str, Stored]:
        size = self._stream.seek(0, 2)
        self._stream.seek(0)
        first = self._stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise self._damaged("truncated or not safetensors: it has no header")
        try:
            values = json.loads(self._stream.read(length), object_pairs_hook=self._no_duplicates)
        except (ValueError, RecursionError):
            raise self._damaged("truncated or not safetensors: its header is not JSON") from None
        if not isinstance(values, dict):
            raise self._damaged("not safetensors: its header is not an object")
        said = values.pop("__metadata__", None)
        self.metadata: dict[str, Any] = said if isinstance(said, dict) else {}
        found = {name: self._stored(name, value, 8 + length) for name, value in values.items()}
        self._check_data(found, 8 + length, size)
        return found

    def _no_duplicates(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self._damaged(f"tensor {twice} is in its header twice")
        return dict(pairs)

    def _stored(self, name: str, value: Any, base: int) -> Stored:
        try:
            dtype, shape = DTYPES[value["dtype"]], tuple(int(size) for size in value["shape"])
            start, stop = (int(offset) for offset in value["data_offsets"])
        except (KeyError, TypeError, ValueError):
            raise self._damaged(f"tensor {name} is described as {str(value)[:100]}") from None
        if min((0, *shape)) < 0 or start < 0 or stop - start != math.prod(shape) * dtype.itemsize:
            raise self._damaged(f"tensor {name} of shape {list(shape)} claims {stop - start} bytes")
        return Stored(dtype, shape, base + start, base + stop)

    def _check_data(self, found: Mapping[str, Stored], base: int, size: int) -> None:
        end, last = base, ""
        for name, stored in sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)):
            if stored.start < end:
                raise self._damaged(f"tensors {last} and {name} overlap")
            end, last = stored.stop, name
        if end != size:
            cut = "truncated or not safetensors" if end > size else "something was written behind its end"
            raise self._damaged(f"{cut}: {size} bytes, its header promises {end}")

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(what, where=self.path, fix="copy or write the file again")

    def read_into(self, name: str, target: Tensor) -> None:
        """Fill `target`, contiguous and of the stored shape, converting where its dtype or device differs."""
        stored = self.tensors[name]
        flat, at = target.view(-1), stored.start
        if target.dtype == stored.dtype and target.device.type == "cpu":
            self._fill(flat, at)
            return
        step = max(1, _CHUNK // stored.dtype.itemsize)
        # Not of the heap: what is freed there leaves holes between the tensors that stay.
        room = mmap.mmap(-1, min(step, max(1, flat.numel())) * stored.dtype.itemsize)
        buffer = torch.frombuffer(room, dtype=stored.dtype)
        for start in range(0, flat.numel(), step):
            part = buffer[: min(step, flat.numel() - start)]
            self._fill(part, at + start * stored.dtype.itemsize)
            flat[start : start + len(part)] = part.to(target.device)

    def _fill(self, flat: Tensor, at: int) -> None:
        """Read from byte `at` on, on every core: most of the time goes into the first touch of fresh memory."""
        memory = memoryview(flat.detach().view(torch.uint8).numpy())  # type: ignore[arg-type]
        pieces = [(memory[start : start + _PIECE], at + start) for start in range(0, len(memory), _PIECE)]
        if len(pieces) == 1:
            self._read(*pieces[0])
        elif pieces:
            with ThreadPoolExecutor(cores()) as readers:
                list(readers.map(self._read, *zip(*pieces)))

    def _read(self, memory: memoryview, at: int) -> None:
        while memory:
            count = os.preadv(self._stream.fileno(), [memory], at)
            if not count:
                raise self._damaged("it became shorter while it was read")
            memory, at = memory[count:], at + count

    def part(self, name: str) -> Part:
        """Where the tensor's bytes lie."""
        stored = self.tensors[name]
        return Part(self._stream.fileno(), stored.start, stored.stop)

    def mapped(self, names: tuple[str, ...]) -> Tensor | None:
        """The tensors' rows stacked, on the file's own pages: nothing is read before it is used, writing changes no
        file. None where they do not lie one behind the other."""
        stored = [self.tensors[name] for name in names]
        first, rows = stored[0], sum(one.shape[0] if one.shape else 1 for one in stored)
        joined = all(a.stop == b.start and a.dtype == b.dtype for a, b in itertools.pairwise(stored))
        if not joined or stored[-1].stop == first.start:
            return None
        if self._map is None:
            self._map = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_COPY)
        count = (stored[-1].stop - first.start) // first.dtype.itemsize
        flat = torch.frombuffer(self._map, dtype=first.dtype, count=count, offset=first.start)
        return flat.view(rows, *first.shape[1:]) if first.shape else flat.view(())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, written atomically tensor by tensor; equal tensors give equal bytes.

    The order given is kept, so that tensors that are read as one lie together, but wide types come first, so that
    every tensor is aligned to its type. Raises `StorageError` on a full disk.
    """
    names = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with storage_errors(path), atomic_write(path) as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            flat = tensors[name].detach().contiguous().view(-1)
            for part in flat.split(max(1, _CHUNK // flat.dtype.itemsize)):
                stream.write(memoryview(part.cpu().view(torch.uint8).numpy()) if part.numel() else b"")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `CheckpointError` for a missing or damaged file."""
    file = TensorFile(Path(path))
    try:
        found = {name: torch.empty(stored.shape, dtype=stored.dtype) for name, stored in file.tensors.items()}
        for name, tensor in found.items():
            file.read_into(name, tensor)
        return found
    finally:
        file.close()


def grouped(names: Iterable[str]) -> str:
    """Tensor names for a message: those that differ by one number alone are written once, `layers.{0-3,7}.weight`."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if place is None:
            groups.setdefault((name, ""), [])
        else:
            key = ".".join(parts[:place]), ".".join(parts[place + 1 :])
            groups.setdefault(key, []).append(int(parts[place]))
    return ", ".join(head if not numbers else f"{head}.{_ranges(sorted(numbers))}.{tail}"
                     for (head, tail), numbers in groups.items())


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"
