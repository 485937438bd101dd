"""The browser as a tool, in the form of GLM-4's `simple_browser`: search, mclick, open_url, and find."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any, Protocol

from headwater.agent.browser.conversation import Memory
from headwater.agent.browser.index import Result
from headwater.agent.browser.pages import Link, Page
from headwater.agent.browser.showing import UNTRUSTED, plain, quoted, with_links
from headwater.agent.browser.sources import PageSource, SearchProvider
from headwater.agent.tool import Definition, Observation, ToolError

MOST_CLICKED = 10
"""Pages that are opened at once, as GLM-4's browser has it."""
SHARED = 3
"""Lengths of a part that they share."""
SHORTEST = 500
"""Characters that each shows at least."""
PLACES, AROUND = 10, 150
"""Places that `find` shows, and characters on both sides of each."""


def _definition(name: str, description: str, required: Sequence[str], **properties: Mapping[str, Any]) -> Definition:
    return Definition(name, description, {"type": "object", "properties": properties, "required": list(required),
                                          "additionalProperties": False}, untrusted=True)


_PAGE = {"type": "integer", "minimum": 1, "description": "Which part of a long page, from 1 on."}
SEARCH = _definition(
    "search", "Search for pages. Every result has an id, by which mclick opens it. Cite a page as 【id†its words】.",
    ["query"], query={"type": "string", "minLength": 1, "maxLength": 500},
    recency_days={"type": "integer", "minimum": 1, "description": "Only pages of the last so many days."})
MCLICK = _definition(
    "mclick", "Open results or links by their ids, best 3 to 10 that differ in what they say; or read on in one.",
    ["ids"], ids={"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1,
                  "maxItems": MOST_CLICKED}, page=_PAGE)
OPEN_URL = _definition(
    "open_url", "Open a page by its address, and read one part of it.", ["url"],
    url={"type": "string", "minLength": 1, "maxLength": 2000}, page=_PAGE)
FIND = _definition(
    "find", "Find a text in the page read last, or in the open page of an id: the places, with what stands around.",
    ["text"], text={"type": "string", "minLength": 1, "maxLength": 200}, id={"type": "integer", "minimum": 1})


class Closing(Protocol):
    def close(self) -> None: ...


class Browser:
    """Searches and reads, for one conversation. What pages say comes behind bars (`showing`), with their addresses as
    the observation's sources."""

    def __init__(self, providers: Sequence[SearchProvider], sources: Sequence[PageSource], *, results: int = 10,
                 page_characters: int = 6000, owned: Sequence[Closing] = ()) -> None:
        """providers: asked together; sources: asked one after the other for a page. results: of a search;
        page_characters: of a part; owned: closed with the browser."""
        self.providers, self.sources, self.owned = providers, sources, owned
        self.results, self.page_characters = results, page_characters
        self.memory = Memory()

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """Without a provider there is no search. An address that the model makes up can carry off what the
        conversation holds: where a source is remote, open_url has effects; results and links open by mclick."""
        open_url = replace(OPEN_URL, effects=any(one.remote for one in self.sources))
        return (*([SEARCH] if self.providers else []), MCLICK, open_url, FIND)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        if name not in [one.name for one in self.definitions]:
            raise ToolError(f"the browser has no function {name!r}")
        known: dict[str, Any] = {"search": self.search, "mclick": self.mclick, "open_url": self.open_url,
                                 "find": self.find}
        return await known[name](**arguments)

    async def close(self) -> None:
        for one in self.owned:
            one.close()

    async def search(self, query: str, recency_days: int | None = None) -> Observation:
        """The providers' results in turns, each address once. One that fails is told of; raises `ToolError` when all
        do."""
        asked = await asyncio.gather(*(one.search(query, self.results, recency_days) for one in self.providers),
                                     return_exceptions=True)
        lists = [one for one in asked if not isinstance(one, BaseException)]
        failures = _failures(asked)
        if not lists:
            raise ToolError("; ".join(failures))
        found: dict[str, Result] = {}
        for result in filter(None, chain.from_iterable(zip_longest(*lists))):
            found.setdefault(result.url, result)
        shown = list(found.values())[:self.results]
        notes = failures
        if recency_days is not None and not all(one.dated for one in self.providers):
            notes.append("recency_days was not applied where pages have no dates.")
        if not shown:
            return Observation("\n".join(["Nothing was found.", *notes]))
        texts = [f"【{self.memory.number(one.url)}】\n{quoted(plain(_head(one.title, one.url) + one.snippet))}"
                 for one in shown]
        return Observation("\n".join([f"{len(shown)} results. {UNTRUSTED}", *notes, *texts]),
                           sources=tuple((one.url, one.title) for one in shown))

    async def mclick(self, ids: Sequence[int], page: int = 1) -> Observation:
        """A part of several pages, opened at the same time; the more there are the shorter it is. Those that do not
        open are told of; raises `ToolError` when none does."""
        urls = list(dict.fromkeys(map(self.memory.url, ids)))[:MOST_CLICKED]
        opened = await asyncio.gather(*map(self._open, urls), return_exceptions=True)
        failures = _failures(opened)
        pages = [(url, one) for url, one in zip(urls, opened) if isinstance(one, Page)]
        if not pages:
            raise ToolError("\n".join(failures))
        each = max(SHORTEST, min(self.page_characters, SHARED * self.page_characters // len(pages)))
        return Observation("\n".join([UNTRUSTED, *(self._part(url, one, page, each) for url, one in pages), *failures]),
                           sources=tuple((one.url, one.title) for _, one in pages))

    async def open_url(self, url: str, page: int = 1) -> Observation:
        """One part of a page. Raises `ToolError`, of a page that no source has and of a part that there is not."""
        opened = await self._open(url.strip())
        return Observation(f"{UNTRUSTED}\n{self._part(url.strip(), opened, page, self.page_characters)}",
                           sources=((opened.url, opened.title),))

    async def find(self, text: str, id: int | None = None) -> Observation:
        """Places of the text in an open page."""
        url = self.memory.last if id is None else self.memory.url(id)
        page = await self._open(url)
        places, total = await asyncio.to_thread(page.find, text, PLACES, AROUND)
        if not places:
            return Observation(f"The text is not in page 【{self.memory.number(url)}】.",
                               sources=((page.url, page.title),))
        ends = [end for _, end in page.parts(self.page_characters)]
        lines = [f"in part {1 + sum(end <= place.at for end in ends)}:\n{quoted(plain(place.around))}"
                 for place in places]
        shown = f", the first {PLACES} of them" if total > PLACES else ""
        return Observation("\n".join([f"{total} places in page 【{self.memory.number(url)}】{shown}. {UNTRUSTED}",
                                      *lines]), sources=((page.url, page.title),))

    async def _open(self, url: str) -> Page:
        page = self.memory.page(url)
        for source in self.sources if page is None else ():
            page = await source.open(url)
            if page is not None:
                self.memory.keep(url, page)
                break
        if page is None:
            raise ToolError("there is no such page", where=repr(url[:200]),
                            fix="open what a search found: the web is closed here")
        return page

    def _part(self, url: str, page: Page, number: int, size: int) -> str:
        """One part as the model reads it. Raises `ToolError` for a part that there is not."""
        parts = page.parts(size)
        if number > len(parts):
            raise ToolError(f"the page has {len(parts)} parts of this length", where=repr(url[:200]),
                            fix="give a smaller page")
        begin, end = parts[number - 1]
        known = self.memory.number(url)
        head = f"Page 【{known}】" + f", part {number} of {len(parts)}" * (len(parts) > 1)
        text = plain(_head(page.title, page.url)) + "\n" + with_links(page, begin, end, self._link)
        on = f"page={number + 1}" if size == self.page_characters else f"ids [{known}] alone, in longer parts"
        return "\n".join([head, quoted(text), *([f"It goes on: mclick with {on}."] if number < len(parts) else [])])

    def _link(self, link: Link) -> int:
        return self.memory.number(link.url)


def _head(title: str, url: str) -> str:
    """Both as pages wrote them, a line for each."""
    return f"{' '.join(title.split())}\n{' '.join(url.split())}\n"


def _failures(outcomes: Sequence[object]) -> list[str]:
    """What went wrong, a line for each. An error that is no `ToolError` is raised."""
    for one in outcomes:
        if isinstance(one, BaseException) and not isinstance(one, ToolError):
            raise one
    return [" ".join(str(one).split()) for one in outcomes if isinstance(one, ToolError)]
