"""The kernels as GPUs get them: an interpreter takes more than a compiler does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")


@pytest.mark.slow
def test_every_kernel_compiles_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("compiling.py"))], capture_output=True,
                          text=True, timeout=600, check=False, cwd=Path(__file__).parents[3],
                          env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path),
                               "PYTHONPATH": str(Path(__file__).parents[3])})
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, *_ in compiled} == {"_look_up", "_angles", "_add_normed", "_one_row", "_some_rows", "_read",
                                               "_put_together"}
    assert {arch for _, arch, *_ in compiled} == {"80", "90"}
    assert all(int(shared) <= 99 * 1024 for *_, shared in compiled)  # what a consumer's GPU gives a block
