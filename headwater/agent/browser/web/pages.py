"""The web as a source of pages."""

from __future__ import annotations

import asyncio

from headwater.agent.browser.pages import Page
from headwater.agent.browser.web.fetching import Fetcher
from headwater.agent.browser.web.reading import read_page


class WebPages:
    """Opens any public page of text."""

    remote = True

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher

    async def open(self, url: str) -> Page | None:
        """Raises `ToolError` for a page that is refused, absent or no text."""
        fetched = await self.fetcher.fetch(url)
        return await asyncio.to_thread(read_page, fetched)
