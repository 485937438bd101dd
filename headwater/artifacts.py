"""Files written whole or not at all, and content hashes of what was written."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from headwater.errors import InputError, StorageError

_PART = 1 << 20
_FULL = ("No space left", "Disk quota", "disk is full", "os error 28")


def says_full(error: BaseException | str) -> bool:
    """Whether an error, or what is left of its text, says that the disk is full: many libraries give no number."""
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error) for words in _FULL)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn "disk full" and its kin into a `StorageError` naming the path, a read-only disk into an `InputError`; other
    errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EROFS:
            raise InputError("cannot write: the file system is read-only", where=path,
                             fix="give a folder that can be written") from error
        if says_full(error) or error.errno == errno.EFBIG:
            raise StorageError(f"cannot write: {error.strerror or error}", where=path,
                               fix="free some space, then give the same command again: what is done is kept") from error
        raise


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success fsync and rename it over `path`, on error leave `path` alone."""
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            os.close(handle)  # opened again by name, for writers that want the file's name
            with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
            _fsync(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A staging folder that becomes `path` on success (replacing an older one) and vanishes on error."""
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        try:
            yield staging
            # In threads: many small files reach the disk far faster together than one after the other.
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(_fsync, [*sorted(staging.rglob("*")), staging]))
            os.chmod(staging, 0o777 & ~_umask())
            _put_in_place(staging, path)
            _fsync(path.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _put_in_place(staging: Path, path: Path) -> None:
    if not path.exists():
        os.replace(staging, path)
        return
    # A folder cannot be replaced in one step and deleting may take long: the old one is renamed away first.
    replaced = staging.with_name(f"{staging.name.removesuffix('.tmp')}.old.tmp")
    os.replace(path, replaced)
    os.replace(staging, path)
    if replaced.is_dir():
        shutil.rmtree(replaced)
    else:
        replaced.unlink()


def make_folder(path: Path, *, fix: str) -> None:
    """Make the folder and those above it. Raises `InputError` with `fix` where there can be none."""
    try:
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made a folder: {error.strerror}", where=path, fix=fix) from None


def claim(out: Path, what: Mapping[str, Any], kind: str, *results: str) -> None:
    """Make the folder and note in it what its results are of, so that results of something else are neither taken for
    these nor overwritten. results: files that will be written. Raises `InputError` for a folder that holds another
    `kind`, or a stranger's files of these names."""
    path = out / "settings.json"
    if not path.exists() and (strange := [name for name in results if (out / name).exists()]):
        raise InputError(f"there is a {strange[0]} that is of no {kind}", where=out, fix="give another folder")
    try:
        known = read_json(path) if path.exists() else what
        other = [name for name in {**known, **what} if known.get(name) != what.get(name)]
    except (InputError, AttributeError, TypeError):
        raise InputError(f"damaged: it no longer says of what this {kind} is", where=path,
                         fix="give another folder, or delete this one") from None
    if other:
        raise InputError(f"the folder holds another {kind}, of other {', '.join(other)}", where=out,
                         fix="give another folder")
    make_folder(out, fix="give another folder")
    write_json(path, what)


def sweep_temporaries(folder: Path, *, deep: bool = True) -> None:
    """Remove what a killed process left half-written in `folder`, or anywhere below it (`deep`)."""
    for leftover in list(folder.rglob(".*.tmp") if deep else folder.glob(".*.tmp")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_write(path, "w") as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Human-readable JSON, keys in the given order, non-ASCII kept, one trailing newline."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterator[Any] | list[Any]) -> None:
    with atomic_write(path, "w") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises `InputError` when the file is missing or not JSON."""
    try:
        _require_regular(path)
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path, fix="check the path, or run the stage that writes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", where=path, fix="write the file again") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, fix="give a readable file") from None


def _require_regular(path: Path) -> None:
    """Opening a pipe would wait for a writer that never comes."""
    kind = os.stat(path).st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "not a regular file")


def read_jsonl(path: Path) -> Iterator[Any]:
    """Rows of a JSON-lines file. Raises `InputError` with the line number of a damaged row."""
    return (row for _, row in numbered_jsonl(path))


def numbered_jsonl(path: Path, parse: Callable[[str], Any] = json.loads) -> Iterator[tuple[int, Any]]:
    """`read_jsonl` with the line of each row. parse: what reads a line."""
    try:
        with open_text(path) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    try:
                        yield number, parse(line)
                    except (ValueError, RecursionError) as error:
                        why = f"{error.msg}, column {error.pos + 1}" if isinstance(error, json.JSONDecodeError) \
                            else error
                        raise InputError(f"line {number} is not valid JSON: {why}", where=path,
                                         fix="correct or remove that line") from None
    except FileNotFoundError:
        raise InputError("no such file", where=path, fix="check the path") from None
    except UnicodeDecodeError:
        raise not_utf8(path) from None


def not_utf8(path: Path) -> InputError:
    """What is wrong with a file that did not decode, with its first line that does not."""
    with gzip.open(path) if _packed(path) else open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                what = f"line {number} is not UTF-8 text: byte {line[error.start]:#04x} at place {error.start + 1}"
                return InputError(what, where=path, fix="convert the file to UTF-8, or correct that line")
    return InputError("not UTF-8 text", where=path, fix="convert the file to UTF-8")


def _packed(path: Path) -> bool:
    return Path(path).suffix.lower() == ".gz"


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A file of UTF-8 text, of which one whose name ends with .gz is unpacked. Raises `InputError` where that is
    damaged."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if _packed(path) else open(path, encoding="utf-8-sig") as stream:
        try:
            yield stream
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"cannot be unpacked: {error}", where=path, fix="fetch the file again") from None


def hash_file(path: Path, seen: Callable[[int], None] | None = None) -> str:
    """SHA-256 of the content, in hexadecimal; `seen` is told of bytes as they are read."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while part := stream.read(_PART):
            digest.update(part)
            if seen is not None:
                seen(len(part))
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of the value's canonical JSON."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()  # file names may be any bytes


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync(path: Path) -> None:
    """Of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
