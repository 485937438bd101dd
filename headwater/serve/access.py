"""Who may ask: API keys, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

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


def asker(request: Request) -> int | None:
    """Whose request this is, by the number of its key; None where the server has none."""
    return request.scope.get(ASKER)
