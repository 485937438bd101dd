"""The tool `python`: a session that a model writes cells for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from headwater.agent.interpreter.packages import found_packages
from headwater.agent.interpreter.session import Bounds, CellResult, LostError, Session
from headwater.agent.tool import Definition, Observation, ToolError
from headwater.errors import InputError
from headwater.hardware import cores
from headwater.progress import say
from headwater.sandbox.isolation import isolation
from headwater.sandbox.protocol import Walls
from headwater.settings import Settings

NAME = "python"
LONGEST_CODE = 1 << 18
"""Letters of a cell."""

_ALSO_READABLE = "/usr/share/fonts", "/usr/share/zoneinfo"
_MOST_THREADS = 4
"""Of a numeric library's pool: each reserves memory of its own."""


class InterpreterSettings(Settings):
    """What the code interpreter may use."""

    seconds: float = Field(default=30.0, gt=0)
    """For one cell, by the clock; then it is interrupted."""
    cpu_seconds: int = Field(default=600, ge=1)
    """Processor time of one session."""
    memory_mib: int = Field(default=2048, ge=256)
    """Address space."""
    disk_mib: int = Field(default=64, ge=1)
    """Of its folder, which is memory too."""
    entries: int = Field(default=2000, ge=100)
    """Files and folders there."""
    output_kib: int = Field(default=16, ge=1)
    """Kept of what a cell prints: the beginning and the end."""
    files_open: int = Field(default=128, ge=32)
    threads: int = Field(default=32, ge=1)
    images: int = Field(default=6, ge=0)
    """Pictures that a cell may give back."""
    image_kib: int = Field(default=2048, ge=1)
    """Of one picture."""
    packages: tuple[str, ...] = ("numpy", "pandas", "matplotlib", "scipy", "sympy")
    """Installed packages that cells may import, with what these need. Those that are not installed are left out."""
    files: tuple[Path, ...] = ()
    """Put into the folder before the first cell: copies."""
    force: bool = False
    """Run cells even where nothing can wall them in: then as an ordinary process of yours, which reads your files and
    reaches your network."""

    @field_validator("files")
    @classmethod
    def _names_differ(cls, files: tuple[Path, ...]) -> tuple[Path, ...]:
        names = [file.name for file in files]
        if twice := [name for number, name in enumerate(names) if name in names[:number]]:
            raise ValueError(f"two files are called {twice[0]!r}, and both would lie in one folder")
        return files


class Interpreter:
    """A `Tool`: one session, started with the first cell; a lost one is replaced at the next cell.

    Raises `InputError` where nothing can wall cells in and `force` is not set, and where a file cannot be read or is
    too large.
    """

    def __init__(self, settings: InterpreterSettings) -> None:
        self._settings = settings
        self.isolation, self.missing = _walls_found(settings.force)
        self._files = _read_files(settings)
        self._packages, readable, import_from = found_packages(settings.packages)
        self._walls = Walls(self.isolation, "", settings.cpu_seconds, settings.memory_mib << 20,
                            settings.disk_mib << 20, settings.files_open, settings.threads, settings.entries,
                            (*readable, *_ALSO_READABLE), import_from)
        self._session: Session | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def definitions(self) -> tuple[Definition, ...]:
        files = f" These files lie in its folder: {', '.join(self._files)}." if self._files else ""
        packages = f" Besides the standard library it has {', '.join(self._packages)}." if self._packages else ""
        text = ("Runs Python code in a session whose variables and files stay from call to call, and gives back what "
                "is printed, the value of the last expression, errors and plots. It has no network and cannot start "
                f"programs; a call may take {self._settings.seconds:g} seconds.{packages}{files}")
        code = {"type": "string", "description": "the Python code"}
        return (Definition(NAME, text, {"type": "object", "properties": {"code": code}, "required": ["code"],
                                        "additionalProperties": False}, free_text=True),)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Run a cell; calls at the same time wait for each other. Raises `ToolError` where it is none, or where no
        session starts."""
        code = arguments.get("code")
        if name != NAME or not isinstance(code, str):
            raise ToolError(f"{NAME} takes its program as the argument `code`")
        if len(code) > LONGEST_CODE:
            raise ToolError(f"a program of {len(code):,} letters; {LONGEST_CODE:,} are allowed",
                            fix="write less at once: variables stay from call to call")
        async with self._one_at_a_time:
            session = await self._running()
            return _observation(await session.run(code, self._settings.seconds), self._settings)

    async def close(self) -> None:
        if self._session is not None:
            self._session.end()

    async def _running(self) -> Session:
        if self._session is None or not self._session.alive:
            if self._session is not None:
                self._session.end()
            bounds = Bounds(self._settings.output_kib << 10, self._settings.images, self._settings.image_kib << 10)
            session = Session(self._walls, bounds, _environment())
            self._session = session
            try:
                await session.start(self._files)
            except LostError as error:
                raise ToolError(f"the Python session could not be started: {error}") from None
        return self._session


def _walls_found(force: bool) -> tuple[Literal["full", "reduced", "none"], tuple[str, ...]]:
    """The level, and what it leaves open."""
    try:
        found = isolation()
    except InputError as error:
        if not force:
            raise InputError(error.what, fix=f"{error.fix}; or leave the code interpreter out; `force` runs cells "
                                             "without any walls, with all that you may do yourself") from None
        say("the code interpreter runs without isolation: its programs can read your files and use your network")
        return "none", ("files, network and processes are those of the user who started it",)
    return found.level, found.missing


def _read_files(settings: InterpreterSettings) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in settings.files:
        try:
            found[path.name] = path.read_bytes()
        except OSError as error:
            raise InputError(f"this file for the code interpreter cannot be read: {error.strerror}",
                             where=path) from None
    if (total := sum(map(len, found.values()))) > settings.disk_mib << 20:
        raise InputError(f"the code interpreter's files have {total / 2**20:.1f} MiB, its folder {settings.disk_mib}",
                         fix="give fewer files, or raise disk_mib")
    return found


def _environment() -> dict[str, str]:
    threads = str(min(cores(), _MOST_THREADS))
    # glibc would reserve 64 MiB of address space for each thread.
    return {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MALLOC_ARENA_MAX": "2"}


def _observation(result: CellResult, settings: InterpreterSettings) -> Observation:
    notes = []
    if result.ending == "interrupted":
        notes.append(f"stopped after {settings.seconds:g} s; variables and files are kept")
    elif result.ending == "lost":
        notes.append(f"the session was lost: {result.why}; the next call starts a new one, without earlier variables "
                     "and files")
    if result.images:
        notes.append(f"{len(result.images)} picture{'s' * (len(result.images) > 1)} shown to the user")
    if result.left_out:
        notes.append(f"{result.left_out} left out: at most {settings.images} pictures (PNG, JPEG, GIF, WebP) of "
                     f"{settings.image_kib} KiB each are shown")
    text = "\n".join([*([result.output.rstrip("\n")] if result.output else []), *(f"[{note}]" for note in notes)])
    return Observation(text or "[no output]", result.images, failed=result.ending != "done")
