"""What a browser remembers within one conversation: numbers of pages, and the pages read last."""

from __future__ import annotations

from collections import OrderedDict

from headwater.agent.browser.pages import Page
from headwater.agent.tool import ToolError

NUMBERS = 2000
"""Addresses that keep their numbers; the oldest are forgotten."""
CHARACTERS = 4_000_000
"""Of the pages kept; the last one is kept whatever its length."""


class Memory:
    """Addresses by number, as results and links show them, and open pages."""

    def __init__(self) -> None:
        self._urls: OrderedDict[int, str] = OrderedDict()
        self._numbers: dict[str, int] = {}
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._next = 1

    def number(self, url: str) -> int:
        """Of the address, a new one where it has none. A number never means another address later."""
        if url not in self._numbers:
            self._numbers[url] = self._next
            self._urls[self._next] = url
            self._next += 1
            if len(self._urls) > NUMBERS:
                del self._numbers[self._urls.popitem(last=False)[1]]
        return self._numbers[url]

    def url(self, number: int) -> str:
        """Raises `ToolError` for a number that nothing has."""
        if number not in self._urls:
            raise ToolError(f"no result or link has the id {number}", fix="search again, or give an address")
        return self._urls[number]

    def page(self, url: str) -> Page | None:
        """An open page, which thereby is the last one read."""
        if url in self._pages:
            self._pages.move_to_end(url)
        return self._pages.get(url)

    def keep(self, url: str, page: Page) -> None:
        """The page is open by the address that was asked for."""
        self._pages[url] = page
        self._pages.move_to_end(url)
        while len(self._pages) > 1 and sum(len(one.text) for one in self._pages.values()) > CHARACTERS:
            self._pages.popitem(last=False)

    @property
    def last(self) -> str:
        """The address of the page read last. Raises `ToolError` where none is open."""
        if not self._pages:
            raise ToolError("no page is open", fix="open one first")
        return next(reversed(self._pages))
