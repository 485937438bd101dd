"""Breaks when a page read in a process of its own is read otherwise, or can hold up this one."""

from __future__ import annotations

import asyncio

import pytest

from headwater.agent.browser.web.apart import read_apart
from headwater.agent.browser.web.fetching import Fetched
from headwater.agent.browser.web.reading import read_page
from headwater.agent.browser.web.urls import parse_url
from headwater.agent.tool import ToolError

URL = parse_url("https://example.org/a?b=%E6%B2%B3")


def page(content: str, kind: str = "text/html") -> Fetched:
    return Fetched(URL, content.encode("gb18030"), kind, "gb18030")


ENDLESS = page("<p>some words<b>more</b>" * 1_500_000)
"""Some seconds to read."""


def test_it_reads_what_is_read_here() -> None:
    prose = "维尔纳河流经许多村庄和田野，河水一年四季都很清澈。" * 9
    for one in (page(f"<title>河流</title><article><p>{prose}<a href='/lake'>纳雷湖</a>{prose}</article>"),
                page(prose, "text/plain")):
        assert asyncio.run(read_apart(one)) == read_page(one)


def test_what_is_no_text_is_refused_with_the_same_words() -> None:
    nothing = Fetched(URL, b"%PDF-1.7 ...", "text/html", None)
    with pytest.raises(ToolError) as here:
        read_page(nothing)
    with pytest.raises(ToolError) as apart:
        asyncio.run(read_apart(nothing))
    assert str(apart.value) == str(here.value)


def test_a_page_that_is_read_for_ever_is_given_up_and_holds_up_nobody() -> None:
    async def turns_of_others() -> int:
        turns, reading = 0, asyncio.create_task(read_apart(ENDLESS, seconds=1))
        while not reading.done():
            await asyncio.sleep(0.02)
            turns += 1
        with pytest.raises(ToolError, match="longer than 1 seconds to read"):
            reading.result()
        return turns

    assert asyncio.run(turns_of_others()) > 9


def test_a_call_that_is_given_up_ends_the_reading() -> None:
    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await read_apart(ENDLESS)

    asyncio.run(asyncio.wait_for(given_up(), 10))
