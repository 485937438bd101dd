"""A page of the web read in a process of its own, which ends when it takes too long.

Nobody knows every page for which a parser takes minutes, or breaks down, and no thread can be stopped: everything else
in this process would wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

from headwater.agent.browser.pages import Link, Page
from headwater.agent.browser.web.fetching import Fetched
from headwater.agent.browser.web.reading import read_page
from headwater.agent.browser.web.urls import read_url
from headwater.agent.tool import ToolError

SECONDS = 10
"""Of a processor, for one page; twice as many by the clock. A page of ordinary making takes a fraction of one."""
_START = "import sys; sys.path.insert(0, {root!r}); from headwater.agent.browser.web.apart import main; main()"
_SLOW = "the page takes longer than {seconds} seconds to read"


async def read_apart(fetched: Fetched, seconds: int = SECONDS) -> Page:
    """As `read_page`. seconds: see `SECONDS`. Raises `ToolError` for what is no text, and for what takes too long."""
    start = _START.format(root=str(Path(__file__).parents[4]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", start, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    head = {"url": str(fetched.url), "media_type": fetched.media_type, "charset": fetched.charset,
            "seconds": seconds}
    try:
        async with asyncio.timeout(2 * seconds):
            said, _ = await process.communicate(json.dumps(head).encode() + b"\n" + fetched.content)
    except TimeoutError:
        raise ToolError(_SLOW.format(seconds=seconds), where=fetched.url, fix="try another page") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:  # beyond its seconds, or the parser broke down
        what = _SLOW.format(seconds=seconds) if (process.returncode or 0) < 0 else "the page cannot be read"
        raise ToolError(what, where=fetched.url, fix="try another page")
    return _page(json.loads(said), fetched)


def _page(found: dict[str, Any], fetched: Fetched) -> Page:
    if "refused" in found:
        raise ToolError(found["refused"], where=fetched.url, fix=found["fix"])
    return Page(found["url"], found["title"], found["text"], tuple(Link(*link) for link in found["links"]))


def main() -> None:
    """One page from standard input, what is read of it to standard output."""
    head = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_CPU, (head["seconds"], head["seconds"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        page = read_page(Fetched(read_url(head["url"]), sys.stdin.buffer.read(), head["media_type"], head["charset"]))
    except ToolError as error:
        found: dict[str, Any] = {"refused": error.what, "fix": error.fix}
    else:
        links = [astuple(link) for link in page.links]
        found = {"url": page.url, "title": page.title, "text": page.text, "links": links}
    sys.stdout.write(json.dumps(found))
