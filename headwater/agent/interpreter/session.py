"""A Python process behind walls whose names live from cell to cell, driven from an event loop."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from headwater.agent.interpreter.output import Output
from headwater.agent.interpreter.own_folder import OwnFolder
from headwater.agent.interpreter.replies import NonsenseError, Reply, longest_reply, parse_reply
from headwater.agent.interpreter.waiting import Pipe, ready
from headwater.agent.tool import Image
from headwater.sandbox.process import START_SECONDS, WalledProcess
from headwater.sandbox.protocol import READY, UNABLE, Walls, framed

Ending = Literal["done", "raised", "interrupted", "lost"]
"""Of a cell; interrupted: at the end of its time, and names are kept; lost: the session has ended with it."""

INTERRUPTS, GRACE_SECONDS = 3, 1.0
"""How often a cell is told to stop, and how long it has each time, before the session is ended."""

_LOOK_SECONDS = 0.25
"""Between two looks at a folder that nothing else bounds as a whole."""
_PART, _LAST_PARTS = 65536, 32
"""Bytes of one reading, and readings of what a pipe still holds when a cell has ended."""


class LostError(Exception):
    """The session has ended, and why."""


@dataclass(frozen=True)
class Bounds:
    """What a session may say of one cell; `output` and `image` in bytes."""

    output: int
    images: int
    image: int


@dataclass(frozen=True)
class CellResult:
    """What became of a cell."""

    ending: Ending
    output: str
    images: tuple[Image, ...] = ()
    left_out: int = 0
    """Pictures that were too large or too many."""
    why: str = ""
    """How the session was lost."""


class Session:
    """One cell at a time, from the thread that made it. Between cells it stands still, and threads that a cell left
    behind use no processor. Once lost or ended it is of no more use."""

    def __init__(self, walls: Walls, bounds: Bounds, environment: Mapping[str, str]) -> None:
        """`walls` without a folder: where one is needed it is made, and goes with the session."""
        self._folder = OwnFolder(walls) if walls.level != "full" else None
        if self._folder is not None:
            walls = replace(walls, folder=self._folder.path)
        self._walls, self._bounds = walls, bounds
        self._process = WalledProcess("headwater.agent.interpreter.worker", walls, environment, unbuffered=True)
        for pipe in (self._process.source, self._process.verdict, self._process.output):
            os.set_blocking(pipe.fileno(), False)
        self._output, self._said, self._output_ends = Output(bounds.output), bytearray(), False
        self._cell, self._looked = 0, 0.0
        self._busy = self._answered = False

    @property
    def alive(self) -> bool:
        return self._process.end.alive and self._process.process.poll() is None

    async def start(self, files: Mapping[str, bytes]) -> None:
        """Wait for the walls, and put files into the folder. Raises `LostError` where either does not come about."""
        self._busy = True
        deadline = time.monotonic() + START_SECONDS
        data = {name: base64.b64encode(content).decode() for name, content in files.items()}
        try:
            await self._walls_stand(deadline)
            await self._ask({"files": data, "images": self._bounds.images, "image_bytes": self._bounds.image}, deadline)
            await self._reply(deadline)
        except (TimeoutError, NonsenseError):
            raise LostError(f"no answer in {START_SECONDS:g} s") from None
        except LostError as error:
            raise LostError(f"{error} {self._output.text()}".strip()) from None
        finally:
            self._release()

    async def run(self, code: str, seconds: float) -> CellResult:
        """Run a cell. If the task is cancelled the cell is stopped as it is at the end of its time."""
        self._output, self._busy, self._answered = Output(self._bounds.output), True, False
        self._cell += 1
        self._process.go_on()
        try:
            deadline = time.monotonic() + seconds
            try:
                await self._ask({"cell": self._cell, "code": code}, deadline)
                reply = await self._reply(deadline)
                ending: Ending = "raised" if reply.raised else "done"
            except TimeoutError:
                reply, ending = await self._stopped(), "interrupted"
            except asyncio.CancelledError:
                with contextlib.suppress(LostError, NonsenseError):
                    await self._stopped()
                raise
            return CellResult(ending, self._output.text(), reply.images, reply.left_out)
        except (LostError, NonsenseError) as error:
            return CellResult("lost", self._output.text(), why=str(error))
        finally:
            self._release()

    def end(self) -> None:
        """Kill it with all that it started; a cell that runs is lost. May be called twice."""
        if self._process.end.alive:
            self._process.kill()
            if not self._busy:  # else whoever waits for the cell sees the pipes end, and comes here
                self._process.end()
                if self._folder is not None:
                    self._folder.close()

    def _release(self) -> None:
        """What has not answered is in no state to be asked again."""
        self._busy = False
        if self._answered and self.alive:
            self._process.stand_still()
        else:
            self.end()

    async def _walls_stand(self, deadline: float) -> None:
        if (line := await self._line(deadline, len(UNABLE))) == UNABLE:
            with contextlib.suppress(LostError, NonsenseError):
                await self._line(deadline, 1 << 16)
            raise LostError(self._said.decode("utf-8", "replace"))
        if line != READY:
            raise NonsenseError("neither ready nor unable")

    async def _ask(self, message: Mapping[str, Any], deadline: float) -> None:
        """Raises `TimeoutError` where nobody reads."""
        left = memoryview(framed(json.dumps(message).encode()))
        while left:
            await ready([], [self._process.source], deadline)
            try:
                left = left[self._process.source.write(left) or 0:]
            except BrokenPipeError:
                raise LostError(await self._how_it_ended()) from None

    async def _reply(self, deadline: float) -> Reply:
        images, image = self._bounds.images, self._bounds.image
        line = await self._line(deadline, longest_reply(images, image))
        for _ in range(_LAST_PARTS):
            if not self._read_output():
                break
        reply = parse_reply(line, self._cell, images, image)
        self._answered = True
        return reply

    async def _stopped(self) -> Reply:
        """Told to stop, once more if it takes no notice. Raises `LostError` where that does not help."""
        for _ in range(INTERRUPTS):
            self._process.interrupt()
            with contextlib.suppress(TimeoutError):
                return await self._reply(time.monotonic() + GRACE_SECONDS)
        raise LostError("it could not be stopped")

    async def _line(self, deadline: float, most: int) -> bytes:
        """The next line that the process says, read together with its output. Raises `TimeoutError`, `LostError` and
        `NonsenseError`."""
        searched = 0
        while (length := self._said.find(b"\n", searched) + 1) == 0:
            searched = len(self._said)
            if searched > most:
                raise NonsenseError("it answered at too great a length")
            await self._wait(deadline)
            self._read_output()
            if (part := self._process.verdict.read(_PART)) == b"":
                raise LostError(await self._how_it_ended())
            self._said += part or b""
        line = bytes(self._said[:length])
        del self._said[:length]
        return line

    async def _wait(self, deadline: float) -> None:
        """Until a pipe can be read, or it is time to look at the folder."""
        pipes: list[Pipe] = [self._process.verdict, *([] if self._output_ends else [self._process.output])]
        if self._folder is None:
            return await ready(pipes, [], deadline)
        if (now := time.monotonic()) >= self._looked + _LOOK_SECONDS:
            if excess := self._folder.excess():
                raise LostError(excess)
            self._looked = now
        try:
            return await ready(pipes, [], min(deadline, self._looked + _LOOK_SECONDS))
        except TimeoutError:
            if time.monotonic() >= deadline:
                raise

    def _read_output(self) -> bool:
        """Whether there was any."""
        if self._output_ends:
            return False
        try:
            part = os.read(self._process.output.fileno(), _PART)
        except BlockingIOError:
            return False
        self._output_ends = not part
        self._output.add(part)
        return bool(part)

    async def _how_it_ended(self) -> str:
        """Its pipe has ended; most often so has the process, or is about to."""
        process = self._process.process
        for _ in range(100):
            if process.poll() is not None:
                break
            await asyncio.sleep(0.01)
        for _ in range(_LAST_PARTS):
            if not self._read_output():
                break
        code = process.returncode
        if code is None:
            return "it closed its end of the pipe"
        number = code - 128 if code > 128 else -code
        if number == signal.SIGXCPU:
            return f"it has used its {self._walls.cpu:,} s of processor time"
        if number in set(signal.Signals):
            return f"it was ended by {signal.Signals(number).name}"
        return f"it ended itself with status {code}"
