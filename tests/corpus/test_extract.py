from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.extraction import extract as module
from headwater.corpus.extraction.blocks import DEEPEST, NestingError, check_nesting, join_blocks, read_blocks
from headwater.corpus.extraction.boilerplate import chosen, main_blocks
from headwater.corpus.extraction.extract import extract, token_f1
from headwater.corpus.reading.tidying import tidy
from tests.corpus.conftest import chinese, english, page

OURS = ["fast", "precise"]
EVERY = [*OURS, "trafilatura", "resiliparse", "justext"]
CODE = "def run(x):\n    for y in x:\n\n        print(y)"
MARKS = "“引号”《书名》、（括号），；：！？……——。"


def article(body: str) -> str:
    return page(f"{english(1)}</p>{body}<p>{english(2)}").decode()


@pytest.mark.parametrize("extractor", EVERY)
@pytest.mark.parametrize("text", [english(3), chinese(3)])
def test_main_text_is_found_without_the_navigation(extractor, text) -> None:
    found = extract(page(text).decode(), extractor)
    assert text in found
    assert "Home" not in found


@pytest.mark.parametrize("extractor", OURS)
def test_code_keeps_its_lines_and_indentation(extractor) -> None:
    marked = "<span class='k'>def</span>" + CODE.removeprefix("def")
    assert CODE in extract(article(f"<pre><code>{marked}</code></pre>"), extractor)


@pytest.mark.parametrize("extractor", OURS)
def test_a_row_of_a_table_is_a_line_with_its_cells_apart(extractor) -> None:
    rows = "".join(f"<tr><th>River {number}</th><td>{number}12 km</td><td>flows to the north.</td></tr>"
                   for number in range(1, 5))
    found = extract(article(f"<table>{rows}</table>"), extractor)
    assert "River 1 | 112 km | flows to the north.\nRiver 2 | 212 km" in found


@pytest.mark.parametrize("extractor", OURS)
def test_chinese_punctuation_and_line_breaks_survive(extractor) -> None:
    found = extract(page(f"{chinese(1)}{MARKS}<br><br>{chinese(2)}").decode(), extractor)
    assert f"{MARKS}\n{chinese(2)}" in found


@pytest.mark.parametrize("extractor", OURS)
def test_readers_comments_stay_only_where_asked_for_or_where_they_are_the_page(extractor) -> None:
    replies = "".join(f"<div class='comment'><p>{english(seed, 40)}</p></div>" for seed in range(5, 8))
    below = f"<html><body><article><p>{english(1, 400)}</p><p>{english(2)}</p></article>{replies}</body></html>"
    assert "number 6" not in extract(below, extractor)
    assert "number 6" in extract(below, "fast", comments=True)
    assert "number 6" in extract(f"<html><body>{replies}</body></html>", extractor)


def test_hidden_text_scripts_and_line_numbers_are_no_text() -> None:
    found = extract(article("<script>var x = '<p>no1</p>'</script><p style='display: none'>no2</p><p hidden>no3</p>"
                            "<td class='gutter'>no4</td>"))
    assert "no" not in {word.strip("1234") for word in found.split()}


@pytest.mark.parametrize("extractor", [*EVERY, None])
@pytest.mark.parametrize("close", ["", "</div>", "</span>"])
def test_a_page_nested_without_end_gives_its_text_and_reaches_no_extractor(extractor, close, monkeypatch) -> None:
    # Each of them is quadratic in the nesting; a page like this took minutes.
    for name in ("_trafilatura", "_resiliparse", "_justext"):
        monkeypatch.delattr(module, name)
    hostile = "<p>&lt;first<script>no</script>" + "<div>" * 200_000 + "last" + close * 200_000
    assert extract(hostile, extractor).split() == ["<first", "last"]


@pytest.mark.parametrize("extractor", [*EVERY, None])
@pytest.mark.parametrize("quoted", ["b", "'>'", '"<"'], ids=["bare", "closing", "opening"])
def test_a_page_of_endless_attributes_gives_its_text_and_reaches_no_extractor(extractor, quoted, monkeypatch) -> None:
    for name in ("_trafilatura", "_resiliparse", "_justext"):
        monkeypatch.delattr(module, name)
    hostile = "<p " + "".join(f"a{number}={quoted} " for number in range(20_000)) + ">last"
    assert extract(hostile, extractor).endswith("last")


def test_nesting_hidden_behind_tags_closed_out_of_order_is_refused() -> None:
    for hidden in ("<div></span>", "<span><div></span></div>", "<ul><li>x", "<span>x"):
        with pytest.raises(NestingError):
            check_nesting(hidden * 2 * DEEPEST)
    check_nesting("<p>a<b>b</b>" * 5000)


@pytest.mark.parametrize("hostile", ["<div " * 200_000, "<a<a<a" * 200_000 + "/>", f"<p a='{'x' * 5_000_000}'>end",
                                     "<p>" + " " * 2_000_000 + "end", "<p>end" + "\x00" * 100_000, "<!--" * 200_000,
                                     "<table><td>a<tr>b</p></b><p", "<p>\ud800 &#xd800; &#0;", ""])
def test_broken_and_oversized_markup_is_read(hostile) -> None:
    found = extract(hostile)
    assert "end" in found if "end" in hostile else len(found) < 50


PIECES = ["<div>", "</div>", "<p>", "</p>", "<table>", "<tr>", "<td>", "</td>", "<pre>", "</pre>", "<a>", "</a>",
          "<br>", "<b>", "</i>", "<nav>", "<!--", "-->", "&amp;", "\n  ", "word, ", "河流。", "<li class='comment'>",
          "<p hidden>"]
MARKUP = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=60)


@given(MARKUP)
def test_any_markup_gives_tidy_text_always_the_same(parts) -> None:
    source = "".join(parts)
    found = extract(source)
    assert found == extract(source) == tidy(found)
    blocks = read_blocks(source.replace("\x00", ""))
    assert all(parent < place for place, parent in enumerate(blocks.parents) if place)
    kept = main_blocks(blocks)
    assert bool(kept) == bool(blocks.blocks)
    assert all(block.text in join_blocks(kept) for block in kept)


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(1, 999)), min_size=1, max_size=8))
def test_the_chosen_blocks_have_the_highest_expected_f1(pairs) -> None:
    likely, sizes = (np.array(column, float) for column in zip(*pairs, strict=True))

    def expected(kept) -> float:
        return 2 * (likely * sizes)[kept].sum() / (sizes[kept].sum() + (likely * sizes).sum())

    subsets = (np.array([number >> place & 1 for place in range(len(pairs))], bool)
               for number in range(1, 1 << len(pairs)))
    assert expected(chosen(likely, sizes)) >= max(map(expected, subsets)) - 1e-9


def test_token_f1_counts_repeats() -> None:
    assert token_f1("a b b 河", "a b 河 河") == pytest.approx(2 * 3 / 8)
    assert token_f1("", "") == token_f1("a", "") == 0


def test_precise_takes_the_other_opinion_of_a_page_built_by_script() -> None:
    source = (f'<html><head><script type="application/ld+json">{{"@type": "NewsArticle", "articleBody": '
              f'"{english(4)}"}}</script></head><body><p>Loading the page.</p></body></html>')
    assert "number 4" in extract(source, "precise")
    assert "number 4" not in extract(source, "fast")


@pytest.mark.parametrize("extractor", [*EVERY, None])
def test_half_a_surrogate_pair_reaches_no_extractor(extractor) -> None:
    found = extract(article("HERE").replace("HERE", "\ud800 河 \udc00 \ud83d\ude00"), extractor)
    assert english(1) in found
    found.encode()
    extract("<p>\ud800</p>", extractor)


def test_an_unknown_extractor_is_refused_naming_the_others() -> None:
    for name in ("fsat", ""):
        with pytest.raises(ValueError, match="fast, precise, trafilatura, resiliparse, justext or None"):
            extract("<p>x</p>", name)
