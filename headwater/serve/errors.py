"""What a refused or failed request is answered with: OpenAI's error object."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from headwater.errors import HeadwaterError, InputError, MissingExtraError
from headwater.generate.worker import Unavailable

PLACES = {"/v1/chat/completions": "messages", "/v1/embeddings": "input", "/detokenize": "tokens"}
"""What a request's text is called, where it is not "prompt"."""


class RequestError(HeadwaterError):
    """A request that is answered with an error status."""

    def __init__(self, what: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(what)
        self.status, self.param, self.code = status, param, code


def error_body(what: str, *, kind: str = "invalid_request_error", param: str | None = None,
               code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object. Lone surrogates, which JSON can carry into a message but UTF-8 cannot, become "?"."""
    plain = [None if text is None else text.encode("utf-8", "replace").decode() for text in (what, param)]
    return {"error": {"message": plain[0], "type": kind, "param": plain[1], "code": code}}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    full = error.status == 429
    kind = "rate_limit_error" if full else "invalid_request_error" if error.status < 500 else "server_error"
    return JSONResponse(error_body(error.what, kind=kind, param=error.param, code=error.code),
                        status_code=error.status, headers={"retry-after": "2"} if full else None)


async def _bad_input(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    param = error.where or PLACES.get(request.url.path, "prompt")
    return JSONResponse(error_body(str(error), param=str(param), code="invalid_value"), status_code=400)


async def _missing(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(str(error), kind="server_error", code="not_installed"), status_code=501)


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    full = error.kind == "full"
    return JSONResponse(error_body(error.what, kind="rate_limit_error" if full else "server_error",
                                   code="queue_full" if full else "closing"),
                        status_code=429 if full else 503, headers={"retry-after": "2"})


async def _http(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    return JSONResponse(error_body(f"{request.method} {request.url.path}: {getattr(error, 'detail', 'error')}",
                                   code="not_found" if status == 404 else None), status_code=status,
                        headers=getattr(error, "headers", None))


async def _left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(f"the server failed: {type(error).__name__}", kind="server_error"), status_code=500)


HANDLERS: dict[Any, Any] = {RequestError: _refused, InputError: _bad_input, MissingExtraError: _missing,
                            Unavailable: _unavailable, ClientDisconnect: _left, HTTPException: _http,
                            Exception: _failed}
