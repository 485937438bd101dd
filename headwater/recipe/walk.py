"""The walk over a recipe's stages: skip what is unchanged, go on with what is half done, run the rest."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from headwater.artifacts import make_folder, sweep_temporaries, write_json, write_text
from headwater.errors import InputError, UserError
from headwater.hardware import forget_peak_memory, peak_memory_bytes
from headwater.progress import say
from headwater.recipe import companions, evaluator, kept
from headwater.recipe.interruption import explained, locked, stoppable
from headwater.recipe.manifest import (
    MANIFEST,
    STARTED,
    Basis,
    InputRecord,
    Manifest,
    Started,
    basis_of,
    files_below,
    hash_input,
    last_write,
    outputs_of,
    read_manifest,
    read_started,
    reported_versions,
)
from headwater.recipe.recipe import RESOLVED, ResolvedRecipe, Step
from headwater.recipe.report import write_report
from headwater.recipe.stages import STAGES, Stage, find
from headwater.recipe.summary import write_summary
from headwater.settings import Settings, input_paths

_MARK = "# Written by `headwater run`: the recipe of this folder with the stages' defaults."
"""First line of a run's recipe: a file without it is somebody's own and is left alone."""
_OTHER_OUT = "give another --out"


def walk(recipe: ResolvedRecipe, out: Path, command: Sequence[str]) -> None:
    """Bring every stage's folder below `out` up to date and write its recipe, summary and report.

    `command` is what the user typed, kept in the manifests and shown when the run is stopped.
    Raises `Interrupted`, `StorageError`, or what a stage raises.
    """
    for step in recipe.steps:
        step.stage.check(step.settings)
        evaluator.check(step.stage, step.settings)
    make_folder(out, fix=_OTHER_OUT)
    _require_run_folder(out)
    with stoppable(command), explained(out, "run"), locked(out / ".lock", out):
        sweep_temporaries(out, deep=False)
        (out / "crash.txt").unlink(missing_ok=True)
        write_text(out / RESOLVED, f"{_MARK}\n{recipe.as_yaml()}")
        names = [step.stage.name for step in recipe.steps]
        for number, step in enumerate(recipe.steps):
            settings = step.below(out, names[:number])
            bring_up_to_date(step.stage, settings, out / step.stage.name, command)
            write_summary(out)
        say(f"report: {write_report(out)}")


def _require_run_folder(out: Path) -> None:
    """Raises `InputError` for a folder that holds what no run wrote: nothing of anybody's is written over."""
    found: str | None = RESOLVED
    if (out / RESOLVED).exists():
        with open(out / RESOLVED, "rb") as stream:
            ours = stream.readline().strip() == _MARK.encode()
    else:
        found = next((name for name in files_below(out, skip=set()) if not name.startswith(".")), None)
        ours = found is None or any(out.glob(f"*/{MANIFEST}")) or any(out.glob(f"*/{STARTED}"))
    if not ours:
        raise InputError(f"this folder holds files that no run wrote ({found})", where=out,
                         fix="give a new or an empty folder as --out")


def run_alone(step: Step, folder: Path, command: Sequence[str]) -> None:
    """Run one stage into its own folder; `${stage}` stands for a folder beside it that has a stage's name, or that one
    has written.

    Raises `SettingsError` where such a folder is needed and not there.
    """
    beside = {path.name: path for path in sorted(folder.absolute().parent.glob("*/")) if path != folder.absolute()
              and (find(STAGES, path.name) or (path / MANIFEST).is_file())}
    settings = step.resolved(beside)
    step.stage.check(settings)
    evaluator.check(step.stage, settings)
    make_folder(folder.parent, fix=_OTHER_OUT)
    if (folder.parent / RESOLVED).exists():
        with locked(folder.parent / ".lock", folder.parent):
            pass  # a walk that is under way here comes to this stage too
    with stoppable(command), explained(folder.parent, step.stage.name):
        bring_up_to_date(step.stage, settings, folder, command)


def bring_up_to_date(stage: Stage, settings: Settings, folder: Path, command: Sequence[str]) -> None:
    """Run the stage into `folder` unless its manifest says that the same was done from the same."""
    _require_inputs_outside(stage.name, settings, folder)
    with locked(folder.parent / f".{folder.name}.lock", folder), explained(folder.parent, f"stage {stage.name}"):
        earlier = read_manifest(folder) or read_started(folder)
        inputs = {name: hash_input(path, earlier.inputs.get(name) if earlier else None, where=f"{stage.name}.{name}")
                  for name, path in input_paths(settings).items()}
        basis, replaced = basis_of(stage, settings, inputs), None
        if kept.is_current(stage.name, folder, basis):
            say(f"{stage.name}: unchanged, skipped")
            return
        if not kept.goes_on(folder, basis):
            wanted = kept.fitting(stage.name, folder, basis)
            replaced = kept.make_room(stage.name, folder, basis)
            if wanted is not None:
                kept.take_back(stage.name, wanted, folder)
                if read_manifest(folder) is not None:
                    return
        begun = read_started(folder)
        started = _begin(folder, basis, inputs, begun)
        say(f"{stage.name}: {'goes on' if begun else 'starts'}")
        _tell_changes(stage.name, begun, basis)
        try:
            _work(stage, settings, folder, started, command)
        except UserError:
            if replaced is not None and begun is None and time.time() - started.session < kept.WORTH_SECONDS:
                kept.put_back(stage.name, folder, replaced)
            raise


def _require_inputs_outside(name: str, settings: Settings, folder: Path) -> None:
    """Raises `InputError` where a stage would write over, or move aside, what it reads."""
    for setting, path in input_paths(settings).items():
        if path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"the input {path} lies in --out {folder}, which the stage writes",
                             where=f"{name}.{setting}", fix=_OTHER_OUT)


def _tell_changes(name: str, begun: Started | None, basis: Basis) -> None:
    changed = begun.basis.differences(basis) if begun else []
    if changed:
        say(f"{name}: {', '.join(changed)} changed: the work follows it from here on")


def _work(stage: Stage, settings: Settings, folder: Path, started: Started, command: Sequence[str]) -> None:
    forget_peak_memory()
    try:
        with evaluator.benchmarks(stage, settings, folder, started.inputs) as following:
            companions.call(stage, settings, folder)
            figures = stage.run(settings, folder)
            figures |= following.finish() if following is not None else {}
    finally:
        if (folder / STARTED).exists():
            os.utime(folder / STARTED)
    seed = getattr(settings, "seed", None)
    manifest = Manifest(
        stage=stage.name, fingerprint=started.basis.fingerprint, basis=started.basis, command=list(command),
        settings=settings.model_dump(mode="json"), seed=seed, inputs=started.inputs, outputs=outputs_of(folder),
        figures={name: float(value) if math.isfinite(value) else None for name, value in figures.items()},
        versions=reported_versions(), started=started.started, finished=_now(),
        seconds=round(started.seconds + time.time() - started.session, 3), interruptions=started.interruptions,
        peak_memory_bytes=peak_memory_bytes())
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    (folder / STARTED).unlink(missing_ok=True)
    say(f"{stage.name}: done in {manifest.seconds:.1f} s")


def _begin(folder: Path, basis: Basis, inputs: dict[str, InputRecord], begun: Started | None) -> Started:
    make_folder(folder, fix=_OTHER_OUT)
    sweep_temporaries(folder)
    started = Started(basis=basis, inputs=inputs, started=_now(), session=time.time())
    if begun is not None:
        worked = begun.seconds + max(0.0, last_write(folder) - begun.session)
        started = started.model_copy(update={"started": begun.started, "seconds": worked,
                                             "interruptions": begun.interruptions + 1})
    write_json(folder / STARTED, started.model_dump(mode="json"))
    return started


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
