"""Which model of a run is meant."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import InputError
from headwater.folders import ADAPTER_WEIGHTS, CONFIG, is_adapter

STAGES = ("quantize", "finetune", "extend", "pretrain")
"""Stages that write a model, the last first."""


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or is_adapter(folder)


def find_model(folder: Path) -> Path:
    """The folder itself when it is a model's, or an adapter's, else the last model of a run. Raises `InputError`."""
    folder = Path(folder)
    if _is_model(folder):
        return folder
    for stage in STAGES:
        candidate = folder / stage
        complete = any((candidate / name).is_file() for name in ("manifest.json", "model.safetensors", ADAPTER_WEIGHTS))
        if complete and _is_model(candidate):
            return candidate
    what = "no model here" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
    raise InputError(what, where=folder, fix="give a model folder, or a run folder with a finished "
                                             f"{', '.join(reversed(STAGES[1:]))} or {STAGES[0]} stage")
