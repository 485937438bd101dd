"""A server under too many clients: what they get, how long they wait, and what is left when they are gone.

    python benchmarks/serve_storm.py [--full] [--clients N] [--seconds S]

Two hundred clients ask again and again until the time is over. A third leaves in the middle of a stream, a tenth sends
what nobody should send, the others read their answers whole, streamed or not, some of them held to a schema. Every
request ends as one of: answered, refused with OpenAI's error body (429 where the queue is full), left by its client. A
run passes where nothing else happens and all slots are free behind it. The server's memory is read behind each quarter:
in the later ones nothing new happens, so that what still grows there is a leak.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from _harness import Case, arguments, report
from _servers import Server, free_port
from serve import make_model

GARBAGE: tuple[bytes, ...] = (
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "m"}', b'{"model": "m", "prompt": 7}', b"[" * 5000,
    b'{"model": "m", "prompt": "a", "max_tokens": -1}', b'{"model": "m", "prompt": "a", "guided_regex": "(("}',
    b'{"model": "m", "prompt": "a", "temperature": 1e999}', b'{"model": "other", "prompt": "a"}',
    b'{"model": "m", "prompt": "' + b"a" * 3_000_000 + b'"}', b'{"model": "m", "prompt": "\\ud800"}')
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "length": {"type": "integer"}},
          "required": ["name", "length"], "additionalProperties": False}
QUARTERS = 4


@dataclass
class Tally:
    """What came of all requests."""

    ends: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    """What should not have happened."""
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


class Client:
    """One of many, with a habit."""

    def __init__(self, url: str, tally: Tally, draw: random.Random) -> None:
        self._url, self._tally, self._draw = f"{url}/v1/completions", tally, draw
        self._act = draw.choices((self._leave, self._send_garbage, self._read, self._read_whole), (10, 3, 12, 5))[0]

    async def run(self, session: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            began = time.perf_counter()
            try:
                await self._act(session, began)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._tally.ends["broken"] += 1
                self._tally.wrong.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._draw.uniform(0, 0.2))

    def _body(self, **more: Any) -> dict[str, Any]:
        text = " ".join(self._draw.choices(("bade", "fogu", "lanmi", "rotu"), k=self._draw.randint(1, 60)))
        bound = {"guided_json": SCHEMA} if self._draw.random() < 0.2 else {}
        return {"model": "m", "prompt": text, "max_tokens": self._draw.randint(40, 120), "seed": 1, **bound, **more}

    async def _leave(self, session: aiohttp.ClientSession, began: float) -> None:
        async with session.post(self._url, json=self._body(stream=True)) as answer:
            if await self._refused(answer, began):
                return
            left = self._draw.randint(0, 12)
            async for line in answer.content:
                left -= line.startswith(b"data:")
                if left <= 0:
                    break
            answer.close()
        self._tally.ends["left by its client"] += 1

    async def _send_garbage(self, session: aiohttp.ClientSession, began: float) -> None:
        async with session.post(self._url, data=self._draw.choice(GARBAGE)) as answer:
            if not await self._refused(answer, began):
                self._tally.wrong.append("garbage was answered")

    async def _read(self, session: aiohttp.ClientSession, began: float) -> None:
        async with session.post(self._url, json=self._body(stream=True)) as answer:
            if await self._refused(answer, began):
                return
            first, last = 0.0, b""
            async for line in answer.content:
                if line.startswith(b"data:"):
                    first, last = first or time.perf_counter() - began, line
                    if b'"error"' in line:
                        self._tally.wrong.append(line.decode()[:200])
            if last.strip() != b"data: [DONE]":
                self._tally.wrong.append("a stream broke off")
            self._tally.first.append(first)
        self._answered(began)

    async def _read_whole(self, session: aiohttp.ClientSession, began: float) -> None:
        body = self._body()
        async with session.post(self._url, json=body) as answer:
            if await self._refused(answer, began):
                return
            text = (await answer.json())["choices"][0]["text"]
        if "guided_json" in body and set(json.loads(text)) != {"name", "length"}:
            self._tally.wrong.append(f"not as its schema: {text}")
        self._answered(began)

    async def _refused(self, answer: aiohttp.ClientResponse, began: float) -> bool:
        if answer.status == 200:
            return False
        said = await answer.json()
        self._tally.refused.append(time.perf_counter() - began)
        self._tally.ends[f"refused with {answer.status}"] += 1
        if answer.status >= 500 or not said["error"]["message"]:
            self._tally.wrong.append(f"{answer.status}: {said}")
        return True

    def _answered(self, began: float) -> None:
        self._tally.ends["answered"] += 1
        self._tally.whole.append(time.perf_counter() - began)


async def storm(url: str, clients: int, seconds: float, seed: int, tally: Tally) -> None:
    connector, bound = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(120)
    async with aiohttp.ClientSession(connector=connector, timeout=bound) as session:
        until = time.monotonic() + seconds
        await asyncio.gather(*(Client(url, tally, random.Random(f"{seed}/{number}")).run(session, until)
                               for number in range(clients)))


async def left_over(url: str) -> dict[str, Any]:
    """What the server says it is doing, a moment after the last client went."""
    await asyncio.sleep(2)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as answer:
        found: dict[str, Any] = await answer.json()
    return found


def cases(tally: Tally, case: str) -> list[Case]:
    rows = [Case(case, f"requests {end}", count, "") for end, count in sorted(tally.ends.items())]
    for name, found in (("to the first event", tally.first), ("to the end", tally.whole),
                        ("to a refusal", tally.refused)):
        if len(found) > 1:
            cuts = statistics.quantiles(found, n=100, method="inclusive")
            rows += [Case(case, f"ms {name}, p{at}", 1e3 * cuts[at - 1], "") for at in (50, 99)]
    return rows


def main() -> None:
    options = arguments(__doc__, ("--clients", {"type": int, "default": 200, "help": "at once (200)"}),
                        ("--seconds", {"type": float, "default": None, "help": "in all (30; 120 with --full)"}))
    seconds = options.seconds or (120 if options.full else 30)
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder)
        command = [sys.executable, "-m", "headwater", "serve", str(folder / "model"), f"port={port}", "name=m",
                   "max_batch=16", "max_queue=64", "prompt_cache=16"]
        with Server(command, folder / "log", port=port, model="m", environment={"OMP_NUM_THREADS": "1"}) as server:
            before = server.bytes
            whole, sizes = Tally(), []
            for quarter in range(QUARTERS):
                asyncio.run(storm(server.url, options.clients, seconds / QUARTERS, quarter, whole))
                after = asyncio.run(left_over(server.url))
                sizes.append(server.bytes)
    wrong, case = whole.wrong, f"{options.clients} clients, {seconds:g} s"
    rows = [*cases(whole, case), Case(case, "what should not happen", len(wrong), ""),
            Case(case, "slots in use, and waiting, behind it", after["active"] + after["waiting"], ""),
            Case(case, "MB before", before / 1e6, ""),
            *(Case(case, f"MB behind quarter {number}", size / 1e6, "") for number, size in enumerate(sizes, 1))]
    for one in wrong[:20]:
        print(one, file=sys.stderr)
    report("serve_storm", rows, {}, ("torch", "uvicorn", "starlette"))
    sys.exit(bool(wrong or after["active"] or after["waiting"]))


if __name__ == "__main__":
    main()
