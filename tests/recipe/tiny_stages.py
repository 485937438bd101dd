"""Three small stages and a program that walks them, for tests that need a whole run (also in a process of its own)."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

from headwater.artifacts import atomic_write, write_json
from headwater.cli.main import main
from headwater.errors import InputError, Interrupted
from headwater.recipe.stages import Stage
from headwater.settings import Change, InputPath, Settings

ROWS = 40


class SourceSettings(Settings):
    """What the pages are made from."""

    text: InputPath
    """A file of text."""
    repeat: int = 1
    """How often the text stands in the pages."""
    seed: int = 0


def source(settings: SourceSettings, out: Path) -> dict[str, float]:
    (out / "pages").mkdir(exist_ok=True)
    text = settings.text.read_text(encoding="utf-8") * settings.repeat
    with atomic_write(out / "pages" / "one.txt", "w") as stream:
        stream.write(f"{settings.seed} {text}")
    return {"characters": len(text)}


class TrainSettings(Settings):
    """How the model is made from the pages."""

    pages: InputPath = Path("${source}/pages")
    steps: int = ROWS
    pause: Annotated[float, Change.HOW] = 0.0
    """Seconds per step."""
    notes: Annotated[int, Change.MIDWAY] = 0
    """A note is written every so many steps; 0: never."""
    fail: str = ""
    """An error to raise half-way: the name of an exception, or a message."""


def train(settings: TrainSettings, out: Path) -> dict[str, float]:
    """A chain of hashes, checkpointed every four steps; `log` holds a line for every step that was worked."""
    checkpoint = out / "checkpoints" / "state.json"
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "hash": ""}
    pages = (settings.pages / "one.txt").read_text(encoding="utf-8")
    while state["step"] < settings.steps:
        if settings.fail == "refused":
            raise InputError("no such pages")
        if settings.fail and state["step"] == settings.steps // 2:
            _fail(settings.fail)
        with open(out / "checkpoints.log" if not checkpoint.parent.exists() else checkpoint.parent / "log", "a") as log:
            log.write(f"{state['step']}\n")
        time.sleep(settings.pause)
        state = {"step": state["step"] + 1, "hash": hashlib.sha256((state["hash"] + pages).encode()).hexdigest()}
        if settings.notes and state["step"] % settings.notes == 0:
            write_json(out / "notes" / f"{state['step']}.json", state)
        if state["step"] % 4 == 0:
            write_json(checkpoint, state)
    (out / "checkpoints.log").unlink(missing_ok=True)
    with atomic_write(out / "model.safetensors", "w") as stream:
        stream.write(state["hash"])
    return {"loss": 1 / settings.steps}


def _fail(kind: str) -> None:
    if kind == "full":
        raise OSError(28, os.strerror(28))
    if kind == "library full":
        raise RuntimeError("IO error: No space left on device (os error 28)")
    if kind == "interrupted":
        raise Interrupted("a checkpoint was written")
    if kind == "ctrl-c":
        raise KeyboardInterrupt
    raise TypeError(kind)


class JudgeSettings(Settings):
    """Which models are judged."""

    models: dict[str, InputPath] = {"train": Path("${train}")}


def judge(settings: JudgeSettings, out: Path) -> dict[str, float]:
    write_json(out / "results.json", sorted(settings.models))
    return {f"{name}/choice.en.accuracy": 0.5 for name in settings.models} | {"models": len(settings.models)}


STAGES = {name: Stage(name, f"do the {name}", f"{__name__}:{name.title()}Settings", f"{__name__}:{name}")
          for name in ("source", "train", "judge")}

RECIPE = """\
name: tiny
seed: 7
stages:
  source:
    text: input.txt
  train:
    steps: 40
  judge: {}
"""


def write_recipe(folder: Path) -> Path:
    """The recipe and its input, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.txt").write_text("百川 a hundred rivers\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "recipe.yaml"


if __name__ == "__main__":
    from tests.recipe.tiny_stages import STAGES as STAGES_BY_IMPORT

    sys.exit(main(stages=STAGES_BY_IMPORT))
