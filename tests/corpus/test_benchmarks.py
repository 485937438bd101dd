from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from headwater.corpus.decontamination.benchmarks import BenchmarkSource, Question, read_benchmark
from headwater.errors import InputError


def read(folder: Path, files: dict[str, str | bytes], **settings: Any) -> list[Question]:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_benchmark(BenchmarkSource(path=folder, name="b", **settings)).questions)


def parts(questions: list[Question]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(question.text, question.options, question.answer) for question in questions]


CHOICE = [("Which?", ("one", "two, or 2", "three", "four"), "two, or 2")]
FORMATS: dict[str, tuple[str, str, list[tuple[str, tuple[str, ...], str]]]] = {
    "mmlu": ("test/x_test.csv", 'Which?,one,"two, or 2",three,four,B\n', CHOICE),
    "ceval": ("val/x_val.csv", 'id,question,A,B,C,D,answer\n0,Which?,one,"two, or 2",three,four,B\n', CHOICE),
    "cmmlu": ("test/x.csv", ',Question,A,B,C,D,Answer\n0,Which?,one,"two, or 2",three,four,B\n', CHOICE),
    "gsm8k": ("test.jsonl", '{"question": "How many?", "answer": "1+1 #### 2"}\n', [("How many?", (), "1+1 #### 2")]),
    "mgsm": ("mgsm_zh.tsv", "多少？\t1,200\n", [("多少？", (), "1,200")]),
    "bbh": ("bbh/x.json", '{"canary": "c", "examples": [{"input": "not True is", "target": "False"}]}',
            [("not True is", (), "False")]),
    "humaneval": ("H.jsonl", '{"task_id": "H/0", "prompt": "def f():", "entry_point": "f", "canonical_solution": "x"}',
                  [("def f():", (), "x")]),
    "mbpp": ("mbpp.jsonl", '{"task_id": 1, "text": "Write f.", "code": "f = 1"}', [("Write f.", (), "f = 1")]),
    "squad": ("dev.json", json.dumps({"data": [{"paragraphs": [{"context": "Long passage.", "qas": [
        {"question": "Who?", "answers": [{"text": "She"}]}, {"question": "When?", "answers": []}]}]}]}),
        [("Who?", (), "She"), ("When?", (), "")]),
    "records": ("own.json", '[{"query": "Where?", "label": 3}]', [("Where?", (), "3")]),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("named", [False, True])
def test_each_published_format_is_told_by_content_and_read_when_named(tmp_path: Path, kind: Any, named: bool) -> None:
    name, content, expected = FORMATS[kind]
    source = BenchmarkSource(path=tmp_path / "b", format=kind if named else "auto")
    assert parts(read(tmp_path / "b", {name: content})) == expected
    assert read_benchmark(source).formats == {kind: 1}


def test_files_of_another_format_than_the_named_one_are_left_out(tmp_path: Path) -> None:
    read(tmp_path, {"a.jsonl": FORMATS["gsm8k"][1], "b.json": FORMATS["bbh"][1]})
    benchmark = read_benchmark(BenchmarkSource(path=tmp_path, format="gsm8k"))
    assert (len(benchmark.questions), benchmark.left_out) == (1, ("b.json",))


def test_answer_keys_and_mappings_are_left_out_and_counted(tmp_path: Path) -> None:
    read(tmp_path, {"map.json": '{"law": ["Law", "法律"]}', "q.jsonl": FORMATS["gsm8k"][1]})
    benchmark = read_benchmark(BenchmarkSource(path=tmp_path, name="mine"))
    assert benchmark.describe() == "mine: 1 questions from 1 gsm8k files; left out: 1 files without questions"


def test_a_list_of_questions_gives_one_each_under_its_record(tmp_path: Path) -> None:
    # Joined into one, a leaked first turn would be too small a share of it.
    found = read(tmp_path, {"q.jsonl": '{"turns": ["First?", "Then?"]}\n{"turns": ["Another?"]}\n'})
    assert [(question.text, question.row) for question in found] == [("First?", 1), ("Then?", 1), ("Another?", 2)]


def test_a_passage_belongs_to_its_question(tmp_path: Path) -> None:
    found = read(tmp_path, {"q.jsonl": '{"passage": "P.", "question": "Q?", "options": ["x", "(B)y"], "label": "B"}'})
    assert parts(found) == [("P.\nQ?", ("x", "(B)y"), "(B)y")]


def test_own_fields_can_be_named(tmp_path: Path) -> None:
    rows = {"mine.csv": "frage,loesung\nWas?,Das\n"}
    assert parts(read(tmp_path, rows, question_field="frage", answer_field="loesung")) == [("Was?", (), "Das")]


def test_records_may_be_separated_by_tabs(tmp_path: Path) -> None:
    assert parts(read(tmp_path, {"a.tsv": "question\tanswer\nQ?\tA\n"}, format="records")) == [("Q?", (), "A")]


def test_essays_are_not_taken_for_questions_unless_text_is_asked_for(tmp_path: Path) -> None:
    essays = {"essay.txt": "First line of prose.\nSecond line.\n\n"}
    with pytest.raises(InputError, match="text for plain text"):
        read(tmp_path, essays)
    assert [question.text for question in read(tmp_path, essays, format="text")] == [
        "First line of prose.", "Second line."]


def test_compressed_files_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    content = gzip.compress(b"\xef\xbb\xbf" + FORMATS["gsm8k"][1].encode())
    assert parts(read(tmp_path, {"test.jsonl.gz": content})) == FORMATS["gsm8k"][2]


def test_hidden_files_are_not_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, {".git/q.jsonl": "{", "q.jsonl": FORMATS["gsm8k"][1]})) == 1


def test_questions_are_in_the_order_of_file_names_and_rows(tmp_path: Path) -> None:
    rows = '{"question": "1", "answer": ""}\n{"question": "2", "answer": ""}\n'
    assert [(question.file, question.row) for question in read(tmp_path, {"b.jsonl": rows, "a/c.jsonl": rows})] == [
        ("a/c.jsonl", 1), ("a/c.jsonl", 2), ("b.jsonl", 1), ("b.jsonl", 2)]


@pytest.mark.parametrize(("name", "content", "problem"), [
    ("a.jsonl", '{"question": "1", "answer": ""}\n{"question": \n', "line 2 is not JSON"),
    ("a.json", '[{"question": "1"},\n {"question": ]\n', "line 2 column"),
    ("a.csv", "Which?,1,2,3,4,A\nWhich?,1,2\n", "line 2 has 3 columns where 6"),
    ("a.csv", 'Which?,1,2,3,4,A\n"Which?,1,2,3,4,A\n', "line 2 is not CSV"),
    ("a.csv", "question,answer\na,b,c\n", "line 2 has 3 columns, the first row 2"),
    ("a.tsv", "Q?\t1\nQ?\n", "line 2 has 1 columns where 2"),
    ("a.jsonl", b'{"question": "1"}\n{"question": "\xff"}\n', "line 2 is not UTF-8"),
    # Without its time, which would stand in the name of the test.
    ("a.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read"),
    ("a.jsonl.gz", b"no gzip", "cannot be read"),
    ("a.json", "[" * 100_000, "neither JSON nor"),
    ("a.json", "{}", "no question recognised"),
])
def test_damaged_files_are_refused_by_name_and_line(tmp_path: Path, name: str, content: str | bytes,
                                                    problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(tmp_path / "b", {name: content})
    assert str(tmp_path / "b") in str(caught.value)


def test_a_missing_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such benchmark"):
        read_benchmark(BenchmarkSource(path=tmp_path / "none"))


def test_the_published_files_are_recognised(shared: Path) -> None:
    for name in ("mgsm", "humaneval", "mbpp"):
        assert set(read_benchmark(BenchmarkSource(path=shared / "data/benchmarks" / name)).formats) == {name}
