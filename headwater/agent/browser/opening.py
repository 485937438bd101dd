"""A browser as the user wants it: what it searches, and whether it may leave this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from headwater.agent.browser.browser import SHORTEST, Browser
from headwater.agent.browser.index import Index
from headwater.agent.browser.sources import LocalPages, PageSource, SearchProvider
from headwater.settings import Settings


class BrowserSettings(Settings):
    """Where the browser searches, and whether it may leave this machine."""

    index: Path | None = None
    """A file that `headwater index` wrote: searched, and its pages opened."""
    offline: bool = True
    """Only pages of the index are opened. false: any public page of the web."""
    searxng: str | None = None
    """Address of a SearXNG server whose results are shown too; wants offline=false."""
    results: int = Field(default=10, ge=1, le=50)
    """Results of a search."""
    page_characters: int = Field(default=6000, ge=SHORTEST)
    """A longer page is read in parts of this length; several pages opened at once share three times as much."""
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """A page of the web has to be there within."""
    largest: int = Field(default=2 << 20, ge=1)
    """Bytes of a page of the web, unpacked; a larger one is refused."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.offline and self.searxng is not None:
            raise ValueError("a SearXNG server is asked only with offline=false")
        if self.offline and self.index is None:
            raise ValueError("an offline browser has nothing to show without an index")
        if self.offline and (given := self.model_fields_set & {"seconds", "largest"}):
            raise ValueError(f"{min(given)} has no effect with offline=true")
        return self


def open_browser(settings: BrowserSettings) -> Browser:
    """For one conversation. Raises `InputError` for a file that is no index, `ToolError` for an address that
    is none, `MissingExtraError` without what the web needs."""
    index = Index(settings.index) if settings.index is not None else None
    providers: list[SearchProvider] = [LocalPages(index)] if index else []
    sources: list[PageSource] = [LocalPages(index)] if index else []
    if not settings.offline:
        from headwater.agent.browser.web.fetching import Fetcher
        from headwater.agent.browser.web.pages import WebPages
        from headwater.agent.browser.web.searxng import Searxng
        from headwater.agent.browser.web.urls import read_url

        sources.append(WebPages(Fetcher(seconds=settings.seconds, largest=settings.largest)))
        if settings.searxng is not None:
            fetcher = Fetcher(seconds=settings.seconds, largest=settings.largest,
                              trusted=frozenset([read_url(settings.searxng).origin]))
            providers.append(Searxng(settings.searxng, fetcher))
    return Browser(providers, sources, results=settings.results, page_characters=settings.page_characters,
                   owned=[index] if index else [])
