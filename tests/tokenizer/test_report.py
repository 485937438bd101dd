"""Breaks when a figure is not the plain quotient, a text is lost or taken twice, or tokenizers see other texts."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.tokenizer.report import ReportSettings, compare, report
from headwater.tokenizer.texts import batches, language_of, read_texts

ENGLISH, CHINESE = "The river is 12 km long.", "河水流入大海，湖深一百二十米。"


def settings(folder, **kinds):
    return ReportSettings(tokenizers=[folder], texts=kinds)


def test_figures_are_the_quotients_by_language(trained, small_model, tmp_path):
    (tmp_path / "a.txt").write_text(ENGLISH)
    (tmp_path / "b.md").write_text(CHINESE)
    rows = {row.language: row for row in compare(settings(small_model, prose=tmp_path))}
    for language, text in (("en", ENGLISH), ("zh", CHINESE)):
        row, tokens = rows[language], len(trained.encode(text))
        assert (row.texts, row.tokens, row.vocab_size) == (1, tokens, trained.vocab_size)
        assert row.bytes_per_token == len(text.encode()) / tokens
        assert row.characters_per_token == len(text) / tokens
        assert row.tokens_per_character == tokens / len(text)
    assert rows["en"].partial == 0


def test_parts_of_characters_are_counted(small_model, tmp_path):
    (tmp_path / "a.txt").write_text("龘a")  # no piece of its own: three bytes
    assert compare(settings(small_model, rare=tmp_path))[0].partial == 0.75


def test_every_form_of_file_gives_its_texts(tmp_path):
    rows = [{"instruction": "one", "input": "", "output": "two", "id": "x"},
            {"conversations": [{"from": "human", "value": "three"}, {"from": "gpt", "value": "four"}]},
            {"messages": [{"role": "user", "content": "five"}], "tools": "none"}]
    pq.write_table(pa.table({"text": ["six", None, "seven"]}), tmp_path / "a.parquet")
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows[:2])))
    (tmp_path / "d.py").write_text("print(8)")
    (tmp_path / "e.bin").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "f.json").write_text("\n".join(map(json.dumps, rows[1:])))
    found = [text for text, _ in read_texts(tmp_path)]
    assert found == ["six", "seven", "one\n\ntwo", "three\nfour", "five", "one\n\ntwo", "three\nfour", "print(8)",
                     "three\nfour", "five"]


def test_a_corpus_says_the_language_itself(tmp_path):
    pq.write_table(pa.table({"text": [ENGLISH, CHINESE], "language": ["de", None]}), tmp_path / "a.parquet")
    assert list(read_texts(tmp_path)) == [(ENGLISH, "de"), (CHINESE, "zh")]


def test_what_is_no_text_in_a_folder_is_left_out_and_named(tmp_path, capsys):
    (tmp_path / "a.py").write_text("print(8)")
    (tmp_path / "b.txt").write_bytes("河流".encode("gbk"))
    (tmp_path / "c.json").write_text('{"name": "d"}')
    (tmp_path / "d.jsonl").write_text('{"text": "e"}\n{"text"')
    assert [text for text, _ in read_texts(tmp_path)] == ["print(8)"]
    said = capsys.readouterr().err
    assert all(name in said for name in ("b.txt is left out", "c.json is left out", "d.jsonl is left out: line 2"))


@pytest.mark.parametrize(("name", "content", "told"), [
    ("a.jsonl", b'{"text": "a"}\n{"text": ', "Expecting value"),
    ("a.jsonl", b'{"words": "a"}', "nothing stands under"),
    ("a.txt", b"\xff\xfe\xff", "decode"),
    ("a.json", b'{"text": "\\ud800"}', "surrogates"),
    ("a.parquet", b"PAR1", "Parquet"),
])
def test_a_damaged_or_strange_file_is_named(small_model, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told) as raised:
        compare(settings(small_model, prose=tmp_path / name))
    assert name in str(raised.value)


def test_a_kind_without_text_is_refused(small_model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no text of the kind 'code'"):
        compare(settings(small_model, code=tmp_path / "empty"))


@given(st.lists(st.sampled_from(["a", "bb bb", "河", "河水流", "x" * 9]), max_size=600), st.integers(1, 40))
def test_of_each_language_as_much_is_taken_as_there_is_or_may_be(texts, limit):
    taken = {"en": "", "zh": ""}
    for language, batch in batches([(text, language_of(text)) for text in texts], limit):
        taken[language] += "".join(batch)
    for language, own in taken.items():
        assert own == "".join(text for text in texts if language_of(text) == language)[:limit]


def test_tokenizers_called_alike_and_kinds_with_signs_keep_their_names(small_model, tmp_path):
    for folder in ("x/m/tok", "y/m/tok", "z"):
        shutil.copytree(small_model, tmp_path / folder)
    (tmp_path / "a.txt").write_text(ENGLISH)
    paths = [tmp_path / "x/m/tok", tmp_path / "y/m/tok", tmp_path / "z/tokenizer.model", tmp_path / "z/tokenizer.model"]
    report(tmp_path / "out", ReportSettings(tokenizers=paths, texts={"$_^$": tmp_path / "a.txt"}))
    rows = json.loads((tmp_path / "out/compression.json").read_text())
    assert [(row["tokenizer"], row["kind"]) for row in rows] == [(name, "$_^$") for name in
                                                                 ("x/m/tok", "y/m/tok", "z")]


def test_a_target_that_is_a_file_is_told(small_model, tmp_path):
    (tmp_path / "a.txt").write_text(ENGLISH)
    with pytest.raises(InputError, match="cannot be made a folder"):
        report(tmp_path / "a.txt", settings(small_model, prose=tmp_path / "a.txt"))


def test_the_report_writes_table_and_plot(small_model, tmp_path, capsys):
    (tmp_path / "a.txt").write_text(ENGLISH + CHINESE)
    report(tmp_path / "out", settings(small_model, prose=tmp_path / "a.txt"))
    report(tmp_path / "again", settings(small_model, prose=tmp_path / "a.txt"))
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".json", ".md", ".svg"}
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
    assert "bytes/token" in capsys.readouterr().out
