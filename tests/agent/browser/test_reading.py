import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agent.browser.pages import Page, first_line
from headwater.agent.browser.web.fetching import Fetched
from headwater.agent.browser.web.reading import read_page
from headwater.agent.browser.web.urls import parse_url
from headwater.agent.tool import ToolError
from headwater.corpus.extraction.extract import extract, token_f1
from headwater.corpus.reading.encodings import declared_charset, decode

URL = parse_url("https://example.org/a/b")
PROSE = "The river flows past many villages and fields, and its water is clear in every season of the year. " * 3


def read(content: str | bytes, kind: str = "text/html", charset: str | None = None) -> Page:
    return read_page(Fetched(URL, content if isinstance(content, bytes) else content.encode(), kind, charset))


def links(page: Page) -> dict[str, str]:
    return {page.text[link.begin:link.end].strip(): link.url for link in page.links}


def test_a_page_has_its_title_its_main_text_and_the_links_in_it():
    page = read(f"""<html><head><title>Rivers &amp; lakes</title><base href="/base/"></head><body>
        <nav><a href="/home">Home</a><a href="/about">About</a></nav>
        <article><h1>Rivers</h1><p>{PROSE}See <a href="velna?x=1#top">the <b>Velna</b> itself</a>, and
        <a href="https://other.example.net/"> elsewhere </a>.</p><p>{PROSE}
        <a href="#here">here</a> <a href="javascript:alert(1)">script</a> <a href="mailto:a@example.org">mail</a>
        <a href="file:///etc/passwd">file</a> <a href="http://[">broken</a> <a>bare</a></p></article>
        <footer>Copyright</footer></body></html>""")
    assert page.title == "Rivers & lakes"
    assert links(page) == {"the Velna itself": "https://example.org/base/velna?x=1",
                           "elsewhere": "https://other.example.net/"}
    assert "Home" not in page.text
    assert "bare" in page.text
    assert page.text.isprintable() or "\n" in page.text
    assert not any(ord(sign) >= 0xF0000 for sign in page.text)


def test_marks_that_a_page_brings_along_make_no_link():
    page = read(f"<article><p>{PROSE}\U000f0000fake\U00100000 <a href='/real'>real</a></p></article>")
    assert links(page) == {"real": "https://example.org/real"}
    assert "fake" in page.text


@pytest.mark.parametrize(("codec", "declared", "charset"), [
    ("gb18030", "gb2312", None), ("gb18030", "", "gbk"), ("big5", "big5", None), ("utf-8", "gb2312", None)])
def test_a_page_is_decoded_as_the_corpus_does(codec, declared, charset):
    text = "這條河流過許多村莊和田野，河水清澈。" if codec == "big5" else "这条河流过许多村庄和田野，河水清澈。"
    page = read(f"<meta charset='{declared}'><article><p>{text * 5}</p></article>".encode(codec), charset=charset)
    assert text in page.text


@pytest.mark.parametrize(("content", "kind", "text"), [
    ("one <b>\r\ntwo", "text/plain", "one <b>\ntwo"), ('{"a": "<b>"}', "application/json", '{"a": "<b>"}'),
    ("plain, without a kind", "", "plain, without a kind")])
def test_what_is_no_html_is_taken_as_it_is(content, kind, text):
    assert read(content, kind).text == text


def test_html_without_a_kind_is_read_as_html():
    assert "<p>" not in read(f"<html><body><p>{PROSE}</p></body></html>", "").text


@pytest.mark.parametrize("content", [b"%PDF-1.7", b"\x89PNG\r\n", b"PK\x03\x04", b"\x00" * 100, b"", b" \n",
                                     b"\x1f\x8b"])
@pytest.mark.parametrize("kind", ["text/html", "text/plain", ""])
def test_what_only_says_that_it_is_text_is_refused(content, kind):
    with pytest.raises(ToolError):
        read(content, kind)


@pytest.mark.parametrize("content", [
    "<div>" * 100_000, "<a href=x>" * 50_000, "<a href=/x>y</a>" * 20_000, "<!-- only -->", "<title>" * 10_000,
    "<a href='" + "x" * 500_000, "<table><tr><td>" * 5000, "<p>" + "&amp;" * 100_000, "<title x" * 20_000,
    "<base href='http://['><a href=x>y</a>", "<a href=/1><a href=/2>x</a></a>"],
    ids=["deep", "open links", "many links", "comment", "titles", "long link", "tables", "entities", "open titles",
         "base", "links in links"])
def test_hostile_pages_are_read_or_refused(content):
    try:
        page = read(content)
    except ToolError:
        return
    assert len(page.links) <= 1000


@given(st.lists(st.sampled_from([
    "<p>", "</p>", "<a href=/x>", "<a href='//y.org/'>", "</a>", "<pre>", "</pre>", " ", "\n", "<td>", "<br>", "word",
    "河", "\U000f0001", "<b>", "</b>", "<li>", PROSE]), max_size=40))
def test_links_stand_in_the_text_in_order(pieces):
    try:
        page = read("".join(pieces))
    except ToolError:
        return
    behind = 0
    for link in page.links:
        assert behind <= link.begin < link.end <= len(page.text)
        behind = link.end


def test_links_change_nothing_in_what_is_the_main_text(shared):
    seen = 0
    for file in sorted((shared / "data/html/magic_html/article/htmls").glob("*.html"))[:12]:
        content = file.read_bytes()
        plain = extract(decode(content, declared_charset(content))[0])
        page = read(content)
        assert token_f1(plain, page.text) > 0.999
        seen += len(page.links)
    assert seen


def test_parts_are_whole_lines_or_words_and_make_up_the_text():
    text = "\n".join(f"{number} " + "word " * 30 for number in range(60)) + "x" * 1000 + "。河" * 300
    parts = Page("u", "t", text).parts(500)
    assert "".join(text[begin:end] for begin, end in parts) == text
    assert max(end - begin for begin, end in parts) <= 500
    assert text[parts[0][0]:parts[0][1]].endswith("\n")
    assert Page("u", "t", "").parts(500) == [(0, 0)]


def test_a_text_is_found_whatever_its_case_and_white_space():
    page = Page("u", "t", "The River\n  Velna (482 km). the river velna. 河")
    places, total = page.find("the  river VELNA", 1, 5)
    assert (total, places[0].at, places[0].around) == (2, 0, "The River Velna (482…")
    assert page.find("(482", 5, 0)[1] == 1
    assert page.find("  ", 5, 0) == ([], 0)
    assert page.find("absent", 5, 0) == ([], 0)


def test_a_text_without_a_title_goes_by_its_first_line():
    assert first_line("\n\n ## Velna \nmore") == "Velna"
    assert first_line(json.dumps({})) == "{}"
    assert first_line("") == ""
