"""What is for GPUs, where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headwater.model import gpu


def test_triton_s_absence_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    monkeypatch.setattr(gpu, "say", said.append)
    gpu.has_triton.cache_clear()
    try:
        assert not gpu.has_triton()
        assert not gpu.has_triton()
    finally:
        gpu.has_triton.cache_clear()
    assert len(said) == 1


def test_an_engine_on_a_cpu_brings_no_triton() -> None:
    code = "import sys, headwater.generate, headwater.model.stepper; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
