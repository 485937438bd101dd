"""A web of canned answers: no test looks up a name or connects to anything but this machine's loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore
import pytest

from headwater.agent.browser.web.fetching import Fetcher

PUBLIC = "93.184.216.34"


@pytest.fixture(autouse=True)
def nothing_leaves(monkeypatch):
    """Whatever goes wrong in a test, no packet goes further than this machine."""
    connect = socket.socket.connect

    def only_loopback(one: socket.socket, address: Any) -> Any:
        assert one.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"a test connects to {address}"
        return connect(one, address)

    def no_lookup(*_: object, **__: object) -> None:
        raise AssertionError("a test looks up a name")

    monkeypatch.setattr(socket.socket, "connect", only_loopback)
    monkeypatch.setattr(socket, "getaddrinfo", no_lookup)


class Stream(httpcore.AsyncNetworkStream):
    """A connection that answers with the given pieces, whatever it is sent; with TLS by saying so."""

    def __init__(self, pieces: Iterable[bytes], pause: float, sent: list[bytes]) -> None:
        self.pieces, self.pause, self.sent = iter(pieces), pause, sent
        self.left = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await asyncio.sleep(self.pause)
        piece = self.left or next(self.pieces, b"")
        self.left = piece[max_bytes:]
        return piece[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent.append(buffer)

    async def aclose(self) -> None:
        pass

    async def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
                        ) -> Stream:
        self.sent.append(f"TLS {server_hostname}".encode())
        return self


class Web(httpcore.AsyncNetworkBackend):
    """Names with their addresses, and what each address answers."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.answers: dict[str, list[tuple[Iterable[bytes], float]]] = {}
        self.lookups: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.sent: list[bytes] = []

    def site(self, name: str, *answers: bytes | Iterable[bytes], address: str = PUBLIC, pause: float = 0.0) -> None:
        """One answer for each connection, the last one for all that follow."""
        self.names[name] = [[address]]
        self.answers[address] = [([one] if isinstance(one, bytes) else one, pause) for one in answers]

    async def resolve(self, host: str, port: int) -> list[str]:
        """Each answer of a name once, the last one from then on."""
        self.lookups.append(host)
        if host not in self.names:
            raise OSError("unknown name")
        known = self.names[host]
        return known.pop(0) if len(known) > 1 else known[0]

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
                          socket_options: Any = None) -> Stream:
        self.connected.append((host, port))
        if host not in self.answers:
            raise httpcore.ConnectError("nobody answers there")
        known = self.answers[host]
        pieces, pause = known.pop(0) if len(known) > 1 else known[0]
        return Stream(pieces, pause, self.sent)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def fetcher(self, **options: Any) -> Fetcher:
        return Fetcher(**{"seconds": 5.0, "largest": 1 << 20, "resolver": self.resolve, "network": self, **options})


def answer(body: bytes = b"", *headers: str, status: int = 200, kind: str = "text/html; charset=utf-8") -> bytes:
    """An HTTP answer that ends with the connection."""
    lines = [f"HTTP/1.1 {status} X", *[f"Content-Type: {kind}"][:bool(kind)], *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def moved(target: str, status: int = 302) -> bytes:
    return answer(b"", f"Location: {target}", status=status)


@pytest.fixture
def web() -> Web:
    return Web()


def write_pages(folder: Path, pages: dict[str, str]) -> Path:
    """Files below the folder."""
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
