"""The web as a source of pages."""

from __future__ import annotations

import asyncio

from headwater.agent.browser.pages import Page
from headwater.agent.browser.web.apart import read_apart
from headwater.agent.browser.web.fetching import Fetcher

AT_ONCE = 2
"""Pages of one conversation that are read at once."""


class WebPages:
    """Opens any public page of text."""

    remote = True

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def open(self, url: str) -> Page | None:
        """Raises `ToolError` for a page that is refused, absent, no text or too slow to be read."""
        fetched = await self.fetcher.fetch(url)
        async with self._turn:
            return await read_apart(fetched)
