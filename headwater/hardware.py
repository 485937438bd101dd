"""What this machine can do, measured and not assumed."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shlex
import shutil
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headwater.artifacts import write_json

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
WORTH = 1.3
"""bfloat16 is used where its matrix products are at least this many times as fast as float32's."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


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
    """Median floating-point operations per second of a square matrix product."""
    import torch

    left = torch.randn(size, size, device=device).to(dtype)
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        left @ left
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[2:])


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
