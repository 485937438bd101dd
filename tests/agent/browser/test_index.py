import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.agent.browser import building
from headwater.agent.browser.building import IndexSettings, index
from headwater.agent.browser.index import VERSION, Index
from headwater.artifacts import write_json
from headwater.cli.main import main
from headwater.errors import InputError, StorageError
from tests.agent.browser.conftest import write_pages

PAGES = {"a.txt": "Velna\n\nThe river Velna is 482 km long and rises on Mount Taro.",
         "b.txt": "Oruma\n\nLake Oruma is green. The Velna flows into it; fishermen love the lake.",
         "zh/c.txt": "维尔纳河\n\n维尔纳河全长482公里，发源于塔罗山。",
         "zh/d.txt": "奥鲁马湖\n\n奥鲁马湖是绿色的，湖深一百二十米。"}


@pytest.fixture
def built(tmp_path):
    """An index of four pages, its folder of pages and its file."""
    folder, file = write_pages(tmp_path / "pages", PAGES), tmp_path / "x.index"
    index(folder, file)
    return folder, file


def addresses(file, query: str) -> list[str]:
    return [one.url for one in Index(file).search(query, 10)]


@pytest.mark.parametrize(("query", "expected"), [
    ("how long is the river Velna", "pages/a.txt"), ("fishermen", "pages/b.txt"), ("fisherman's lakes", "pages/b.txt"),
    ("维尔纳河全长多少公里", "pages/zh/c.txt"), ("奥鲁马湖有多深", "pages/zh/d.txt"), ("湖", "pages/zh/d.txt"),
    ("VELNA LENGTH KM", "pages/a.txt"), ("塔罗", "pages/zh/c.txt")])
def test_the_page_that_tells_comes_first(built, query, expected):
    assert addresses(built[1], query)[0] == expected


def test_a_page_is_given_back_with_its_title_and_text(built):
    found = Index(built[1])
    page = found.page("pages/zh/c.txt")
    assert (page.title, page.text) == ("维尔纳河", PAGES["zh/c.txt"])
    assert found.page("pages/e.txt") is None
    assert len(found) == len(PAGES)
    [result] = found.search("fishermen", 10)
    assert (result.title, "fishermen love the lake" in result.snippet) == ("Oruma", True)


def test_a_query_without_words_or_without_a_page_finds_nothing(built):
    assert addresses(built[1], "?!") == addresses(built[1], "zebra") == []


def test_a_word_in_the_title_counts_more_than_one_in_the_text(tmp_path):
    write_pages(tmp_path / "p", {"one.txt": "Bridges\n\nabout stone and water and a road and a field",
                                 "two.txt": "Stone\n\nabout bridges and water and a road and a field"})
    index(tmp_path / "p", tmp_path / "x")
    assert addresses(tmp_path / "x", "bridges") == ["p/one.txt", "p/two.txt"]


def test_an_index_follows_its_corpus_and_is_then_as_a_new_one(built, tmp_path):
    folder, file = built
    (folder / "a.txt").unlink()
    write_pages(folder, {"b.txt": "Oruma\n\nNow it is blue.", "e.txt": "A new page of salmon."})
    counts = index(folder, file)
    assert {name: counts[name] for name in ("pages", "new", "changed", "gone")} == {
        "pages": 4, "new": 1, "changed": 1, "gone": 1}
    assert addresses(file, "fishermen") == addresses(file, "Taro") == []
    index(folder, tmp_path / "new.index")
    for query in ("blue", "salmon", "湖", "Oruma", "the"):
        assert Index(file).search(query, 10) == Index(tmp_path / "new.index").search(query, 10)
    counts = index(folder, file)
    assert counts["new"] == counts["changed"] == counts["gone"] == 0


def test_unchanged_pages_are_not_read_again(built, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("an unchanged page is worked on")

    monkeypatch.setattr(building, "index_words", refuse)
    assert index(*built)["pages"] == len(PAGES)


def test_a_reader_keeps_what_it_opened_while_the_index_is_built_again(built):
    folder, file = built
    reading = Index(file)
    (folder / "a.txt").unlink()
    index(folder, file)
    assert reading.page("pages/a.txt") is not None
    assert Index(file).page("pages/a.txt") is None


def test_a_build_that_fails_leaves_the_old_index(built, monkeypatch):
    folder, file = built
    before = file.read_bytes()
    write_pages(folder, {"f.txt": "another page"})

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(building._Writer, "finish", full)
    with pytest.raises(StorageError):
        index(folder, file)
    assert file.read_bytes() == before
    assert [one.name for one in file.parent.iterdir() if one.name.startswith(".")] == []


def test_web_pages_are_indexed_by_their_main_text_in_their_encoding(tmp_path):
    body = "".join(f"<p>这条河的第{number}段流过许多村庄和田野，河水清澈，两岸是树林。</p>" for number in range(5))
    page = (f"<html><head><meta charset=gb2312><title> 河流&amp;湖泊\n志 </title></head><body><nav>"
            f"<a href=/>首页导航</a></nav><article>{body}</article></body></html>")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/x.html").write_bytes(page.encode("gb18030"))
    index(tmp_path / "p", tmp_path / "x")
    found = Index(tmp_path / "x").page("p/x.html")
    assert found.title == "河流&湖泊 志"
    assert "第3段流过许多村庄" in found.text
    assert addresses(tmp_path / "x", "村庄和田野") == ["p/x.html"]
    assert addresses(tmp_path / "x", "导航") == []


def test_rows_have_the_addresses_that_they_name(tmp_path):
    rows = [{"text": "one salmon", "url": "https://example.org/1"}, {"text": "two trout"},
            {"text": "salmon again", "url": "https://example.org/1"}, {"text": ""}]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    counts = index(tmp_path / "r.jsonl", tmp_path / "x")
    assert (counts["pages"], counts["repeated"], counts["empty"]) == (2, 1, 1)
    assert addresses(tmp_path / "x", "salmon") == ["https://example.org/1"]
    assert addresses(tmp_path / "x", "trout") == ["r.jsonl#2"]


def corpus(folder, **splits: list[str]):
    """A folder as the corpus stage writes it, with a table that is no split."""
    named = {}
    for split, texts in {**splits, "removed": ["never this one"]}.items():
        (folder / split).mkdir(parents=True)
        table = pa.table({"text": texts, "url": [f"https://example.org/{split}/{text[:3]}" for text in texts]})
        pq.write_table(table, folder / split / "0.parquet")
        named[split] = [{"name": f"{split}/0.parquet", "rows": len(texts)}]
    del named["removed"]
    write_json(folder / "parts.json", {"store": None, "splits": named})
    return folder


def test_a_corpus_is_indexed_by_its_records(tmp_path):
    corpus(tmp_path / "c", train=["one river", "two lakes"], validation=["three cities"])
    assert index(tmp_path / "c", tmp_path / "x")["pages"] == 3
    assert addresses(tmp_path / "x", "cities") == ["https://example.org/validation/thr"]
    assert addresses(tmp_path / "x", "never") == []
    corpus(tmp_path / "d", train=["one river"])
    assert index(tmp_path / "d", tmp_path / "y")["pages"] == 1
    with pytest.raises(InputError, match="text_column has no effect"):
        index(tmp_path / "c", tmp_path / "x", IndexSettings(text_column="body"))


def test_a_longer_page_is_cut_and_that_is_counted(tmp_path):
    write_pages(tmp_path / "p", {"x.txt": "begin " + "word " * 100 + "end"})
    assert index(tmp_path / "p", tmp_path / "x", IndexSettings(longest=200))["cut"] == 1
    assert addresses(tmp_path / "x", "begin") == ["p/x.txt"]
    assert addresses(tmp_path / "x", "end") == []


@pytest.mark.parametrize(("make", "message"), [
    (lambda file: None, "no such index"), (lambda file: file.write_text("hello"), "no index"),
    (lambda file: sqlite3.connect(file).execute("CREATE TABLE page (id)"), "no index"),
    (lambda file: file.write_bytes(b"SQLite format 3\x00" + bytes(200)), "no index"),
    (lambda file: file.mkdir(), "no")])
def test_what_is_no_index_is_refused_and_not_overwritten(tmp_path, make, message):
    file = tmp_path / "x"
    make(file)
    with pytest.raises(InputError, match=message):
        Index(file)
    if file.exists():
        write_pages(tmp_path / "p", PAGES)
        with pytest.raises(InputError):
            index(tmp_path / "p", file)


def test_an_index_of_another_version_is_told_apart(built):
    connection = sqlite3.connect(built[1])
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(InputError, match="version"):
        Index(built[1])


def test_a_damaged_index_is_an_error_with_its_name(built):
    content = bytearray(built[1].read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    built[1].write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Index(built[1]).search("river", 3)


def test_a_corpus_without_text_is_refused(tmp_path):
    write_pages(tmp_path / "p", {"x.txt": "  \n"})
    with pytest.raises(InputError, match="no page"):
        index(tmp_path / "p", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match="no such"):
        index(tmp_path / "absent", tmp_path / "x")


def test_the_command_writes_an_index(tmp_path, capsys):
    write_pages(tmp_path / "p", PAGES)
    assert main(["index", str(tmp_path / "p"), "--out", str(tmp_path / "x"), "longest=5000"]) == 0
    assert "4 pages, 4 new" in capsys.readouterr().out
    assert main(["index", str(tmp_path / "p"), "--out", str(tmp_path / "x"), "longst=5"]) == 2
    assert main(["index", str(tmp_path / "absent"), "--out", str(tmp_path / "y")]) == 2
