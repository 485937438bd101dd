from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.reading.encodings import declared_charset, decode
from tests.corpus.conftest import chinese, english

TRADITIONAL = "臺灣的河流從山上開始，經過許多城市與村莊，最後流入大海。這裡的人們喜歡在河邊散步，看著船來船往。" * 3


@given(st.text())
def test_utf8_text_comes_back_whatever_is_declared(text: str) -> None:
    content = text.encode()
    if not content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        assert decode(content, "gb2312") == (text, "utf-8")


@pytest.mark.parametrize(("codec", "declared", "text"), [
    ("gb18030", None, chinese(1)), ("gb18030", "gb2312", chinese(2)), ("gb18030", "iso-8859-1", chinese(3)),
    ("gb18030", "utf-8", chinese(4)), ("big5", None, TRADITIONAL), ("big5", "big5", TRADITIONAL),
    ("big5", "gb2312", TRADITIONAL), ("cp1252", None, "Café déjà vu, naïve façade; “quoted” text. " * 5),
    ("cp1252", "iso-8859-1", "Über größere Flüsse führt die Brücke. " * 5),
    ("koi8-r", "koi8-r", "Река течёт через город. " * 5), ("shift_jis", "shift_jis", "川は町を流れています。" * 5)])
def test_text_in_other_encodings_is_told_apart(codec: str, declared: str | None, text: str) -> None:
    assert decode(text.encode(codec), declared)[0] == text


@pytest.mark.parametrize(("mark", "codec"), [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
                                             (codecs.BOM_UTF16_BE, "utf-16-be")])
def test_byte_order_mark_decides_and_is_dropped(mark: bytes, codec: str) -> None:
    assert decode(mark + "河流 river".encode(codec), "gb2312") == ("河流 river", codec)


def test_a_few_broken_bytes_do_not_lose_a_utf8_page() -> None:
    content = chinese(5).encode()
    text, codec = decode(content[:300] + b"\xff" + content[300:], "utf-8")
    assert codec == "utf-8"
    assert text.count("\ufffd") <= 3


def test_a_few_broken_bytes_do_not_lose_a_mostly_ascii_page() -> None:
    text = english(7)
    damaged = text[:200].encode() + b"\xff\xc3(\x80\x81" + text[200:].encode()
    assert decode(damaged, "utf-8")[0][206:] == text[201:]


def test_random_bytes_are_refused() -> None:
    with pytest.raises(UnicodeError, match="not text"):
        decode(bytes(range(128, 256)) * 20)


def test_a_declared_name_that_is_no_text_encoding_is_ignored() -> None:
    assert decode(chinese(6).encode("gb18030"), "unicode_escape", "zlib")[1] == "gb18030"


def test_meta_charset_is_read_in_both_forms() -> None:
    assert declared_charset(b'<html><meta charset="GBK">') == "GBK"
    assert declared_charset(b'<META http-equiv=Content-Type content="text/html; charset=big5">') == "big5"
    assert declared_charset(b"<html><p>charset=x</p>") is None


def test_real_chinese_pages_decode_without_damage(shared: Path) -> None:
    root = shared / "data/html"
    files = [*sorted((root / "gne_news_zh").glob("*.html")), *sorted((root / "cx_extractor_163_zh").rglob("*.html"))]
    texts = [decode(content, declared_charset(content))[0] for content in (file.read_bytes() for file in files)]
    damaged = [file.name for file, text in zip(files, texts) if text.count("\ufffd") > len(text) / 1000]
    assert not damaged
    labels = json.loads((root / "magic_html/article/base.json").read_text("utf-8"))
    for key, row in labels.items():
        if row["lang_guess"] == "zh":
            content = (root / "magic_html/article/htmls" / f"{key}.html").read_bytes()
            assert row["content"][:8].split()[0] in decode(content, declared_charset(content))[0], key
