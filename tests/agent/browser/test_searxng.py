import asyncio
import json

import pytest

from headwater.agent.browser.index import Result
from headwater.agent.browser.web.searxng import Searxng
from headwater.agent.tool import ToolError
from tests.agent.browser.conftest import answer

BASE = "http://search.lan:8888/searxng"
TRUSTED = frozenset([("search.lan", 8888)])
ROWS = [{"url": "https://example.org/1", "title": " One\nriver ", "content": "about it"},
        {"url": "javascript:alert(1)", "title": "no"}, {"title": "no address"},
        {"url": "https://example.org/2", "title": None, "content": "c" * 1000}]


def searxng(web, body: bytes, **options) -> Searxng:
    web.site("search.lan", answer(body, kind="application/json", **options), address="192.168.1.5")
    return Searxng(BASE, web.fetcher(trusted=TRUSTED))


def test_a_server_of_the_own_network_is_asked_and_its_results_taken(web):
    found = asyncio.run(searxng(web, json.dumps({"results": ROWS}).encode()).search("绿 湖&format=html", 5))
    assert found == [Result("https://example.org/1", "One river", "about it"),
                     Result("https://example.org/2", "", "c" * 400)]
    assert web.connected == [("192.168.1.5", 8888)]
    assert web.sent[0].startswith(b"GET /searxng/search?q=%E7%BB%BF+%E6%B9%96%26format%3Dhtml&format=json HTTP/1.1\r\n")


@pytest.mark.parametrize(("days", "asked"), [(1, b"&time_range=day "), (7, b"&time_range=month "),
                                             (31, b"&time_range=month "), (200, b"&time_range=year "),
                                             (5000, b"&format=json ")])
def test_days_become_the_range_that_holds_them(web, days, asked):
    asyncio.run(searxng(web, b'{"results": []}').search("x", 5, days))
    assert asked in web.sent[0].split(b"\r\n")[0]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"results": 3}', b'{"results": [3]}', b"[" * 100_000,
                                  b'{"answers": []}', b"\xff\xfe"])
def test_an_answer_that_holds_no_results_is_told(web, body):
    with pytest.raises(ToolError):
        asyncio.run(searxng(web, body).search("x", 5))


def test_a_server_that_does_not_give_json_is_told(web):
    with pytest.raises(ToolError, match="403"):
        asyncio.run(searxng(web, b"", status=403).search("x", 5))


def test_a_redirect_of_the_server_leads_nowhere_inside(web):
    server = searxng(web, b"")
    web.answers["192.168.1.5"] = [([answer(b"", "Location: http://192.168.1.6/", status=302)], 0.0)]
    with pytest.raises(ToolError, match="not public"):
        asyncio.run(server.search("x", 5))
    assert len(web.connected) == 1
