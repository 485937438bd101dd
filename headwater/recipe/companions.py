"""The other processes of a run that `torchrun` started: they wait for the first one, and work with it where a stage can
be shared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.errors import UserError
from headwater.recipe.interruption import lost_neighbour
from headwater.recipe.stages import Stage, Stages, find
from headwater.settings import Settings
from headwater.train import processes

PATIENCE = 10.0
"""Seconds for which a process that met a mistake leaves it to the first to end all."""


@contextmanager
def leading() -> Iterator[None]:
    """While the first process works; the others are let go when it is done. Nothing for one process alone."""
    if processes.ranks() == 1:
        yield
        return
    processes.join()
    yield
    processes.agree(None)
    processes.leave()


def call(stage: Stage, settings: Settings, folder: Path) -> None:
    """Have the others run the stage too, if it can be shared."""
    if stage.shared:
        processes.agree({"stage": stage.name, "settings": settings.model_dump(mode="json"),
                         "folder": str(folder.absolute())})


def follow(stages: Stages) -> int:
    """What a process that is not the first does: run what the first calls for, until it is done.

    A mistake of the user's is the first one's to tell; every process meets it. So is the first one's end.
    """
    try:
        while (called := processes.agree(None)) is not None:
            stage = find(stages, called["stage"])
            assert stage is not None
            stage.run(stage.settings.parse(called["settings"], where=stage.name), Path(called["folder"]))
    except UserError as error:
        time.sleep(PATIENCE)
        return error.exit_code
    except RuntimeError as error:
        if not lost_neighbour(error):
            raise
        return 1
    processes.leave()
    return 0
