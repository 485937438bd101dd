"""Files in a local folder or an object store, each whole or absent; what counts is what a record names."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from headwater.artifacts import atomic_write
from headwater.errors import InputError, StorageError

_KEYS = re.compile(r"://[^/@]*@")


class Store:
    """Named files below one place: a folder, or a URL such as `s3://bucket/prefix` (keys from the environment, other
    options as pyarrow's URLs give them: `?region=...&endpoint_override=HOST:PORT&scheme=http`).

    A file appears whole when `put` returns (renamed into place in a folder, one PUT in an object store). There is no
    rename and no listing that matters: readers open only what some record names. Cheap to pickle.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)

    @cached_property
    def folder(self) -> Path | None:
        """The local folder, or None for an object store."""
        return None if "://" in self.place else Path(self.place)

    def __getstate__(self) -> str:
        return self.place

    def __setstate__(self, place: str) -> None:
        self.place = place

    @cached_property
    def _remote(self) -> tuple[fs.FileSystem, str]:
        try:
            return fs.FileSystem.from_uri(self.place)
        except (ValueError, OSError, pa.ArrowException) as error:
            problem = str(error).partition(self.place)[0]
            raise InputError(f"no object store that can be used: {problem}", where=self.uri(""),
                             fix="give a folder, or a URL like s3://bucket/prefix?region=eu-central-1") from None

    def put(self, name: str, content: bytes) -> None:
        """Write the file whole. Raises `StorageError` where there is no room or no answer."""
        if self.folder is not None:
            with atomic_write(self.folder / name) as stream:
                stream.write(content)
            return
        filesystem, base = self._remote
        try:
            with filesystem.open_output_stream(f"{base}/{name}") as stream:
                stream.write(content)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"cannot write: {error}", where=self.uri(name),
                               fix="see that the store answers, then give the same command again: what is done is "
                                   "kept") from error

    def put_json(self, name: str, value: Any) -> None:
        self.put(name, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())

    def open(self, name: str) -> pa.NativeFile:
        """The file for random access. Raises `InputError` when it is not there."""
        try:
            if self.folder is not None:
                return pa.OSFile(str(self.folder / name))
            filesystem, base = self._remote
            return filesystem.open_input_file(f"{base}/{name}")
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot be read: {error}", where=self.uri(name),
                             fix="run the stage that writes it again") from None

    def get(self, name: str) -> bytes:
        with self.open(name) as stream:
            return stream.read()

    def get_json(self, name: str) -> Any:
        return json.loads(self.get(name))

    def names(self, under: str, suffix: str = "") -> list[str]:
        """Files directly in the folder `under`, sorted."""
        if self.folder is not None:
            files = (self.folder / under).glob("*")
            found = [file.name for file in files if file.is_file() and not file.name.startswith(".")]
        else:
            filesystem, base = self._remote
            try:
                selector = fs.FileSelector(f"{base}/{under}", allow_not_found=True)
                found = [info.base_name for info in filesystem.get_file_info(selector) if info.is_file]
            except (OSError, pa.ArrowException) as error:
                raise StorageError(f"cannot be listed: {error}", where=self.uri(under),
                                   fix="see that the store answers and the keys are right") from error
        return sorted(f"{under}/{name}" for name in found if name.endswith(suffix))

    def remove_file(self, name: str) -> None:
        if self.folder is not None:
            (self.folder / name).unlink(missing_ok=True)
            return
        filesystem, base = self._remote
        filesystem.delete_file(f"{base}/{name}")

    def remove(self, under: str) -> None:
        """Remove a folder with all it holds, if it is there."""
        if self.folder is not None:
            shutil.rmtree(self.folder / under, ignore_errors=True)
            return
        filesystem, base = self._remote
        if filesystem.get_file_info(f"{base}/{under}").type == fs.FileType.Directory or self.names(under):
            filesystem.delete_dir(f"{base}/{under}")

    def put_folder(self, name: str, folder: Path) -> None:
        """Write the files directly in a local folder as files below `name`."""
        for file in sorted(folder.iterdir()):
            self.put(f"{name}/{file.name}", file.read_bytes())

    def as_local(self, name: str) -> Path:
        """The folder `name` on this machine: itself, or a temporary copy of its files."""
        if self.folder is not None:
            return self.folder / name
        copy = Path(tempfile.mkdtemp(prefix="headwater-"))
        for file in self.names(name):
            (copy / Path(file).name).write_bytes(self.get(file))
        return copy

    def uri(self, name: str) -> str:
        """Where the file is, as a person writes it: without keys and options of the URL."""
        return f"{_KEYS.sub('://', self.place.partition('?')[0]).rstrip('/')}/{name}"
