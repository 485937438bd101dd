"""What the machine says of itself."""

import platform
import subprocess
import sys

import pytest

BLOCK = 64 << 20
linux = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
FAULTS = """
import resource, sys, torch
from headwater import hardware
if sys.argv[1] == "kept":
    hardware.keep_freed_memory()
for _ in range(12):  # glibc's cache of small pieces fills up first
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(1 << 24)
after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
resident = hardware.memory_bytes()
hardware.give_back_memory()
print(after - before, resident - hardware.memory_bytes())
"""
PEAK = """
import torch
from headwater import hardware
held = torch.ones(1 << 26)  # 256 MiB
del held
high = hardware.peak_memory_bytes()
hardware.forget_peak_memory()
low = hardware.peak_memory_bytes()
held = torch.ones(1 << 24)
print(high, low, hardware.memory_bytes(), hardware.peak_memory_bytes())
"""


@linux
def test_the_peak_counts_from_where_the_last_was_forgotten():
    """In a process of its own: one that ran other tests may hold freed memory, which the block would lie in."""
    said = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout
    high, low, held, peak = map(int, said.split())
    if low == high:
        pytest.skip("this system does not let a process forget its peak")
    assert low < high - 2 * BLOCK
    assert peak >= held
    assert BLOCK // 2 < peak - low < 2 * BLOCK


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is set")
def test_kept_memory_is_used_again_without_asking_the_system_and_given_back_at_the_end():
    faults, returned = {}, {}
    for how in ("kept", "as it is"):
        said = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout
        faults[how], returned[how] = map(int, said.split())
    assert faults["kept"] < 1000 < faults["as it is"]
    assert returned["kept"] > BLOCK // 2
