"""Breaks when a file's rows depend on where it was cut for reading, or a damaged file passes for a shorter one."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.dialogues import rows
from headwater.dialogues.rows import read_rows
from headwater.errors import InputError

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9),
                      lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=6)


def values(path):
    return [row.value for row in read_rows(path)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("rows") / "d.json"


@given(written=st.lists(VALUES, max_size=8), part=st.integers(1, 40), indent=st.sampled_from([None, 1, 2]))
def test_an_array_is_read_the_same_however_it_is_cut(path, written, part, indent):
    path.write_text(json.dumps(written, ensure_ascii=False, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PART", part)
        assert values(path) == written


def test_rows_know_their_lines(tmp_path):
    path = tmp_path / "d.json"
    path.write_text('\n[\n {"a": 1},\n {"a":\n 2}, {"a": 3}\n]\n')
    assert [row.place for row in read_rows(path)] == [f"{path}, row {number} on line {line}"
                                                      for number, line in ((1, 3), (2, 4), (3, 5))]
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [row.place for row in read_rows(path)] == [f"{path}, line 1", f"{path}, line 3"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_the_content_and_not_the_name_tells_the_form(tmp_path, suffix):
    path = tmp_path / f"d{suffix}"
    for text in ('{"a": 1}\n{"a": 2}', '[{"a": 1}, {"a": 2}]'):
        path.write_text(text)
        assert values(path) == [{"a": 1}, {"a": 2}]
        path.write_text(f"\ufeff{text}", encoding="utf-8")
        assert values(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(("text", "words"), [
    ('[{"a": 1}, {"a": ', "row 2 on line 1: not valid JSON"), ('[{"a": 1}', "cut off or broken after row 1"),
    ('[{"a": 1}\n{"a": 2}]', "line 2: the array is cut off or broken after row 1"),
    ('[{"a": 1},]', "row 2 on line 1: not valid JSON"), ('[{"a": 1}]\n[2]', "line 2: more text behind the array"),
    ('[\n1,\n{"a": yes}]', r"Expecting value \(line 3\)"),
    ('{"a": 1}\n{"a": }\n', "line 2 is not valid JSON: Expecting value, column 7\n"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a": 1}\n{"b": {"a": 1, "a": 2}}', "line 2(.|\n)*the key 'a' stands twice"),
    ('[{"a": 1},\n{"a": 1, "b": 2, "a": 3}]', "row 2 on line 2: not valid JSON: the key 'a' stands twice")])
def test_a_damaged_file_is_refused_with_its_line(tmp_path, text, words):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        values(path)


@pytest.mark.parametrize("text", [b'{"a": 1}\n{"a": "Malm\xf6"}\n{"a": 3}', b'[{"a": 1},\n{"a": "Malm\xf6"}]',
                                  b'{"a": 1}\n{"a": "Malm\xf6'])
def test_a_byte_that_is_no_utf8_is_named_by_its_line(tmp_path, text):
    (tmp_path / "d.jsonl").write_bytes(text)
    with pytest.raises(InputError, match=r"line 2 is not UTF-8 text: byte 0xf6 at place 12") as told:
        values(tmp_path / "d.jsonl")
    assert told.value.where == str(tmp_path / "d.jsonl")


def test_what_is_no_file_of_text_is_refused(tmp_path):
    (tmp_path / "d.json").write_bytes(b'["\xff\xfe"]')
    for path, words in ((tmp_path, "this is a folder"), (tmp_path / "x", "no such file"),
                        (tmp_path / "d.json", "line 1 is not UTF-8 text")):
        with pytest.raises(InputError, match=words):
            values(path)


def test_a_packed_file_is_read_as_what_is_in_it(tmp_path):
    text = json.dumps({"a": "维尔纳"}, ensure_ascii=False) + "\n" + json.dumps({"a": 2})
    whole, cut = tmp_path / "d.jsonl.gz", tmp_path / "cut.jsonl.gz"
    whole.write_bytes(gzip.compress(text.encode()))
    assert list(read_rows(whole)) == [({"a": "维尔纳"}, f"{whole}, line 1"), ({"a": 2}, f"{whole}, line 2")]
    cut.write_bytes(whole.read_bytes()[:-12])
    with pytest.raises(InputError, match="cannot be unpacked"):
        values(cut)
    cut.write_text(text)
    with pytest.raises(InputError, match="cannot be unpacked"):
        values(cut)
