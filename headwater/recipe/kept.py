"""Earlier results of a stage, kept beside its folder as `STAGE.old`, `STAGE.old-2` and so on.

Whoever changes a setting and changes it back finds his result again, finished or half-done; nothing that took longer
than a minute is deleted.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from pathlib import Path

from headwater.errors import InputError
from headwater.progress import say
from headwater.recipe.manifest import (
    MANIFEST,
    STARTED,
    Basis,
    files_below,
    last_write,
    read_manifest,
    read_started,
)

WORTH_SECONDS = 60.0
"""Half-done work of less than this is dropped, not kept."""


def is_current(name: str, folder: Path, basis: Basis) -> bool:
    """Whether the folder holds that stage's finished result of this basis, undamaged; damage is said."""
    done = read_manifest(folder)
    if done is None or done.basis != basis:
        return False
    damaged = done.damaged(folder)
    if damaged:
        say(f"{name}: {damaged[0]}{' and others' * (len(damaged) > 1)} missing or changed since it was written")
    return not damaged


def goes_on(folder: Path, basis: Basis) -> bool:
    """Whether the folder holds half-done work that leads to this basis."""
    begun = read_started(folder)
    return read_manifest(folder) is None and begun is not None and begun.basis.begins(basis)


def fitting(name: str, folder: Path, basis: Basis) -> Path | None:
    """What is kept and asked for now: a finished result before a half-done one."""
    kept = _kept(folder)
    return next((old for old in kept if is_current(name, old, basis)), None) or next(
        (old for old in kept if goes_on(old, basis)), None)


def take_back(name: str, old: Path, folder: Path) -> None:
    """Put it into the folder's place, which `make_room` has made."""
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(old, folder)
    what = "result fits" if read_manifest(folder) else "half-done work goes on"
    say(f"{name}: an earlier {what} again, taken back from {old}")


def make_room(name: str, folder: Path, basis: Basis) -> Path | None:
    """Move away what the folder holds, saying why. Returns where it is kept, None where nothing is.

    Raises `InputError` where it holds a stranger's files.
    """
    why = _why_not_current(folder, basis)
    if why is None:
        return None
    finished, begun = read_manifest(folder) is not None, read_started(folder)
    worked = begun.seconds + max(0.0, last_write(folder) - begun.session) if begun else WORTH_SECONDS
    if not finished and worked < WORTH_SECONDS:
        say(f"{name}: {why}; the half-done work of {worked:.0f} s is dropped")
        _drop(folder)
        return None
    old = _free(folder)
    say(f"{name}: {why}; the earlier {'result' if finished else 'half-done work'} is kept in {old}")
    os.replace(folder, old)
    return old


def put_back(name: str, folder: Path, old: Path) -> None:
    """Undo `make_room`, where the work that needed the room was refused."""
    _drop(folder)
    os.replace(old, folder)
    say(f"{name}: refused, so the earlier result is put back")


def _drop(folder: Path) -> None:
    """At once, also where deleting takes long and is stopped."""
    dropped = folder.with_name(f".{folder.name}.dropped.tmp")
    shutil.rmtree(dropped, ignore_errors=True)
    os.replace(folder, dropped)
    shutil.rmtree(dropped, ignore_errors=True)


def _kept(folder: Path) -> list[Path]:
    form = re.compile(re.escape(folder.name) + r"\.old(-\d+)?")
    return sorted(path for path in folder.parent.glob("*/") if form.fullmatch(path.name))


def _free(folder: Path) -> Path:
    """The first name of a kept result that is not in use."""
    old = folder.with_name(f"{folder.name}.old")
    numbered = (old.with_name(f"{old.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([old], numbered) if not path.exists())


def _why_not_current(folder: Path, basis: Basis) -> str | None:
    """Why the folder cannot be built upon, None when nothing is in it. Raises `InputError` for a stranger's files."""
    record = read_manifest(folder) or read_started(folder)
    if record is not None:
        changed = record.basis.differences(basis)
        return f"{', '.join(changed[:4])}{' and more' * (len(changed) > 4)} changed" if changed else "files are damaged"
    if (folder / MANIFEST).exists() or (folder / STARTED).exists():
        return "its record cannot be read"
    if not folder.exists() or next(files_below(folder, skip=set()), None) is None:
        return None
    raise InputError("this folder holds files that no stage wrote", where=folder,
                     fix="move them away or give another --out")
