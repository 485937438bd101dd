"""Connections to addresses that were looked at: a name is resolved once, and what was checked is connected to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore

from headwater.agent.browser.web.addresses import read_address
from headwater.agent.browser.web.urls import Origin, Refused, require_public

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""From a name and a port to addresses."""
TRIED = 4
"""Addresses of one name that are connected to, one after the other."""


async def system_resolver(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver has for a name. Raises `OSError` where it knows none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PinningBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone, whatever asked: the first request, a redirect, a proxy by mistake.

    All addresses of a name must be public, since which of them is taken is nobody's promise. The one that was checked
    is connected to, so a second answer of the name server changes nothing.
    """

    def __init__(self, resolver: Resolver = system_resolver, inner: httpcore.AsyncNetworkBackend | None = None,
                 trusted: frozenset[Origin] = frozenset()) -> None:
        """trusted: origins that may lie anywhere, named by the user."""
        self.resolver, self.inner, self.trusted = resolver, inner or httpcore.AnyIOBackend(), trusted

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
                          socket_options: Iterable[Any] | None = None) -> httpcore.AsyncNetworkStream:
        """Raises `Refused` for an address that is not public, httpcore's `ConnectError` where none answers."""
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in (await self._addresses(host, port))[:TRIED]:
            try:
                stream = await self.inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return stream
        raise failure

    async def connect_unix_socket(self, path: str, timeout: float | None = None,
                                  socket_options: Iterable[Any] | None = None) -> httpcore.AsyncNetworkStream:
        raise Refused("sockets of this machine are not opened", where=path)

    async def sleep(self, seconds: float) -> None:
        await self.inner.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [host] if read_address(host) else await self.resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} is not known") from error
        for text in found if (host, port) not in self.trusted else ():
            address = read_address(text)
            if address is None:
                raise Refused("the name server answered with no address", where=host)
            require_public(address, host)
        return found


def tls_context() -> ssl.SSLContext:
    """Certificates are checked against the system's and certifi's."""
    return httpcore.default_ssl_context()
