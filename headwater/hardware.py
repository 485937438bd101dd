"""What this machine can do, measured and not assumed."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from headwater.artifacts import write_json

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
_M_MMAP_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -4, -3, -1
"""Of glibc's malloc.h."""
WORTH = 1.3
"""bfloat16 is used where its matrix products are at least this many times as fast as float32's."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, or since `forget_peak_memory`."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as stream:
        return 1024 * int(next(line for line in stream if line.startswith("VmHWM")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Count the peak from what is held now; where the system does not offer it, it stays the process's."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
        stream.write("5")


def keep_freed_memory(below: int | None = None) -> None:
    """Let the process use again what it frees, instead of giving it back and asking for it at every step.

    glibc maps blocks from 32 MiB on anew each time, and the system fills them with zeros page by page: up to a fifth
    of a training step. below: blocks of so many bytes and more are given back all the same; None: no block is.
    Nothing where the C library is another one.
    """
    _set_heap(_Heap(mappings=0 if below is None else 1 << 16, trim_from=-1, mapped_from=below or _OWN.mapped_from))


def give_back_memory() -> None:
    """Undo `keep_freed_memory`, and give the system back what is free."""
    _set_heap(_OWN)
    trim_heap()


def trim_heap() -> None:
    """Give the system back what is free now."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def outside_the_heap() -> Iterator[None]:
    """Memory that is asked for meanwhile, in blocks of 64 KiB and more, leaves no hole in the heap when it is freed."""
    before = _heap
    _set_heap(before._replace(mappings=1 << 16, mapped_from=1 << 16))
    try:
        yield
    finally:
        _set_heap(before)


class _Heap(NamedTuple):
    """glibc's, as set last: it does not tell."""

    mappings: int
    """Blocks outside of the heap at most."""
    trim_from: int
    """Free bytes at its end from which on it shrinks; -1: never."""
    mapped_from: int
    """Bytes of a block from which on it lies outside."""


_OWN = _Heap(mappings=1 << 16, trim_from=1 << 17, mapped_from=1 << 25)
_heap = _OWN


def _set_heap(wanted: _Heap) -> None:
    global _heap
    _heap = wanted
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_MAX, wanted.mappings)
            libc.mallopt(_M_TRIM_THRESHOLD, wanted.trim_from)
            libc.mallopt(_M_MMAP_THRESHOLD, wanted.mapped_from)


def total_memory_bytes(device: str = "cpu") -> int:
    """Memory of the machine, or of its GPU."""
    if device != "cpu":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_bytes() -> int:
    """Resident memory of this process now; the peak so far where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory_bytes()


def compiler() -> list[str] | None:
    """The command of a C++ compiler, one that `torch.compile` can use too, or None."""
    commands = (shlex.split(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++"))
    return next((command for command in commands if command and shutil.which(command[0])), None)


def has_compiler() -> bool:
    return compiler() is not None


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def instructions() -> str:
    """The processor's instruction sets as the system lists them; empty where it does not."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            lines = [line.split(":", 1)[1].strip() for line in stream if line.startswith(("flags", "Features"))]
        return lines[0] if lines else ""
    except OSError:
        return ""


def matmul_flops(dtype: torch.dtype, device: str, *, size: int = 1024, repeats: int = 9) -> float:
    """Floating-point operations per second of a square matrix product: the quickest of some, since other work on the
    machine can only slow one."""
    import torch

    left = torch.randn(size, size, device=device).to(dtype)
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        left @ left
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[2:])


def matmul_peaks(device: str = "cpu") -> dict[str, float]:
    """Matrix-product FLOP/s by precision, measured once per machine and kept in the user's cache folder.

    Kept, because what is chosen by it (precision, compilation) must not differ between two runs on one machine.
    """
    import torch

    name = torch.cuda.get_device_name() if device != "cpu" else f"{processor()} x{torch.get_num_threads()}"
    key = f"{name}, torch {torch.__version__}"
    path = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headwater" / "matmul.json"
    try:
        known = json.loads(path.read_text())
        if set(known.get(key, ())) == {"float32", "bfloat16"}:
            return {precision: float(flops) for precision, flops in known[key].items()}
    except (OSError, ValueError, AttributeError):
        known = {}
    peaks = {"float32": matmul_flops(torch.float32, device), "bfloat16": matmul_flops(torch.bfloat16, device)}
    with contextlib.suppress(OSError):  # a read-only home only costs the measurement again
        write_json(path, {**known, key: peaks})
    return peaks


def best_precision(device: str = "cpu") -> Precision:
    peaks = matmul_peaks(device)
    return "bfloat16" if peaks["bfloat16"] >= WORTH * peaks["float32"] else "float32"
