"""One page, fetched: redirects followed one by one, bytes and seconds counted, no cookies, no proxies, no scripts."""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass
from typing import Protocol

import httpcore

from headwater import __version__
from headwater.agent.browser.web.pinning import PinningBackend, Resolver, system_resolver, tls_context
from headwater.agent.browser.web.urls import Origin, Refused, Url, join_url, parse_url
from headwater.agent.tool import ToolError

REDIRECTS = 5
CONNECT_SECONDS = 5.0
"""Of one address, so that one that is silent leaves time for the next."""
_HEADERS = {"User-Agent": f"headwater/{__version__}", "Accept": "text/html,text/plain;q=0.9,*/*;q=0.5",
            "Accept-Language": "zh,en;q=0.9,*;q=0.5", "Accept-Encoding": "gzip, deflate", "Connection": "close"}
_MOVED = (301, 302, 303, 307, 308)
_TEXT = re.compile(r"text/[a-z0-9.+-]+|application/(?:[a-z0-9.+-]+\+)?(?:xml|json)")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_:.-]+)""", re.IGNORECASE)


@dataclass(frozen=True)
class Fetched:
    """What an address gave in the end. media_type: lower case, "" where the server named none."""

    url: Url
    content: bytes
    media_type: str
    charset: str | None


class Fetcher:
    """Fetches text of the public web. Every hop of a redirect is checked as the first address is.

    Each page has connections of its own: nothing that one site left behind reaches the next.
    """

    def __init__(self, *, seconds: float, largest: int, resolver: Resolver = system_resolver,
                 network: httpcore.AsyncNetworkBackend | None = None, trusted: frozenset[Origin] = frozenset()) -> None:
        """seconds: of a page, from the name's resolution to its last byte; largest: bytes of a page, unpacked;
        network: what makes connections; trusted: origins that may lie anywhere."""
        self.seconds, self.largest, self.trusted = seconds, largest, trusted
        self.backend = PinningBackend(resolver, network, trusted)
        self.tls = tls_context()

    async def fetch(self, address: str) -> Fetched:
        """Raises `Refused` for an address, a size, a kind or a number of redirects that is not allowed, `ToolError`
        where the site does not give the page. What they say holds no words of the site's."""
        first = url = parse_url(address, self.trusted)
        moved = ""
        try:
            async with asyncio.timeout(self.seconds), httpcore.AsyncConnectionPool(
                    ssl_context=self.tls, network_backend=self.backend) as pool:
                for _ in range(REDIRECTS + 1):
                    answer = await self._ask(pool, url)
                    if isinstance(answer, Fetched):
                        return answer
                    moved = "after a redirect: "
                    url = parse_url(answer, self.trusted)
        except TimeoutError:
            raise Refused(f"the page was not there within {self.seconds:g} seconds", where=first) from None
        except ToolError as error:
            raise type(error)(moved + error.what, where=first, fix="try another page") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise ToolError(f"{moved}the site cannot be reached ({type(error).__name__})", where=first,
                            fix="try another page") from None
        raise Refused(f"more than {REDIRECTS} redirects", where=first, fix="try another page")

    async def _ask(self, pool: httpcore.AsyncConnectionPool, url: Url) -> Fetched | str:
        """The page, or where it is said to be."""
        asked = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        extensions = {"timeout": {"connect": CONNECT_SECONDS}}
        sent = [("Host", url.authority), *_HEADERS.items()]
        async with pool.stream("GET", asked, headers=sent, extensions=extensions) as response:
            headers = {name.decode("ascii", "replace").lower(): value.decode("utf-8", "replace")
                       for name, value in reversed(response.headers)}
            if response.status in _MOVED and "location" in headers:
                return join_url(str(url), headers["location"])
            if response.status != 200:
                raise ToolError(f"the site answered with status {response.status}", where=url)
            kind = headers.get("content-type", "")
            media_type = kind.partition(";")[0].strip().lower()
            if media_type and not _TEXT.fullmatch(media_type):
                raise Refused("the page is not text", where=url)
            content = await self._content(response, headers, url)
        charset = _CHARSET.search(kind)
        return Fetched(url, content, media_type, charset[1] if charset else None)

    async def _content(self, response: httpcore.Response, headers: dict[str, str], url: Url) -> bytes:
        too_large = Refused(f"the page is larger than {self.largest} bytes", where=url)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.largest:
            raise too_large
        unpacker = _unpacker(headers.get("content-encoding", ""), url)
        content = bytearray()
        read = 0
        try:
            async for piece in response.aiter_stream():
                read += len(piece)
                # What unpacks to nothing counts too; of what unpacks to more only the first byte too many is made.
                content += unpacker.decompress(piece, self.largest + 1 - len(content))
                if max(read, len(content)) > self.largest:
                    raise too_large
        except zlib.error:
            raise ToolError("what the site sent cannot be unpacked", where=url) from None
        return bytes(content)


class _Unpacker(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Plain:
    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return data


class _Deflate:
    """With the head of zlib, as the standard has it, or without, as some servers send it."""

    def __init__(self) -> None:
        self._inner: _Unpacker | None = None

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if self._inner is None and data:
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 15 == 8 else -zlib.MAX_WBITS)
        return self._inner.decompress(data, max_length) if self._inner else b""


def _unpacker(encoding: str, url: Url) -> _Unpacker:
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _Plain()
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if name == "deflate":
        return _Deflate()
    raise Refused("the site packed the page in a way that was not asked for", where=url)
