"""Search through a SearXNG server of the user's (https://docs.searxng.org/dev/search_api)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from headwater.agent.browser.index import Result
from headwater.agent.browser.pages import TITLE
from headwater.agent.browser.web.fetching import Fetcher
from headwater.agent.tool import ToolError

RANGES = {1: "day", 31: "month", 366: "year"}
"""Its time ranges, by the days that each reaches back."""
_SNIPPET = 400


class Searxng:
    """Asks a server that gives JSON (`search.formats` in its settings.yml has to list it)."""

    dated = True

    def __init__(self, base: str, fetcher: Fetcher) -> None:
        """base: the server's address; fetcher: one that trusts its origin, which may lie in the user's own network."""
        self.base, self.fetcher = base.rstrip("/"), fetcher

    async def search(self, query: str, count: int, recency_days: int | None = None) -> list[Result]:
        """The server's first results. Raises `ToolError` where it gives none that can be read."""
        asked = {"q": query, "format": "json"}
        if recency_days is not None and (reach := next((one for one in RANGES if one >= recency_days), None)):
            asked["time_range"] = RANGES[reach]
        fetched = await self.fetcher.fetch(f"{self.base}/search?{urlencode(asked)}")
        try:
            rows = json.loads(fetched.content)["results"]
            found = [_result(row) for row in rows if str(row.get("url", "")).startswith(("http://", "https://"))]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ToolError("the search server answered with something else than results", where=self.base) from None
        return found[:count]


def _result(row: dict[str, Any]) -> Result:
    title, text = (" ".join(str(row.get(name) or "").split()) for name in ("title", "content"))
    return Result(row["url"], title[:TITLE], text[:_SNIPPET])
