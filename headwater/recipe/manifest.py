"""What a stage was made from and what it made: fingerprints, content hashes, `started.json`, `manifest.json`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

import headwater
from headwater.artifacts import hash_file, hash_json, read_json
from headwater.errors import InputError
from headwater.progress import bar
from headwater.recipe.stages import Stage
from headwater.settings import Change, Settings, changeable, path_settings

M = TypeVar("M", bound=BaseModel)
_HASH = "sha256:"
_LONG = 1 << 30
"""Bytes that take a second or so to hash."""
MANIFEST, STARTED = "manifest.json", "started.json"
RECORDS = {MANIFEST, STARTED, "metrics.jsonl", "machine.json", "checkpoints", "report.html", "summary.json",
           "snapshots", "snapshots.jsonl", "benchmarks.jsonl", "benchmarks.log"}
"""What in a stage's folder tells of the run (times, speeds, what a resume needs): no input of a later stage."""
REPORTED = ("torch", "numpy", "pyarrow", "daft", "sentencepiece", "safetensors", "trafilatura", "pydantic")


class FileRecord(BaseModel):
    """One written file. Size and time are trusted as long as both stay; else the content is hashed again."""

    sha256: str
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, sha256: str) -> FileRecord:
        found = path.stat()
        return cls(sha256=sha256, bytes=found.st_size, mtime_ns=found.st_mtime_ns)

    def holds(self, path: Path) -> bool:
        """Whether the file is there with the recorded content."""
        try:
            found = path.stat()
            return found.st_size == self.bytes and (
                found.st_mtime_ns == self.mtime_ns or hash_file(path) == self.sha256)
        except OSError:
            return False


class InputRecord(BaseModel):
    """One input: the hash of its content, and of its files' sizes and times to see quickly that nothing changed."""

    path: str
    sha256: str
    stamp: str


class Basis(BaseModel):
    """Everything that decides what a stage writes; paths stand as the hash of what they point to."""

    stage: str
    settings: dict[str, Any]
    """Those that cannot change without beginning anew."""
    midway: dict[str, Any]
    """By dotted name, those that may (`Change.MIDWAY`). What a `Change.HOW` marks decides nothing."""
    versions: dict[str, str]
    code: str
    """Hash of the code of the stage's rooms."""

    @property
    def fingerprint(self) -> str:
        return hash_json(self.model_dump(mode="json"))

    def begins(self, other: Basis) -> bool:
        """Whether work that was begun from this goes on to that."""
        return self.model_copy(update={"midway": other.midway}) == other

    def differences(self, other: Basis) -> list[str]:
        """What changed, in words: the dotted names of settings, inputs and versions."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return sorted(name.removeprefix("midway.") for name in _differences(mine, theirs, ""))


class Started(BaseModel):
    """`started.json`: what a stage that is not finished was started with."""

    basis: Basis
    inputs: dict[str, InputRecord]
    started: str
    """When the first attempt began (ISO 8601, UTC)."""
    session: float
    """When the latest attempt began (seconds since the epoch)."""
    seconds: float = 0.0
    """Worked in earlier attempts."""
    interruptions: int = 0


class Manifest(BaseModel):
    """`manifest.json`: written last, it means that the stage is done."""

    stage: str
    fingerprint: str
    basis: Basis
    command: list[str]
    settings: dict[str, Any]
    seed: int | None
    inputs: dict[str, InputRecord]
    outputs: dict[str, FileRecord]
    figures: dict[str, float | None]
    versions: dict[str, str]
    started: str
    finished: str
    seconds: float
    """Worked, over all interruptions."""
    interruptions: int
    peak_memory_bytes: int

    def damaged(self, folder: Path) -> list[str]:
        """The outputs that are missing or changed."""
        return [name for name, record in self.outputs.items() if not record.holds(folder / name)]


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, None when there is none or it cannot be read."""
    return _read(Manifest, folder / MANIFEST)


def read_started(folder: Path) -> Started | None:
    """The folder's `started.json`, None when there is none or it cannot be read."""
    return _read(Started, folder / STARTED)


def _read(kind: type[M], path: Path) -> M | None:
    try:
        return kind.model_validate(read_json(path))
    except (InputError, ValidationError):
        return None


def basis_of(stage: Stage, settings: Settings, inputs: Mapping[str, InputRecord]) -> Basis:
    """What the stage's result depends on."""
    values = settings.model_dump(mode="json")
    for found in path_settings(settings):
        if found.is_input:
            _group(values, found.location)[found.location[-1]] = (
                _HASH + inputs[".".join(map(str, found.location))].sha256)
    midway = {}
    for mark, place in changeable(settings):
        value = _group(values, place).pop(place[-1])
        if mark is Change.MIDWAY:
            midway[".".join(place)] = value
    return Basis(stage=stage.name, settings=values, midway=midway, versions=library_versions(stage.libraries),
                 code=code_hash(stage.rooms))


def _group(values: Any, place: Sequence[str | int]) -> Any:
    """What directly holds the value at that place."""
    for key in place[:-1]:
        values = values[key]
    return values


def library_versions(libraries: tuple[str, ...] = REPORTED) -> dict[str, str]:
    """Versions of Headwater and of the libraries that are installed."""
    found = {"headwater": headwater.__version__}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def reported_versions() -> dict[str, str]:
    """What the manifest and the report say about the machine's software."""
    return {**library_versions(), "python": platform.python_version(), "system": platform.platform()}


def code_hash(rooms: tuple[str, ...]) -> str:
    """Hash of the rooms' Python code."""
    package = Path(headwater.__file__).parent
    files = [file for room in rooms
             for file in (sorted((package / room).rglob("*.py")) or [package / f"{room}.py"])]
    return hash_json([[file.relative_to(package).as_posix(), hash_file(file)] for file in files])


def hash_input(path: Path, earlier: InputRecord | None, *, where: object) -> InputRecord:
    """Content hash of a file or folder: relative names and contents, a stage's own records left out.

    `earlier` is trusted while every file's size and time are as they were. Raises `InputError`.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}", where=where, fix="give the path of an existing one")
    try:
        files = {"": path} if path.is_file() else {name: path / name for name in files_below(path, skip=RECORDS)}
        sizes = [[name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in files.items()]
        stamp = hash_json(sizes)
        if earlier is not None and earlier.stamp == stamp:
            return InputRecord(path=str(path), sha256=earlier.sha256, stamp=stamp)
        known = _known_hashes(path)
        unknown = {name: file for name, file in files.items() if name not in known}
        known |= dict(zip(unknown, hash_files(unknown.values(), f"{where}: reading")))
        hashes = [[name, known[name]] for name in files]
    except OSError as error:
        raise InputError(f"cannot be read: {error}", where=where, fix="make it readable") from None
    return InputRecord(path=str(path), sha256=hash_json(hashes), stamp=stamp)


def hash_files(paths: Iterable[Path], doing: str) -> list[str]:
    """Content hashes, with a bar in MB where it takes more than a moment."""
    sizes = {path: path.stat().st_size for path in paths}
    total = sum(sizes.values())
    if total < _LONG:
        return [hash_file(path) for path in sizes]
    with bar(f"{doing} MB", total >> 20) as shown:
        return [hash_file(path, lambda count: shown.advance(count / 2**20)) for path in sizes]


def _known_hashes(path: Path) -> dict[str, str]:
    """Hashes that a finished stage's manifest already holds, of the files that are still as it wrote them."""
    manifest = read_manifest(path)
    if manifest is None:
        return {}
    return {name: record.sha256 for name, record in manifest.outputs.items() if _untouched(path / name, record)}


def _untouched(path: Path, record: FileRecord) -> bool:
    return path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) == (record.bytes, record.mtime_ns)


def last_write(folder: Path) -> float:
    """When a stage was last seen working (seconds since the epoch): a killed process leaves no other trace."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def files_below(folder: Path, *, skip: set[str]) -> Iterator[str]:
    """Sorted relative names of the files below `folder`; in a stage's folder without `skip` and temporaries."""
    is_stage = (folder / MANIFEST).exists() or (folder / STARTED).exists()
    for root, folders, names in os.walk(folder):
        relative = Path(root).relative_to(folder)
        if is_stage and relative == Path():
            folders[:] = [name for name in folders if name not in skip]
            names = [name for name in names if name not in skip]
        folders.sort()
        for name in sorted(names):
            if not (name.startswith(".") and name.endswith(".tmp")) and (Path(root) / name).is_file():
                yield (relative / name).as_posix()


def outputs_of(folder: Path) -> dict[str, FileRecord]:
    """Every file a stage wrote for others, hashed."""
    files = {name: folder / name for name in files_below(folder, skip={MANIFEST, STARTED, "checkpoints"})}
    hashes = hash_files(files.values(), f"{folder.name}: recording")
    return {name: FileRecord.of(file, sha256) for (name, file), sha256 in zip(files.items(), hashes)}


def _differences(mine: Any, theirs: Any, name: str) -> Iterator[str]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in {**mine, **theirs}:
            yield from _differences(mine.get(key), theirs.get(key), f"{name}.{key}".lstrip("."))
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for place, (one, other) in enumerate(zip(mine, theirs)):
            yield from _differences(one, other, f"{name}.{place}")
    elif mine != theirs:
        hashed = str(mine).startswith(_HASH) and str(theirs).startswith(_HASH)
        yield f"content of {name}" if hashed else name
