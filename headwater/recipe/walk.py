"""The walk over a recipe's stages: skip what is unchanged, go on with what is half done, run the rest."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from headwater.artifacts import make_folder, sweep_temporaries, write_json, write_text
from headwater.errors import InputError
from headwater.hardware import peak_memory_bytes
from headwater.progress import say
from headwater.recipe import companions
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
    outputs_of,
    read_manifest,
    read_started,
    reported_versions,
)
from headwater.recipe.recipe import RESOLVED, ResolvedRecipe, Step
from headwater.recipe.report import write_report
from headwater.recipe.stages import Stage
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
    make_folder(out, fix=_OTHER_OUT)
    _require_run_folder(out)
    with stoppable(command), explained(out, "run"), locked(out / ".lock"):
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
    """Run one stage into its own folder; `${stage}` stands for a stage's folder beside it.

    Raises `SettingsError` where such a folder is needed and not there.
    """
    beside = {path.name: path for path in folder.absolute().parent.glob("*/") if path != folder.absolute()}
    settings = step.resolved(beside)
    make_folder(folder.parent, fix=_OTHER_OUT)
    if (folder.parent / RESOLVED).exists():
        with locked(folder.parent / ".lock"):
            pass  # a walk that is under way here comes to this stage too
    with stoppable(command), explained(folder.parent, step.stage.name):
        bring_up_to_date(step.stage, settings, folder, command)


def bring_up_to_date(stage: Stage, settings: Settings, folder: Path, command: Sequence[str]) -> None:
    """Run the stage into `folder` unless its manifest says that the same was done from the same."""
    with locked(folder.parent / f".{folder.name}.lock"), explained(folder.parent, f"stage {stage.name}"):
        done, begun = read_manifest(folder), read_started(folder)
        earlier = done.inputs if done else begun.inputs if begun else {}
        inputs = {name: hash_input(path, earlier.get(name), where=f"{stage.name}.{name}")
                  for name, path in input_paths(settings).items()}
        basis = basis_of(stage, settings, inputs)
        if done is not None and _is_current(stage.name, done, folder, basis):
            say(f"{stage.name}: unchanged, skipped")
            return
        resumed = done is None and begun is not None and begun.basis == basis
        if not resumed and _taken_back(stage.name, folder, basis):
            return
        if not resumed and folder.exists():
            _make_room(stage.name, folder, done, begun, basis)
        started = _begin(folder, basis, inputs, begun if resumed else None)
        say(f"{stage.name}: {'goes on' if resumed else 'starts'}")
        _work(stage, settings, folder, started, command)


def _work(stage: Stage, settings: Settings, folder: Path, started: Started, command: Sequence[str]) -> None:
    _reset_peak_memory()
    companions.call(stage, settings, folder)
    try:
        figures = stage.run(settings, folder)
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


def _is_current(name: str, done: Manifest, folder: Path, basis: Basis) -> bool:
    if done.basis != basis:
        return False
    damaged = done.damaged(folder)
    if damaged:
        say(f"{name}: {damaged[0]}{' and others' * (len(damaged) > 1)} missing or changed since it was written")
    return not damaged


def _taken_back(name: str, folder: Path, basis: Basis) -> bool:
    """Whether the result kept beside (see `_make_room`) is what is asked for now; the two then change places."""
    old, between = folder.with_name(f"{folder.name}.old"), folder.with_name(f".{folder.name}.swapped")
    if between.exists() and not old.exists():  # killed on the way
        os.replace(between, old)
    kept = read_manifest(old)
    stranger = folder.exists() and not (folder / MANIFEST).exists() and not (folder / STARTED).exists()
    if kept is None or stranger or not _is_current(name, kept, old, basis):
        return False
    if folder.exists():
        os.replace(folder, between)
    os.replace(old, folder)
    if between.exists():
        os.replace(between, old)
    say(f"{name}: an earlier result fits again, taken back from {old}")
    return True


def _begin(folder: Path, basis: Basis, inputs: dict[str, InputRecord], begun: Started | None) -> Started:
    make_folder(folder, fix=_OTHER_OUT)
    sweep_temporaries(folder)
    started = Started(basis=basis, inputs=inputs, started=_now(), session=time.time())
    if begun is not None:
        worked = begun.seconds + max(0.0, _last_write(folder) - begun.session)
        started = started.model_copy(update={"started": begun.started, "seconds": worked,
                                             "interruptions": begun.interruptions + 1})
    write_json(folder / STARTED, started.model_dump(mode="json"))
    return started


def _last_write(folder: Path) -> float:
    """When the last attempt was last seen working: a killed process leaves no other trace of its time."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def _make_room(name: str, folder: Path, done: Manifest | None, begun: Started | None, basis: Basis) -> None:
    """Move what an earlier recipe made to `<stage>.old`; there is one such folder, and finished work goes before."""
    why, old = _why_not_current(folder, done, begun, basis), folder.with_name(f"{folder.name}.old")
    if why is None:
        return
    if done is None and read_manifest(old) is not None:
        say(f"{name}: {why}; the half-done work is dropped")
        old = folder.with_name(f".{folder.name}.dropped.tmp")
    else:
        say(f"{name}: {why}; the earlier {'result' if done else 'half-done work'} is kept in {old}")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, old)
    shutil.rmtree(folder.with_name(f".{folder.name}.dropped.tmp"), ignore_errors=True)


def _why_not_current(folder: Path, done: Manifest | None, begun: Started | None, basis: Basis) -> str | None:
    """Why the folder cannot be built upon, None when nothing is in it. Raises `InputError` for a stranger's files."""
    before = done.basis if done else begun.basis if begun else None
    if before is not None:
        changed = before.differences(basis)
        return f"{', '.join(changed[:4])}{' and more' * (len(changed) > 4)} changed" if changed else "files are damaged"
    if (folder / MANIFEST).exists() or (folder / STARTED).exists():
        return "its record cannot be read"
    if next(files_below(folder, skip=set()), None) is None:
        return None
    raise InputError("this folder holds files that no stage wrote", where=folder,
                     fix=f"move them away or {_OTHER_OUT}")


def _reset_peak_memory() -> None:
    """Let the process's peak memory count from now on, where the system can (Linux: proc(5), clear_refs)."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
            stream.write("5")
    except OSError:
        return


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
