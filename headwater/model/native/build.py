"""Compiles the folder's C++ for this very processor, once, into the user's cache folder."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headwater import hardware
from headwater.progress import say

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-strict-aliasing", "-fno-math-errno", "-shared",
         "-fPIC")
_SOURCES = Path(__file__).parent
_PATIENCE = 300
"""Seconds after which a compiler counts as broken."""


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """The compiled code of NAME.cpp, or None, said once, where there is no compiler or it fails."""
    command = hardware.compiler()
    if command is None:
        return None
    try:
        with _folder() as folder:
            return ctypes.CDLL(str(built(name, command, folder)))
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        say(f"our own code for {name} could not be compiled, PyTorch's is used instead: {said.strip()[-300:]}")
        return None


def built(name: str, command: list[str], folder: Path) -> Path:
    """The shared library of NAME.cpp, made first where it is not there yet.

    Raises `OSError` or `subprocess.SubprocessError`.
    """
    path = folder / f"{name}-{_key(command)}.so"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".tmp") as staging:
        made = Path(staging) / path.name
        _run([*command, *FLAGS, str(_SOURCES / f"{name}.cpp"), "-o", str(made)])
        os.replace(made, path)  # whoever builds at the same time replaces it by the same
    return path


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True, timeout=_PATIENCE).stdout


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """The cache folder; where it cannot be written, a temporary one that is gone once the code is loaded."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headwater"
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(tempfile.TemporaryFile(dir=folder)).close()
        except OSError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headwater-")))
        yield folder


def _key(command: list[str]) -> str:
    """Changes with whatever the result depends on: the sources, the compiler, its flags, the processor."""
    digest = hashlib.sha256(_run([*command, "--version"]).encode())
    for part in (*command, *FLAGS, platform.machine(), hardware.processor(), hardware.instructions()):
        digest.update(part.encode() + b"\0")
    for source in sorted(_SOURCES.glob("*.[ch]*")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
