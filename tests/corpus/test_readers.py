from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.corpus.reading import readers, streams, units
from headwater.corpus.reading.columns import check_columns
from headwater.corpus.reading.readers import DAMAGED, Raw, read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.units import plan_units
from headwater.errors import InputError, SettingsError
from tests.corpus.conftest import chinese, page

ROWS = [{"text": f"document {number} 文档", "url": f"http://a.b/{number}"} for number in range(5)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def documents(path: Path, **options: object) -> list[Raw]:
    source = Source.parse({"path": path, **options})
    return [raw for shard in list_shards([source]) for raw in read(shard)]


def packed(path: Path, content: bytes) -> Path:
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    return path


def response(url: str, body: bytes, kind: str = "text/html; charset=gbk", status: str = "200 OK",
             headers: str = "") -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}\r\n".encode() + body
    head = (f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http; "
            f"msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n").encode()
    return head + http + b"\r\n\r\n"


WARC = b"".join(response(f"http://a.b/{number}", page(f"body {number}")) for number in range(4))
COMPRESSIONS = ["", ".gz", ".zst"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_html_folder_gives_one_document_per_page_in_order(tmp_path: Path, suffix: str) -> None:
    for name in ("b.html", "a.htm", "sub/c.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        packed(tmp_path / f"{name}{suffix}", name.encode())
    (tmp_path / "notes.json").write_text("{}")
    found = documents(tmp_path, format="html")
    assert [(raw.url.removesuffix(suffix), raw.content.decode(), raw.html) for raw in found] == [
        (f"{tmp_path.name}/{name}", name, True) for name in ("a.htm", "b.html", "sub/c.html")]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_jsonl_keeps_text_and_url(tmp_path: Path, suffix: str) -> None:
    found = documents(packed(tmp_path / f"rows.jsonl{suffix}", JSONL))
    assert [(raw.content.decode(), raw.url) for raw in found] == [(row["text"], row["url"]) for row in ROWS]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_warc_gives_responses_with_url_and_charset(tmp_path: Path, suffix: str) -> None:
    found = documents(packed(tmp_path / f"crawl.warc{suffix}", WARC))
    assert [raw.url for raw in found] == [f"http://a.b/{number}" for number in range(4)]
    assert {raw.charset for raw in found} == {"gbk"}
    assert b"body 3" in found[3].content


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_parquet_gives_rows_of_all_row_groups(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer, row_group_size=2)
    found = documents(packed(tmp_path / f"rows.parquet{suffix}", buffer.getvalue()))
    assert [(raw.content.decode(), raw.url) for raw in found] == [(row["text"], row["url"]) for row in ROWS]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_text_files_are_whole_documents(tmp_path: Path, suffix: str) -> None:
    found = documents(packed(tmp_path / f"book.txt{suffix}", "第一章\n第二章".encode()))
    assert [(raw.content.decode(), raw.html) for raw in found] == [("第一章\n第二章", False)]


def test_gzip_of_several_members_is_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(b"".join(gzip.compress(json.dumps(row).encode() + b"\n") for row in ROWS))
    assert len(documents(tmp_path)) == 5


def test_rows_without_url_are_named_by_their_place(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert [raw.url for raw in documents(tmp_path)] == [f"{tmp_path.name}/rows.jsonl#{line}" for line in (1, 3)]


@pytest.mark.parametrize(("line", "problem"), [
    (b"{broken", "row is not JSON"), (b'{"text": "\xff\xfe"}', "row is not UTF-8"),
    (b'{"body": "x"}', "row has no text"), (b'["text"]', "row has no text"), (b"[" * 100_000, "row is not JSON")])
def test_bad_jsonl_row_is_counted_with_its_line_and_the_next_is_read(tmp_path: Path, line: bytes, problem: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "one"}\n' + line + b'\n{"text": "three"}\n')
    one, two, three = documents(tmp_path)
    assert (one.content, three.content) == (b"one", b"three")
    assert two.problem == problem
    assert "line 2" in two.detail


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_json_lines_are_read_in_the_encodings_that_pages_are(tmp_path: Path, suffix: str, encoding: str) -> None:
    texts = [("今天天氣很好，我們一起去公園散步。" if encoding == "big5" else chinese(number)) for number in range(3)]
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    found = documents(packed(tmp_path / f"rows.jsonl{suffix}", rows.encode(encoding)))
    assert [raw.content.decode() for raw in found] == texts


def test_json_lines_in_utf16_are_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Breaks when they are cut at the byte of a line feed, which is half a character there.
    for name in ("SMALLEST", "LARGEST"):
        monkeypatch.setattr(units, name, 200)
    (tmp_path / "rows.jsonl").write_bytes("".join(json.dumps(row) + "\n" for row in ROWS).encode("utf-16"))
    shards = list_shards([Source(path=tmp_path)])
    check_columns(shards)
    pieces = [piece for unit in plan_units(shards) for piece in unit.pieces]
    found = [raw for piece in pieces for raw in read(piece.shard, piece.begin, piece.end, piece.first)]
    assert [raw.content.decode() for raw in found] == [row["text"] for row in ROWS]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_documents_before_a_truncation_are_kept_and_the_loss_is_told(tmp_path: Path, suffix: str) -> None:
    rows = b"".join(json.dumps({"text": f"{number} {number * 7919 % 10007}" * 30}).encode() + b"\n"
                    for number in range(20_000))
    file = packed(tmp_path / f"rows.jsonl{suffix}", rows)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    *kept, loss = documents(file)
    assert len(kept) > 10_000
    assert all(raw.problem is None for raw in kept)
    assert loss.problem == DAMAGED
    assert f"after {len(kept) + 1} lines" in loss.detail


def test_truncated_page_is_a_loss_and_not_half_a_page(tmp_path: Path) -> None:
    file = packed(tmp_path / "page.html.gz", page("some text " * 500))
    file.write_bytes(file.read_bytes()[:-20])
    (raw,) = documents(file)
    assert (raw.problem, raw.content) == (DAMAGED, b"")


@pytest.mark.parametrize("cut", [10, 180, 330])
def test_truncated_warc_keeps_the_whole_records(tmp_path: Path, cut: int) -> None:
    (tmp_path / "crawl.warc").write_bytes(WARC[:-cut])
    found = documents(tmp_path)
    assert [raw.url for raw in found if raw.problem is None] == [f"http://a.b/{number}" for number in range(3)]
    assert found[-1].problem == DAMAGED


def test_truncated_warc_gzip_keeps_the_records_before(tmp_path: Path) -> None:
    members = [gzip.compress(response(f"http://a.b/{number}", page(f"body {number}"))) for number in range(4)]
    (tmp_path / "crawl.warc.gz").write_bytes(b"".join(members)[:-30])
    found = documents(tmp_path)
    assert [raw.url for raw in found if raw.problem is None] == [f"http://a.b/{number}" for number in range(3)]
    assert found[-1].problem == DAMAGED


def test_warc_responses_that_are_no_pages_are_counted(tmp_path: Path) -> None:
    (tmp_path / "crawl.warc").write_bytes(response("http://a.b/i", b"\x89PNG", "image/png") + response(
        "http://a.b/m", page("gone"), status="404 Not Found"))
    assert [(raw.problem, raw.detail) for raw in documents(tmp_path)] == [
        ("not HTML", "image/png"), ("not a page", "HTTP status 404")]


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: deflate",
                                    "Transfer-Encoding: chunked", "Content-Encoding: unheard-of"])
@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_badly_encoded_response_costs_itself_at_most(tmp_path: Path, suffix: str, header: str) -> None:
    # Breaks when it is decoded from the archive's stream, which has then no reader left.
    plain = response("http://a.b/plain", page("as it is"), headers=f"{header}\r\n")
    broken = response("http://a.b/broken", b"\x1f\x8b\x08 broken", headers=f"{header}\r\n")
    found = documents(packed(tmp_path / f"crawl.warc{suffix}", WARC + plain + broken + WARC))
    assert [raw.problem for raw in found] == [None] * 5 + ["damaged HTTP response"] + [None] * 4
    assert found[4].content == page("as it is")
    assert found[:4] == found[6:]


def test_encoded_responses_are_decoded(tmp_path: Path) -> None:
    body = page("decoded")
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    (tmp_path / "crawl.warc").write_bytes(
        response("http://a.b/1", gzip.compress(body), headers="Content-Encoding: GZIP\r\n")
        + response("http://a.b/2", chunked, headers="Transfer-Encoding: chunked\r\n"))
    assert [raw.content for raw in documents(tmp_path)] == [body, body]


def test_the_content_type_is_told_in_any_case(tmp_path: Path) -> None:
    kinds = ["TEXT/HTML", "Text/Html;Charset=GBK", "application/XHTML+xml", "TEXT/PLAIN; charset=utf-8"]
    (tmp_path / "crawl.warc").write_bytes(b"".join(response("http://a.b/", page("x"), kind) for kind in kinds))
    found = documents(tmp_path)
    assert [(raw.problem, raw.html) for raw in found] == [(None, True)] * 3 + [(None, False)]


def test_a_damaged_record_head_costs_what_was_read_ahead_and_not_the_archive(tmp_path: Path) -> None:
    records = [response(f"http://a.b/{number}", page(f"{number} " * 300)) for number in range(400)]
    records[100] = records[100].replace(b"WARC/1.0", b"WAXC/1.0")
    (tmp_path / "crawl.warc").write_bytes(b"".join(records))
    found = documents(tmp_path)
    kept = [raw.url for raw in found if raw.problem is None]
    assert len(kept) == len(set(kept)) > 250
    assert kept[:100] == [f"http://a.b/{number}" for number in range(100)]
    assert kept[-1] == "http://a.b/399"
    assert [raw.detail for raw in found if raw.problem] == ["after 100 responses: Invalid WARC header"]


def test_file_that_is_no_warc_is_a_loss(tmp_path: Path) -> None:
    (tmp_path / "crawl.warc").write_bytes(b"this is no archive\r\n" * 50)
    (raw,) = documents(tmp_path)
    assert raw.problem == DAMAGED


def test_damaged_parquet_is_a_loss_and_damaged_row_group_loses_only_itself(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet PAR1")
    rows = [{"text": f"{number * 7919 % 100_003} " * 50} for number in range(300)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=100, compression="gzip",
                   use_dictionary=False)
    content = bytearray((tmp_path / "b.parquet").read_bytes())
    column = pq.read_metadata(tmp_path / "b.parquet").row_group(1).column(0)
    end = column.data_page_offset + column.total_compressed_size
    content[end - 400: end - 200] = b"\xff" * 200
    (tmp_path / "b.parquet").write_bytes(content)
    found = documents(tmp_path)
    assert [(raw.url, raw.problem) for raw in found if raw.problem] == [
        (f"{tmp_path.name}/a.parquet", DAMAGED), (f"{tmp_path.name}/b.parquet#101", DAMAGED)]
    assert sum(raw.problem is None for raw in found) == 200


def test_missing_text_column_is_refused_before_the_work_naming_the_nearest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"texts": ["x"], "id": [1]}), tmp_path / "rows.parquet")
    with pytest.raises(InputError) as caught:
        check_columns(list_shards([Source(path=tmp_path, name="rows")]))
    assert "texts, id" in str(caught.value)
    assert "'texts'" in str(caught.value.fix)
    with pytest.raises(InputError, match="int64, not text"):
        check_columns(list_shards([Source(path=tmp_path, text_column="id")]))
    packed(tmp_path / "rows.parquet.gz", (tmp_path / "rows.parquet").read_bytes())
    (tmp_path / "rows.parquet").unlink()
    with pytest.raises(InputError, match="no column 'text'"):
        check_columns(list_shards([Source(path=tmp_path)]))


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_json_lines_of_which_none_has_the_text_column_are_refused(tmp_path: Path, suffix: str) -> None:
    packed(tmp_path / f"pairs.jsonl{suffix}", b'broken\n{"classical": "x", "modern": "y"}\n' * 30)
    with pytest.raises(InputError) as caught:
        check_columns(list_shards([Source(path=tmp_path)]))
    assert "classical, modern" in str(caught.value)
    check_columns(list_shards([Source(path=tmp_path, text_column="modern")]))


def test_a_damaged_table_is_no_reason_to_refuse(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet.gz", "c.jsonl", "d.jsonl.gz"):
        (tmp_path / name).write_bytes(b"{damaged\n")
    check_columns(list_shards([Source(path=tmp_path)]))
    assert {raw.problem for raw in documents(tmp_path)} == {DAMAGED, "row is not JSON"}


def test_missing_and_empty_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        list_shards([Source(path=tmp_path / "nowhere")])
    with pytest.raises(InputError, match="holds no html file"):
        list_shards([Source(path=tmp_path, format="html")])


def test_include_patterns_choose_files_and_unknown_kinds_are_counted(tmp_path: Path) -> None:
    for name in ("en/a.html", "en/b.pdf", "zh/c.html", "zh/.hidden.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = documents(tmp_path, include=["en/*"])
    source = tmp_path.name
    assert [(raw.url, raw.problem) for raw in found] == [(f"{source}/en/a.html", None),
                                                         (f"{source}/en/b.pdf", "unknown kind of file")]
    assert [raw.url for raw in documents(tmp_path, format="html")] == [f"{source}/en/a.html", f"{source}/zh/c.html"]
    assert [raw.url for raw in documents(tmp_path / "en/a.html")] == ["a.html"]
    assert [raw.url for raw in documents(tmp_path / "en/a.html", name="mine")] == ["mine/a.html"]


def test_documents_of_any_size_are_counted_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (readers, streams):
        monkeypatch.setattr(module, "LARGEST", 100)
    bomb = packed(tmp_path / "bomb.txt.gz", b"x" * 100_000)
    rows = packed(tmp_path / "rows.jsonl", b'{"text": "a"}\n{"text": "' + b"y" * 1000 + b'"}\n{"text": "b"}\n')
    archive = packed(tmp_path / "a.warc", response("http://a.b/1", b"z" * 1000) + response("http://a.b/2", b"c"))
    found = [(raw.content, raw.problem) for path in (bomb, rows, archive) for raw in documents(path)]
    large = (b"", readers.TOO_LARGE)
    assert found == [large, (b"a", None), large, (b"b", None), large, (b"c", None)]


def test_a_name_that_is_no_text_is_kept_as_far_as_it_is(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xffname.html")).write_text("<p>a page</p>")
    (tmp_path / "good.html").write_text("<p>a page</p>")
    assert [raw.url for raw in documents(tmp_path)] == [
        f"{tmp_path.name}/bad\ufffdname.html", f"{tmp_path.name}/good.html"]


@pytest.mark.parametrize("pattern", ["/etc/*", "**a", "../*", ""])
@pytest.mark.parametrize("name", ["include", "exclude"])
def test_patterns_that_leave_the_folder_or_mean_nothing_are_refused(tmp_path: Path, name: str, pattern: str) -> None:
    with pytest.raises(SettingsError, match="must be relative to the folder"):
        Source.parse({"path": tmp_path, name: [pattern]})
