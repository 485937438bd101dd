from __future__ import annotations

from pathlib import Path

import pytest

from headwater.corpus.extraction.extract import extract
from headwater.corpus.judging.language import identify
from headwater.corpus.judging.length import count_tokens
from headwater.corpus.reading.readers import Raw
from headwater.corpus.reading.tidying import tidy
from headwater.corpus.steps import Examined, Examiner, StepSettings
from headwater.errors import SettingsError
from tests.corpus.conftest import PLAIN, chinese, english, page

DEFAULT = StepSettings.parse(PLAIN)


def verdict(content: bytes, settings: StepSettings = DEFAULT, *, html: bool = True) -> Examined:
    return Examiner(settings).examine(Raw("a.html", content, html=html))


@pytest.mark.parametrize(("text", "language"), [(english(1), "en"), (chinese(1), "zh")])
@pytest.mark.parametrize("extractor", ["fast", "precise", "trafilatura", "resiliparse", "justext"])
def test_good_page_is_kept_with_its_main_text_only(text: str, language: str, extractor: str) -> None:
    found = verdict(page(text), StepSettings.parse(PLAIN | {"extractor": extractor}))
    assert (found.step, found.language) == ("", language)
    assert text in found.text
    assert "Home" not in found.text
    assert found.tokens == count_tokens(found.text) > 100
    assert found.characters == len(found.text) < found.text_bytes + 1 < found.raw_bytes


@pytest.mark.parametrize(("content", "step", "reason"), [
    (b"%PDF-1.7 ...", "read", "not HTML"), (b"\x89PNG\r\n\x1a\n" + bytes(200), "read", "not HTML"),
    (bytes(5000), "read", "not HTML"), (b"  \n", "read", "empty"), (b"only words, no markup", "read", "not HTML"),
    (b"<p>" + bytes(range(128, 256)) * 9, "read", "unknown encoding"),
    (b"<html><body></body></html>", "extract", "no text"),
    (page("Le fleuve traverse la ville et les montagnes pour rejoindre la mer. " * 12), "language", "other language"),
    (page("Too short a page to keep here."), "length", "too short")])
def test_bad_page_is_removed_with_step_and_reason(content: bytes, step: str, reason: str) -> None:
    found = verdict(content)
    assert (found.step, found.reason) == (step, reason)
    assert len(found.text) <= 200


def test_removal_tells_the_language_and_the_length_found() -> None:
    assert verdict(page("Der Fluss fließt durch die Stadt und die Berge. " * 12)).detail.startswith("de ")
    assert verdict(b"one two three four words here", html=False).detail == "6 tokens"


def test_minimum_counts_words_of_english_and_characters_of_chinese() -> None:
    exactly = "The river runs past the old city and on to the sea. " * 9
    for text, count in ((exactly[: exactly.rindex(" sea")] + ".", 107), (chinese(2)[:130], None)):
        tokens = count_tokens(text)
        assert count is None or tokens == count
        for least, step in ((tokens, ""), (tokens + 1, "length")):
            chosen = StepSettings.parse(PLAIN | {"min_tokens": least})
            assert verdict(text.encode(), chosen, html=False).step == step


def test_steps_that_are_off_remove_nothing() -> None:
    off = StepSettings.parse(PLAIN | {"extractor": None, "languages": None, "min_tokens": 0, "exact_duplicates": False,
                                      "near_duplicates": None})
    assert off.steps() == ["read", "extract"]
    found = verdict(page("Kurz und gut, das ist alles auf dieser Seite."), off)
    assert found.step == ""
    assert "Home" in found.text


@pytest.mark.parametrize("close", [b"", b"</div>" * 100_000])
@pytest.mark.parametrize("extractor", ["fast", "precise", "trafilatura", "resiliparse", "justext"])
def test_a_page_nested_without_end_still_gives_its_text(extractor: str, close: bytes) -> None:
    chosen = StepSettings.parse(PLAIN | {"extractor": extractor})
    found = verdict(b"<div>" * 100_000 + english(1).encode() + close, chosen)
    assert found.step == ""
    assert found.text == english(1)


def test_declared_gb2312_page_that_is_utf8_and_true_gbk_page_both_read() -> None:
    text = chinese(3)
    assert text in verdict(page(text, declared="gb2312")).text
    assert text in verdict(page(text, charset="gb18030", declared="gb2312")).text
    assert text in verdict(page(text, charset="gb18030", declared="")).text


def test_language_survives_control_characters_and_finds_traditional() -> None:
    assert identify("\x00\x01" + english(2) + "\ud800\ufffe").code == "en"
    assert identify("臺灣的河流從山上開始，經過許多城市與村莊，最後流入大海。這裡的人們喜歡在河邊散步。").traditional
    assert not identify(chinese(1)).traditional
    assert identify("").code == "und"


def test_code_does_not_make_a_chinese_manual_english() -> None:
    code = "```sh\nsudo apt install the-package and then run this command in the terminal window\n```\n" * 9
    links = "[文档](https://example.com/the/long/english/path/of/a/page) " * 9
    assert identify(f"{code}安装之后，请按照下面的步骤配置服务器，然后重新启动系统。{links}" * 2).code == "zh"
    assert identify("你好").code == "zh"


def test_table_cells_stay_in_their_columns() -> None:
    table = ("<table><tr><th>City</th><th>1990</th><th>2000</th></tr><tr><td>Ulm</td><td></td><td>117</td></tr>"
             "<tr><td></td><td>5</td><td>6</td></tr><tr><td colspan=2>both</td><td>7</td></tr></table>")
    for extractor in ("fast", "precise"):
        text = extract(f"<article><p>{english(3)}</p>{table}<p>{english(4)}</p></article>", extractor)
        for row in ("City | 1990 | 2000", "\nUlm | | 117\n", "\n| 5 | 6\n", "\nboth | | 7\n"):
            assert row in text


def test_unknown_languages_are_refused_with_their_code() -> None:
    for languages, fix in (("english", "write en"), ("Chinese", "write zh"), ("hebrew", "write he"), ("zz", "ISO")):
        with pytest.raises(SettingsError, match=f"no language code(.|\\n)*{fix}"):
            Examiner(StepSettings(languages=(languages,)))
    Examiner(StepSettings(languages=("zh", "he", "und", "ja")))
    assert identify("הנהר זורם דרך העיר אל הים, ואנשים רבים גרים לאורכו כבר שנים רבות.").code == "he"


def test_tidy_gives_text_that_encodes_and_keeps_paragraphs() -> None:
    assert tidy("a\r\n b \u3000\n\n\n\nc\x00\x07\ufeff \ud83d") == "a\n b\n\nc \ufffd"
    assert tidy("\ud83d\ude00") == "😀"
    assert tidy("a \ufffd b\n\n\ufffd\ufffd \ufffd\n\nc") == "a \ufffd b\n\nc"


def test_unknown_step_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="min_tokens"):
        StepSettings.parse({"min_token": 5})


def test_real_pages_give_most_of_their_labelled_text(shared: Path) -> None:
    root = shared / "data/html/mdbook_rust_zh"
    for source in sorted((root / "source").glob("*.md"))[:4]:
        content = (root / "html" / f"{source.stem}.html").read_bytes()
        found = verdict(content)
        assert found.language == "zh"
        gold = {line.strip() for line in source.read_text("utf-8").splitlines()
                if len(line) > 30 and not set(line) & set("`[*<{")}
        assert sum(line in found.text for line in gold) >= 0.8 * len(gold), source.name


def test_tables_and_code_survive_extraction() -> None:
    body = (f"<p>{english(4)}</p><pre><code>for x in y:\n    print(x)</code></pre>"
            f"<table><tr><td>Length</td><td>412 km</td></tr></table><p>{english(5)}</p>")
    for extractor in ("trafilatura", "resiliparse"):
        text = extract(page(body).decode(), extractor)
        assert "print(x)" in text
        assert "412 km" in text
