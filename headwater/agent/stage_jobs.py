"""Stages as jobs of a folder: settings checked, every path inside of it, each run in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from headwater.agent.tool import Definition, Observation, ToolError
from headwater.errors import HeadwaterError
from headwater.settings import REFERENCE, Settings, path_settings

SAID = 4000
"""Characters of a stage's output that are kept, its last."""
GRACE = 20.0
"""Seconds in which a stage that is stopped may save what it has done."""


class Stage(Protocol):
    """What is offered."""

    @property
    def name(self) -> str: ...

    @property
    def purpose(self) -> str: ...

    @property
    def settings(self) -> type[Settings]: ...


class StageTools:
    """Stages as tools. A call writes only below the folder, and reads only what stands in it; one runs at a time.

    Paths are held to the folder as they are when a call comes: whoever else may write there could change them later.
    """

    def __init__(self, folder: Path, stages: Iterable[Stage]) -> None:
        self._folder = folder.resolve()
        self._stages = {stage.name: stage for stage in stages}
        self._turn = asyncio.Lock()
        self._stops: set[asyncio.Task[None]] = set()
        self.definitions = tuple(Definition(stage.name, _told(stage), _schema(stage), effects=True)
                                 for stage in self._stages.values())

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Run a stage to its end. Cancelling stops it; the same call goes on where it was. Raises `ToolError`."""
        stage, given = self._stages[name], arguments.get("settings", {})
        try:
            out = self._inside(arguments["out"], "out")
            self._check(stage.settings.parse(given, where=name), given, out)
        except ToolError:
            raise
        except HeadwaterError as error:
            raise ToolError(str(error)) from None
        overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]
        async with self._turn:
            code, said = await self._run([sys.executable, "-m", "headwater", name, "--out", str(out), *overrides])
        figures = _figures(out) if code == 0 else {}
        text = json.dumps({"out": str(out.relative_to(self._folder)), "exit_code": code, "figures": figures,
                           "said": said}, ensure_ascii=False)
        return Observation(text, failed=code != 0)

    def _inside(self, path: str, what: str) -> Path:
        found = None if "\0" in path else (self._folder / path).resolve()
        if found is None or found == self._folder or not found.is_relative_to(self._folder):
            raise ToolError(f"'{what}' is {path!r}, which is not inside of the folder that is served",
                            fix="give a path below it")
        return found

    def _check(self, settings: Settings, given: Any, out: Path) -> None:
        """Every path, by default or given, and every text that could be one."""
        for found in path_settings(settings):
            # ${NAME} stands for the folder NAME beside `out`.
            path = REFERENCE.sub(lambda match: str(out.parent / match[1]), str(found.path))
            self._inside(path, ".".join(map(str, found.location)))
        for text in _texts(given):
            if "://" in text or text.startswith("~"):
                raise ToolError(f"{text!r} leads out of the folder that is served", fix="give a path below it")
            if Path(text).is_absolute() or ".." in Path(text).parts:
                self._inside(text, "settings")

    async def _run(self, command: list[str]) -> tuple[int, str]:
        """A process's exit code and the end of what it said. Cancelled, it ends with all that it started."""
        process = await asyncio.create_subprocess_exec(*command, cwd=self._folder, stdin=asyncio.subprocess.DEVNULL,
                                                       stdout=asyncio.subprocess.PIPE,
                                                       stderr=asyncio.subprocess.STDOUT, start_new_session=True)
        assert process.stdout is not None
        said = b""
        try:
            while part := await process.stdout.read(65536):
                said = (said + part)[-4 * SAID:]
            return await process.wait(), said.decode("utf-8", "replace")[-SAID:]
        finally:
            if process.returncode is None:
                # Kept, so that `close` can wait for it where this task may not wait any more.
                self._stops.add(stop := asyncio.create_task(_stop(process)))
                await asyncio.shield(stop)

    async def close(self) -> None:
        """Wait for stages that are being stopped."""
        if self._stops:
            await asyncio.wait(self._stops)


def _told(stage: Stage) -> str:
    return (f"{stage.purpose[0].upper()}{stage.purpose[1:]}. Runs to its end, which may take long; called again with "
            "the same settings it goes on, or says that nothing is left to do. Paths are below the served folder, and "
            "${NAME} stands for the folder NAME beside 'out'.")


def _schema(stage: Stage) -> dict[str, Any]:
    settings = stage.settings.model_json_schema()
    definitions = settings.pop("$defs", {})
    out = {"type": "string", "description": "The stage's own folder, below the served one."}
    return {"type": "object", "properties": {"out": out, "settings": settings}, "additionalProperties": False,
            "required": ["out", *(["settings"] if settings.get("required") else [])],
            **({"$defs": definitions} if definitions else {})}


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _figures(out: Path) -> dict[str, Any]:
    """What the stage wrote of itself."""
    try:
        figures = json.loads((out / "manifest.json").read_text("utf-8"))["figures"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return figures if isinstance(figures, dict) else {}


async def _stop(process: asyncio.subprocess.Process) -> None:
    _signal(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), GRACE)
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):  # it may have ended just now
        os.killpg(process.pid, number)
