"""The weights of a model folder: one safetensors file, shards with their index, or old `.bin` shards."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from headwater.artifacts import read_json
from headwater.errors import CheckpointError, InputError
from headwater.model.stitch import stitched
from headwater.model.tensors import DTYPES, Stored, TensorFile, grouped

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_LEGACY = "pytorch_model.bin"
_BUFFERS = ("inv_freq", "future_mask")
"""What old files store and every loader computes."""


_COPY_AGAIN = "copy the folder again, all of its files"


class LegacyFile:
    """A `.bin` shard of tensors alone: whatever else a pickle may do is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            zipped = zipfile.is_zipfile(path)  # older releases of torch.save wrote no zip, which cannot be mapped
            with warnings.catch_warnings(action="ignore"):  # of old pickle protocols
                values = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except FileNotFoundError:
            raise CheckpointError("file is missing", where=path, fix=_COPY_AGAIN) from None
        except Exception as error:  # whatever the restricted unpickler stumbles over in a foreign file
            called = re.search(r"GLOBAL (\S+)", str(error))
            why = f"it calls {called[1]}" if called else "it is no file of torch.save, or a damaged one"
            raise CheckpointError(f"refused: only tensors are read from a .bin file, and {why}", where=path,
                                  fix="use the safetensors form of this checkpoint") from None
        if not isinstance(values, Mapping) or not all(isinstance(name, str) and _is_plain(value)
                                                      for name, value in values.items()):
            raise CheckpointError("refused: it holds more than named, dense tensors", where=path,
                                  fix="use the safetensors form of this checkpoint")
        self._values = {name: value.detach() for name, value in values.items()}
        self.tensors = {name: Stored(value.dtype, tuple(value.shape), 0, 0) for name, value in values.items()}

    def close(self) -> None:
        self._values = {}

    def read_into(self, name: str, target: Tensor) -> None:
        target.copy_(self._values[name])

    def mapped(self, names: tuple[str, ...]) -> Tensor | None:
        found: Tensor = self._values[names[0]]
        return found if len(names) == 1 and found.is_contiguous() else None


def _is_plain(value: object) -> bool:
    return (isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
            and not value.is_quantized and value.dtype in DTYPES.values())


class WeightFolder:
    """The tensors of a model folder by official name. A context manager; raises `CheckpointError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[TensorFile | LegacyFile] = []
        self._where: dict[str, TensorFile | LegacyFile] = {}
        try:
            for path in self._paths():
                self._add(LegacyFile(path) if path.suffix == ".bin" else TensorFile(path))
            self._check_index()
        except BaseException:
            self.close()
            raise

    def _paths(self) -> list[Path]:
        self._index: dict[str, str] = {}
        for single, index in ((SINGLE, INDEX), (_LEGACY, _LEGACY + ".index.json")):
            if (self.folder / single).exists():
                return [self.folder / single]
            if (self.folder / index).exists():
                self._index = _read_index(self.folder / index)
                return [self.folder / name for name in sorted(set(self._index.values()))]
        raise CheckpointError("file is missing", where=self.folder / SINGLE,
                              fix=_COPY_AGAIN)

    def _add(self, file: TensorFile | LegacyFile) -> None:
        self.files.append(file)
        for name in file.tensors:
            if name in self._where:
                raise CheckpointError(f"tensor {name} is also in {self._where[name].path.name}", where=file.path,
                                      fix="keep one of the two files, or copy the folder again")
            self._where[name] = file

    def _check_index(self) -> None:
        wrong = [name for name, file in self._index.items()
                 if name not in self._where or self._where[name].path.name != file]
        if wrong:
            raise CheckpointError(f"the index names tensors that are not in their files: {grouped(wrong)}",
                                  where=self.folder, fix=_COPY_AGAIN)
        unlisted = [name for name in self._where if name not in self._index] if self._index else []
        if unlisted:
            raise CheckpointError(f"the files hold tensors that the index does not name: {grouped(unlisted)}",
                                  where=self.folder, fix=_COPY_AGAIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; mapped tensors stay valid."""
        for file in self.files:
            file.close()

    @property
    def stored(self) -> dict[str, Stored]:
        """Every tensor but those that are computed; without the `glm.` that a wrapper puts before all names."""
        found = {name: file.tensors[name] for name, file in self._where.items() if not name.endswith(_BUFFERS)}
        if found and all(name.startswith("glm.") for name in found):
            found = {name.removeprefix("glm."): stored for name, stored in found.items()}
        return found

    def read_into(self, name: str, target: Tensor) -> None:
        """Fill `target` with the tensor."""
        name = name if name in self._where else f"glm.{name}"
        self._where[name].read_into(name, target)

    def mapped(self, names: tuple[str, ...]) -> Tensor | None:
        """The tensors' rows stacked, on their files' own pages; None where they cannot be had so."""
        names = tuple(name if name in self._where else f"glm.{name}" for name in names)
        files = [self._where[name] for name in names]
        if all(file is files[0] for file in files) and (found := files[0].mapped(names)) is not None:
            return found
        return self._stitched(names)

    def _stitched(self, names: tuple[str, ...]) -> Tensor | None:
        parts, stored = [], []
        for name in names:
            file = self._where[name]
            if isinstance(file, LegacyFile):
                return None
            parts.append(file.part(name))
            stored.append(file.tensors[name])
        first, flat = stored[0], None
        if all(one.dtype == first.dtype and one.shape[1:] == first.shape[1:] and one.shape for one in stored):
            flat = stitched(parts)
        return None if flat is None else flat.view(first.dtype).view(-1, *first.shape[1:])


def whose(folder: Path) -> str:
    """What tells a model's weights from others: a digest of their files' names, sizes and a million bytes at the start
    and in the middle, since a tuned model's embedding may be that of the one before."""
    digest = hashlib.sha256()
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        with open(file, "rb") as stream:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            for place in (0, size // 2):
                stream.seek(place)
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()


def _read_index(path: Path) -> dict[str, str]:
    try:
        values: Any = read_json(path)
    except InputError as error:
        raise CheckpointError(f"not an index: {error.what}", where=path, fix="copy the file again") from None
    names = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
        raise CheckpointError("not an index: it has no weight_map from tensors to files", where=path,
                              fix="copy the file again")
    for file in names.values():
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise CheckpointError(f"file name {file!r} leaves the folder", where=path, fix="correct the index")
    return names
