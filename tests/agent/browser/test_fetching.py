"""Pages that must not be fetched, and, so that a refusal means something, the same web giving those that may be."""

import asyncio
import gzip
import itertools
import ssl
import zlib

import httpcore
import pytest

from headwater.agent.browser.web.fetching import REDIRECTS, Fetcher
from headwater.agent.browser.web.pinning import PinningBackend
from headwater.agent.browser.web.urls import Refused
from headwater.agent.tool import ToolError
from tests.agent.browser.conftest import PUBLIC, Web, answer, moved

INSIDE = ["127.0.0.1", "10.0.0.7", "192.168.1.1", "172.20.0.1", "169.254.169.254", "100.100.100.200", "192.0.0.192",
          "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "::ffff:127.0.0.1",
          "::ffff:93.184.216.34", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::",
          "fe80::1", "fe80::1%eth0", "fec0::1", "fd00:ec2::254", "fc00::1", "ff02::1", "100::1", "198.18.0.1",
          "not an address", "2130706433", "0x7f.1"]


def fetch(web: Web, address: str = "http://example.org/", **options):
    return asyncio.run(web.fetcher(**options).fetch(address))


def test_a_public_page_is_fetched(web):
    web.site("example.org", answer(b"<p>hello", kind="Text/HTML; charset='gbk'"))
    page = fetch(web, "https://EXAMPLE.org/a?b#c")
    assert (page.content, page.media_type, page.charset) == (b"<p>hello", "text/html", "gbk")
    assert str(page.url) == "https://example.org/a?b"
    assert web.connected == [(PUBLIC, 443)]
    assert web.sent[0] == b"TLS example.org", "the certificate is asked for by name though the address is pinned"
    head = web.sent[1].decode().lower()
    assert head.startswith("get /a?b http/1.1\r\nhost: example.org\r\n")
    assert "cookie" not in head
    assert "referer" not in head


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_that_leads_inside_is_refused_before_a_connection(web, address):
    web.site("example.org", answer(b"secret"), address=address)
    with pytest.raises(Refused):
        fetch(web)
    assert web.connected == []


def test_one_inner_address_among_public_ones_is_enough_to_refuse(web):
    web.site("example.org", answer(b"page"))
    web.names["example.org"] = [[PUBLIC, "10.0.0.1"]]
    with pytest.raises(Refused):
        fetch(web)
    assert web.connected == []


def test_a_name_that_changes_its_address_is_asked_once_and_what_was_checked_is_connected_to(web):
    web.site("example.org", answer(b"page"))
    web.names["example.org"] = [[PUBLIC], ["127.0.0.1"]]
    assert fetch(web).content == b"page"
    assert web.lookups == ["example.org"]
    assert web.connected == [(PUBLIC, 80)]


def test_a_name_that_changes_its_address_between_two_redirects_is_refused(web):
    web.site("example.org", moved("/again"), answer(b"secret"))
    web.names["example.org"] = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(Refused):
        fetch(web)
    assert web.connected == [(PUBLIC, 80)]


def test_a_second_address_is_tried_where_the_first_is_silent(web):
    web.site("example.org", answer(b"page"))
    web.names["example.org"] = [["2606:4700::1111", PUBLIC]]
    assert fetch(web).content == b"page"
    assert web.connected == [("2606:4700::1111", 80), (PUBLIC, 80)]


@pytest.mark.parametrize("target", [
    "http://127.0.0.1/", "http://2130706433/", "//127.0.0.1/x", "http://[::ffff:a9fe:a9fe]/", "file:///etc/passwd",
    "gopher://example.org/", "http://user:word@example.org/", "http://example.org:6379/", "http://localhost/",
    "http://１６９。254.169.254/", "http://inside.example.org/", "unix:/run/docker.sock", "http://["])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_inside_is_refused(web, target, status):
    web.site("inside.example.org", answer(b"secret"), address="192.168.0.9")
    web.site("example.org", moved(target, status))
    with pytest.raises(Refused, match="after a redirect") as refused:
        fetch(web)
    assert web.connected == [(PUBLIC, 80)]
    assert "passwd" not in str(refused.value), "what the site wrote is not shown as if we had written it"


def test_redirects_between_public_sites_are_followed(web):
    web.site("example.org", moved("https://other.example.net/b/"), moved("c?d"))
    web.site("other.example.net", moved("../c"), answer(b"there"), address="1.1.1.1")
    page = fetch(web)
    assert (page.content, str(page.url)) == (b"there", "https://other.example.net/c")
    assert web.connected == [(PUBLIC, 80), ("1.1.1.1", 443), ("1.1.1.1", 443)]


def test_redirects_end(web):
    web.site("example.org", moved("/"))
    with pytest.raises(Refused, match="redirects"):
        fetch(web)
    assert len(web.connected) == REDIRECTS + 1


def test_cookies_of_one_site_reach_no_other(web):
    web.site("example.org", answer(b"", "Set-Cookie: a=secret; Domain=org", "Location: http://b.example.org/",
                                   status=302))
    web.site("b.example.org", answer(b"page"), address="1.1.1.1")
    assert fetch(web).content == b"page"
    assert b"secret" not in b"".join(web.sent)


def test_settings_of_the_environment_lead_nowhere(web, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    web.site("example.org", answer(b"page"))
    assert fetch(web).content == b"page"
    assert web.connected == [(PUBLIC, 80)]


def test_sockets_of_this_machine_are_not_opened(web):
    with pytest.raises(Refused):
        asyncio.run(PinningBackend(web.resolve, web).connect_unix_socket("/var/run/docker.sock"))


LARGE = 1 << 20
ENDLESS = itertools.repeat(b"a" * 65536)
BOMB = zlib.compress(bytes(64 * LARGE), 9)


def with_head(head: bytes, body) -> itertools.chain:
    return itertools.chain([head], body)


@pytest.mark.parametrize("told", [
    [answer(b"", f"Content-Length: {LARGE + 1}")], [answer(b"a" * (LARGE + 1))], with_head(answer(), ENDLESS),
    [answer(gzip.compress(bytes(64 * LARGE)), "Content-Encoding: gzip")], [answer(BOMB, "Content-Encoding: deflate")],
    [answer(BOMB[2:-4], "Content-Encoding: deflate")],
    with_head(answer(b"", "Content-Encoding: gzip"), [gzip.compress(bytes(2 * LARGE))[:300], bytes(100)] * 2),
    with_head(answer(b"", "Transfer-Encoding: chunked"), itertools.repeat(b"400\r\n" + b"a" * 1024 + b"\r\n")),
    [answer(gzip.compress(gzip.compress(bytes(64 * LARGE))), "Content-Encoding: gzip, gzip")],
    [answer(b"\x1b\x03", "Content-Encoding: br")], [answer(b"\x28\xb5\x2f\xfd", "Content-Encoding: zstd")]],
    ids=["told length", "giant", "endless", "gzip bomb", "zlib bomb", "deflate bomb", "damaged gzip", "chunks",
         "packed twice", "brotli", "zstd"])
def test_what_is_too_large_or_packed_otherwise_is_refused(web, told):
    web.site("example.org", told)
    with pytest.raises(ToolError):
        fetch(web)


def test_a_bomb_is_not_unpacked_beyond_the_bound(web, tmp_path):
    import tracemalloc

    packed = gzip.compress(bytes(256 * LARGE))
    web.site("example.org", [answer(packed, "Content-Encoding: gzip")])
    tracemalloc.start()
    with pytest.raises(Refused, match="larger"):
        fetch(web)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(packed) * 3 + 8 * LARGE


# Named, as gzip writes the time into what it packs and every process that runs tests must give a test the same name.
@pytest.mark.parametrize(("packed", "named"), [
    (gzip.compress(b"page"), "gzip"), (gzip.compress(b"page"), "x-gzip"), (zlib.compress(b"page"), "deflate"),
    (zlib.compress(b"page")[2:-4], "deflate"), (b"page", "identity"), (b"page", "")],
    ids=["gzip", "x-gzip", "deflate", "deflate, bare", "identity", "unnamed"])
def test_what_was_packed_is_unpacked(web, packed, named):
    web.site("example.org", answer(packed, f"Content-Encoding: {named}"))
    assert fetch(web).content == b"page"


def test_a_page_as_large_as_allowed_is_fetched(web):
    web.site("example.org", answer(gzip.compress(b"a" * LARGE), "Content-Encoding: gzip"))
    assert len(fetch(web).content) == LARGE


@pytest.mark.parametrize("pieces", [
    with_head(answer(), itertools.repeat(b"a")), with_head(b"HTTP/1.1 200 OK\r\n", itertools.repeat(b"X-A: b\r\n")),
    itertools.repeat(b"H"), itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    with_head(b"HTTP/1.1 302 X\r\nLocation: /", itertools.repeat(b"a"))],
    ids=["body", "headers", "status", "interim answers", "location"])
def test_a_site_that_gives_a_little_again_and_again_is_left(web, pieces):
    web.site("example.org", pieces, pause=0.02)
    with pytest.raises(Refused, match="seconds"):  # every single read comes in time; the sum counts
        fetch(web, seconds=0.3)


def test_the_deadline_spans_redirects_and_names(web):
    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(0.1)
        return [PUBLIC]

    web.site("example.org", moved("/"), pause=0.05)
    with pytest.raises(Refused, match="seconds"):
        fetch(web, seconds=0.25, resolver=slow)


@pytest.mark.parametrize("told", [
    answer(b"", *(f"X-{number}: {'a' * 100}" for number in range(2000))), answer(b"", f"X: {'a' * 200_000}"),
    b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"\x00" * 100, answer(b"", status=101),
    answer(b"", status=204), answer(b"", status=404), answer(b"", status=500), answer(b"", status=304),
    answer(b"", status=302)],
    ids=["many headers", "long header", "no HTTP", "nothing", "bad length", "broken off", "zeros",
         "upgrade", "no content", "absent", "failing", "unchanged", "moved nowhere"])
def test_an_answer_that_is_no_page_is_an_error_that_a_model_can_read(web, told):
    web.site("example.org", told)
    with pytest.raises(ToolError) as error:
        fetch(web)
    assert "http://example.org/" in str(error.value)


@pytest.mark.parametrize("kind", ["text/html", "application/xhtml+xml", "text/plain", "text/markdown",
                                  "application/json", "application/rss+xml", "application/xml; charset=x", ""])
def test_text_of_every_kind_is_taken(web, kind):
    web.site("example.org", answer(b"page", kind=kind))
    assert fetch(web).content == b"page"


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/octet-stream", "video/mp4", "nonsense",
                                  "multipart/x-mixed-replace", "text/", "textual/html"])
def test_what_is_no_text_is_refused_by_its_kind(web, kind):
    web.site("example.org", with_head(answer(kind=kind), ENDLESS))
    with pytest.raises(Refused, match="not text"):
        fetch(web)


def test_an_unknown_name_is_told(web):
    with pytest.raises(ToolError, match="cannot be reached"):
        fetch(web, "http://nowhere.example.org/")


def test_a_server_here_is_reached_only_where_its_origin_is_trusted():
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        asked.append(line)
        told = moved("http://127.0.0.1:9/x") if b"/away" in line else answer(b"from here")
        writer.write(told)
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        trusting = Fetcher(seconds=5, largest=LARGE, trusted=frozenset([("127.0.0.1", port)]))
        assert (await trusting.fetch(f"http://127.0.0.1:{port}/page")).content == b"from here"
        with pytest.raises(Refused):
            await trusting.fetch(f"http://127.0.0.1:{port}/away")
        asked.clear()
        plain = Fetcher(seconds=5, largest=LARGE)
        for address in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://2130706433:{port}/"):
            with pytest.raises(Refused):
                await plain.fetch(address)
        # The backend alone refuses too, whatever let the address pass.
        with pytest.raises(Refused):
            await plain.backend.connect_tcp("127.0.0.1", port)
        server.close()

    asyncio.run(run())
    assert asked == []


def test_cancelling_ends_the_connection(web):
    closed = []

    class Watched(Web):
        async def connect_tcp(self, *arguments, **options):
            stream = await super().connect_tcp(*arguments, **options)

            async def close() -> None:
                closed.append(True)

            stream.aclose = close
            return stream

    watched = Watched()
    watched.site("example.org", itertools.repeat(b"H"), pause=0.01)

    async def run() -> None:
        task = asyncio.create_task(watched.fetcher().fetch("http://example.org/"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert closed


def test_certificates_are_checked(web):
    context = web.fetcher().tls
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert httpcore.AsyncConnectionPool(ssl_context=context)
