"""Which model of a run is meant."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import InputError
from headwater.folders import ADAPTER_WEIGHTS, CONFIG, is_adapter
from headwater.model.task_head import require_no_head

STAGES = ("quantize", "prune", "ppo", "dpo", "rejection", "finetune", "extend", "pretrain")
"""Stages that write a model, the last first."""


def find_model(folder: Path) -> Path:
    """The folder itself when it is a model's, or an adapter's, else the last model of a run. Raises `InputError`."""
    folder = Path(folder)
    require_no_head(folder)
    if _is_model(folder):
        return folder
    for stage in STAGES:
        found = [one for one in (folder / stage, *sorted(folder.glob(f"{stage}_*"))) if _is_finished(one)]
        if len(found) > 1 and found[0].name != stage:
            raise InputError(f"several models: {', '.join(one.name for one in found)}", where=folder,
                             fix=f"give one of them, for example {found[0]}")
        if found:
            return found[0]
    what = "no model here" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
    raise InputError(what, where=folder, fix="give a model folder, or a run folder with a finished "
                                             f"{', '.join(reversed(STAGES[1:]))} or {STAGES[0]} stage")


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or is_adapter(folder)


def _is_finished(folder: Path) -> bool:
    done = any((folder / name).is_file() for name in ("manifest.json", "model.safetensors", ADAPTER_WEIGHTS))
    return done and _is_model(folder)
