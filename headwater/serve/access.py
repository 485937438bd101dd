"""Who may ask: API keys, compared in constant time, and without keys no pages of other sites."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from headwater.serve.errors import error_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

GUARDED = ("/v1/", "/tokenize", "/detokenize")
"""What needs a key, and /metrics unless settings open it; the page, its files, /health and /openapi.json do not."""

ASKER = "headwater.asker"


class RequireKey:
    """Middleware: requests for what is guarded carry "Authorization: Bearer KEY"."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], refused: Callable[[int], None], guarded: tuple[str, ...]
                 ) -> None:
        """guarded: what such paths begin with. refused: is told of each request that is turned away."""
        self.app, self.keys, self.refused, self.guarded = app, [key.encode() for key in keys], refused, guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "OPTIONS" and scope["path"].startswith(self.guarded):
            given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
            number = self._number(given.removeprefix(b"Bearer "))
            if number is None:
                self.refused(401)
                await JSONResponse(error_body("a wrong API key was given" if given else "no API key was given: send "
                                              "'Authorization: Bearer KEY'", code="invalid_api_key"), status_code=401,
                                   headers={"www-authenticate": "Bearer"})(scope, receive, send)
                return
            scope[ASKER] = number
        await self.app(scope, receive, send)

    def _number(self, given: bytes) -> int | None:
        # Every key is compared, so that time does not tell which one was nearly right.
        found = [hmac.compare_digest(given, key) for key in self.keys]
        return found.index(True) if any(found) else None


class RequireOwnPages:
    """Middleware of a server without keys: a browser sends a page's request to any address, also to this machine's own,
    and says where the page is from. Only those of the server itself and of `origins` are answered."""

    def __init__(self, app: ASGIApp, origins: Collection[str], hosts: Collection[str] | None,
                 refused: Callable[[int], None]) -> None:
        """hosts: names under which the server answers, beside those of the origins; None: any. A page whose own name
        leads to this machine's address is of the same origin, and only the name tells. refused: see `RequireKey`."""
        self.app, self.origins, self.refused = app, frozenset(origins), refused
        self.hosts = None if hosts is None or "*" in origins else {*hosts, *map(_host, origins)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (wrong := self._wrong(Headers(scope=scope))):
            self.refused(403)
            await JSONResponse(error_body(wrong, code="foreign_page"), status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _wrong(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and _host(f"//{host}") not in self.hosts:
            return f"this server does not answer as {host}: name 'http://{host}' in the setting 'origins', or use keys"
        if origin is None or "*" in self.origins or origin in self.origins or origin.partition("://")[2] == host:
            return ""
        return f"pages of {origin} may not ask here: name it in the setting 'origins', or use keys"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def asker(request: Request) -> int | None:
    """Whose request this is, by the number of its key; None where the server has none."""
    return request.scope.get(ASKER)
