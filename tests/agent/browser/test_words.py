import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agent.browser.words import MOST_WORDS, SNIPPET, index_words, match_query, snippet


@pytest.mark.parametrize(("text", "words"), [
    ("The River's 3rd bank", "the river s 3rd bank"), ("河流入湖", "河流 流入 入湖"), ("河", "河"),
    ("GLM4模型A", "glm4 模型 a"), ("ＡＢＣ１２", "abc12"), ("Straße", "strasse"), ("川のほとり", "川の のほ ほと とり"),
    ("a_b—c", "a b c"), ("", ""), ("。，！", "")])
def test_texts_become_words(text, words):
    assert index_words(text) == words


def test_a_query_asks_for_any_of_its_words_each_once_and_quoted():
    assert match_query('River NOT river "NEAR(') == '"river" OR "not" OR "near"'
    assert match_query("what is the river's length") == '"river" OR "s" OR "length"'
    assert match_query("湖有什么鱼？") == '"湖有" OR "有什" OR "么鱼"'
    assert match_query("什么") == '"什么"'
    assert match_query("to be or") == '"to" OR "be" OR "or"'
    assert match_query("湖深") == '"湖深"'
    assert match_query("湖") == '"湖"*'
    assert match_query(" ?! ") == ""
    assert match_query(" ".join(f"w{number}" for number in range(99))).count(" OR ") == MOST_WORDS - 1


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ['"', "'", "*", "^", "(", ")", "{", "}", ":", "-", "+", ",", "AND", "OR", "NOT", "NEAR", "title:", "body", "\x00",
     "河", "a"]), max_size=12).map(" ".join))
def test_no_text_is_syntax_to_the_index(text):
    table = sqlite3.connect(":memory:")
    table.execute("CREATE VIRTUAL TABLE words USING fts5(title, body, content='')")
    table.execute("INSERT INTO words (rowid, title, body) VALUES (1, 'one', 'two')")
    if asked := match_query(text):
        table.execute("SELECT rowid FROM words WHERE words MATCH ?", [asked]).fetchall()


@given(st.text(min_size=1, max_size=30))
def test_a_text_is_found_by_itself(text):
    words = index_words(text)
    table = sqlite3.connect(":memory:")
    table.execute('CREATE VIRTUAL TABLE words USING fts5(body, content=\'\', tokenize="porter unicode61")')
    table.execute("INSERT INTO words (rowid, body) VALUES (1, ?)", [words])
    # What the index takes for no letter though Python does, as some marks, is found by nothing.
    table.execute("CREATE VIRTUAL TABLE known USING fts5vocab('words', 'row')")
    if table.execute("SELECT count(*) FROM known").fetchone()[0]:
        assert table.execute("SELECT rowid FROM words WHERE words MATCH ?", [match_query(text)]).fetchall() == [(1,)]


@pytest.mark.parametrize("query", ["needle hay", "NEEDLE", "needle?"])
def test_a_snippet_shows_where_the_words_are(query):
    text = "start " + "filler words " * 200 + "a needle\nin hay " + "filler words " * 200
    shown = snippet(text, query)
    assert "needle in hay" in shown
    assert len(shown) <= SNIPPET + 2
    assert shown.startswith("…")
    assert shown.endswith("…")


def test_a_snippet_prefers_the_place_of_more_words():
    text = "绿湖很深。" + "别的话。" * 200 + "绿湖的水流入蓝河。" + "别的话。" * 200
    assert "流入蓝河" in snippet(text, "绿湖流入蓝河")


@given(st.text(max_size=400), st.text(max_size=20))
def test_any_text_has_a_snippet_of_one_line(text, query):
    shown = snippet(text, query)
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= SNIPPET + 2
