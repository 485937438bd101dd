from __future__ import annotations

import pytest

from headwater.corpus.reading.licence import page_licence


@pytest.mark.parametrize(("markup", "licence"), [
    ('<a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/deed.zh">x</a>', "CC-BY-SA-4.0"),
    ("<link href='//creativecommons.org/publicdomain/zero/1.0/' rel='license'>", "CC0-1.0"),
    ("<LINK REL=license HREF=http://example.com/terms>", "http://example.com/terms"),
    ('<a class="x" rel="nofollow license" href="/LICENSE.txt">', "/LICENSE.txt"),
    ('<a href="https://creativecommons.org/licenses/by/4.0/">photo: CC BY</a>', ""),
    ('<a rel="licensed" href="/x">', ""), ("<p>licence</p>", ""), ('<a rel="license">', ""), ("", ""),
])
def test_only_what_a_page_calls_its_licence_is_one(markup: str, licence: str) -> None:
    assert page_licence(f"<html><body>{markup}</body></html>") == licence
