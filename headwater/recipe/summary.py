"""`summary.json`: every stage's seconds and figures, the evaluation's beside the model they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headwater.artifacts import write_json
from headwater.errors import HeadwaterError
from headwater.recipe.manifest import Manifest, read_manifest
from headwater.recipe.recipe import RESOLVED
from headwater.recipe.stages import STAGES, find
from headwater.settings import read_yaml

SUMMARY = "summary.json"


def manifests(run: Path) -> dict[str, Manifest]:
    """The finished stages of a run, in the recipe's order; of a stage's own folder that stage."""
    alone = read_manifest(run)
    if alone is not None:
        return {alone.stage: alone}
    found = {name: read_manifest(run / name) for name in _stage_names(run)}
    return {name: manifest for name, manifest in found.items() if manifest is not None}


def stage_folder(run: Path, stage: str) -> Path:
    """Where the run keeps the stage: below it, or the folder itself when it is the stage's own."""
    alone = read_manifest(run)
    return run if alone is not None and alone.stage == stage else run / stage


def _stage_names(run: Path) -> list[str]:
    try:
        return list(read_yaml(run / RESOLVED)["stages"])
    except (HeadwaterError, KeyError, TypeError):
        # Stages run by their own commands: no recipe was kept.
        order = list(STAGES)
        found = [path.name for path in run.glob("*") if path.is_dir() and find(STAGES, path.name)]
        return sorted(found, key=lambda name: (order.index(name.partition("_")[0]), name))


def summary(run: Path) -> dict[str, Any]:
    """`{"stages": {NAME: {"seconds": ..., "figures": {NAME: NUMBER}}}}`.

    A figure `MODEL/TASK.LANGUAGE.METRIC` of a stage counts among MODEL's as `TASK.LANGUAGE.METRIC`, and those of
    the last model also among the stage's own.
    """
    found = manifests(run)
    stages: dict[str, Any] = {name: {"seconds": manifest.seconds, "figures": {}} for name, manifest in found.items()}
    for name, manifest in found.items():
        named = [key.partition("/")[0] for key in manifest.figures if "/" in key]
        last = max((model for model in named if model in stages), key=list(stages).index, default=None)
        for key, value in manifest.figures.items():
            model, slash, figure = key.partition("/")
            if not slash:
                stages[name]["figures"][key] = value
                continue
            if model in stages:
                stages[model]["figures"][figure] = value
            if model == last:
                stages[name]["figures"][figure] = value
    return {"stages": stages}


def write_summary(run: Path) -> None:
    write_json(run / SUMMARY, summary(run))
