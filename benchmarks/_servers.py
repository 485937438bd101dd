"""Servers of OpenAI's completions as processes of their own, and clients that stream from them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from _processes import descendants, memory

READY = 240
"""Seconds that a server may take to come up."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Server:
    """Runs while it is entered; what it says is kept in a file."""

    def __init__(self, command: Sequence[str], log: Path, *, port: int, model: str,
                 environment: Mapping[str, str] | None = None) -> None:
        self.url, self.model, self.log, self.name = f"http://127.0.0.1:{port}", model, log, log.stem
        self._command, self._environment = list(command), {**os.environ, **(environment or {})}

    def __enter__(self) -> Self:
        with self.log.open("wb") as said:
            self._process = subprocess.Popen(self._command, stdout=said, stderr=subprocess.STDOUT,
                                             env=self._environment)
        until = time.monotonic() + READY
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self._end()
                said = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self._command[0]} did not come up:\n{said}")
            time.sleep(0.5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._end()

    @property
    def bytes(self) -> int:
        """Of memory, all its processes together."""
        return sum(map(memory, descendants(self._process.pid)))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Streamed:
    """One answer as its client saw it, in seconds from the request on."""

    first: float
    """To the first piece of text."""
    whole: float
    pieces: int
    ended: str | None


async def stream(session: aiohttp.ClientSession, url: str, body: Mapping[str, object]) -> Streamed:
    """Read a streamed completion to its end. Raises `RuntimeError` for another answer."""
    began = time.perf_counter()
    first, pieces, done = 0.0, 0, False
    ended: str | None = None
    async with session.post(f"{url}/v1/completions", json={**body, "stream": True}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {(await answer.text())[:500]}")
        async for line in answer.content:
            if not line.startswith(b"data:"):
                continue
            if line[5:].strip() == b"[DONE]":
                done = True
                continue
            event = json.loads(line[5:])
            if "error" in event:
                raise RuntimeError(str(event["error"]))
            for choice in event.get("choices", ()):
                ended = choice.get("finish_reason") or ended
                if choice.get("text"):
                    first, pieces = first or time.perf_counter() - began, pieces + 1
    if not done:
        raise RuntimeError("the stream broke off")
    return Streamed(first, time.perf_counter() - began, pieces, ended)


async def together(server: Server, bodies: Sequence[Mapping[str, object]]) -> tuple[float, list[Streamed]]:
    """All of them at once; the seconds until the last has ended."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
        began = time.perf_counter()
        found = await asyncio.gather(*(stream(session, server.url, {"model": server.model, **body}) for body in bodies))
        return time.perf_counter() - began, list(found)
