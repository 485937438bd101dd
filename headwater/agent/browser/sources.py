"""Where a browser searches and opens pages: protocols, and the index of the user's own corpus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from headwater.agent.browser.index import Index, Result
from headwater.agent.browser.pages import Page
from headwater.agent.tool import ToolError
from headwater.errors import InputError

T = TypeVar("T")


class SearchProvider(Protocol):
    """Finds pages."""

    @property
    def dated(self) -> bool:
        """Whether it can find pages of the last days alone."""

    async def search(self, query: str, count: int, recency_days: int | None = None) -> list[Result]:
        """The best first. Raises `ToolError`."""


class PageSource(Protocol):
    """Opens pages."""

    @property
    def remote(self) -> bool:
        """Whether others learn which address is opened."""

    async def open(self, url: str) -> Page | None:
        """The page; None where such an address is none of its pages. Raises `ToolError` for a page that it does not
        give."""


class LocalPages:
    """Searches and opens the pages of an index, both in a thread beside the event loop."""

    dated = remote = False

    def __init__(self, index: Index) -> None:
        self.index = index

    async def search(self, query: str, count: int, recency_days: int | None = None) -> list[Result]:
        return await _beside(lambda: self.index.search(query, count))

    async def open(self, url: str) -> Page | None:
        return await _beside(lambda: self.index.page(url) or self.index.page(url.partition("#")[0]))


async def _beside(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except InputError as error:
        raise ToolError(error.what, where=error.where) from None
