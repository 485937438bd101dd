"""Every fault that a row can have, in the files of every format of questions with choices."""

import csv
import io

import pytest

from headwater.errors import InputError
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.reading import Fault

GOOD = ["How long?", "1", "2", "3", "4", "B"]
FAULTS = {
    "missing option": (["How long?", "1", "", "3", "4", "A"], True),
    "missing answer": (["How long?", "1", "2", "3", "4", " "], False),
    "answer is no option": (["How long?", "1", "2", "3", "4", "AB"], False),
    "empty question": (["", "1", "2", "3", "4", "A"], False),
    "same choices": (["How long?", "1", "2", "2 ", "4", "A"], True),
    "full-width letter": (["How long?", "1", "2", "3", "4", "Ｂ"], True),
    "lower-case letter": (["How long?", "1", "2", "3", "4", "b"], True),
    "spaces around the letter": (["How long?", "1", "2", "3", "4", " B\u3000"], True),
    "duplicate": (GOOD, True),
    "also a shot": (["Shown?", "1", "2", "3", "4", "A"], True),
    "unreadable": (["How long?", "1", "2", "3", "4", "B", "x", "y", "z"], False),
}
LAYOUTS = {"mmlu": ("data/test/rivers_test.csv", "data/dev/rivers_dev.csv"),
           "cmmlu": ("data/test/rivers.csv", "data/dev/rivers.csv"),
           "ceval": ("val/rivers_val.csv", "dev/rivers_dev.csv")}
HEADS = {"cmmlu": ["", "Question", "A", "B", "C", "D", "Answer"],
         "ceval": ["id", "question", "A", "B", "C", "D", "answer"]}


def written(name, rows):
    text = io.StringIO()
    numbered = name in HEADS
    csv.writer(text).writerows(([HEADS[name]] if numbered else [])
                               + [[str(number), *row] if numbered else row for number, row in enumerate(rows)])
    return text.getvalue()


def folder_of(tmp_path, name, questions, shots=(["Shown?", "1", "2", "3", "4", "A"],)):
    for file, rows in zip(LAYOUTS[name], (questions, shots), strict=True):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written(name, rows), encoding="utf-8", newline="")
    return tmp_path


def answers(name, part):
    return [row["answer" if name == "ceval" else "Answer"] if name != "mmlu" else "ABCD"[row["answer"]]
            for row in part.questions]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_told_with_its_place(tmp_path, name, kind):
    row, kept = FAULTS[kind]
    first = GOOD if kind == "duplicate" else ["How deep?", *GOOD[1:]]
    read = BENCHMARKS[name].read(folder_of(tmp_path, name, [first, row]))
    assert read.faults == (Fault(f"{LAYOUTS[name][0]}:2", kind, kept),)
    assert read.questions == 1 + kept
    assert read.parts[0].subject == "rivers"


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kind", ["full-width letter", "lower-case letter", "spaces around the letter"])
def test_letters_are_put_right(tmp_path, name, kind):
    read = BENCHMARKS[name].read(folder_of(tmp_path, name, [FAULTS[kind][0]]))
    assert answers(name, read.parts[0]) == ["B"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_quotes_line_ends_and_marks_are_read_as_pandas_divides_them(tmp_path, name):
    rows = [['He said "no",\nthen left.', "1", "None", "NA", "1.50", "B"]]
    folder = folder_of(tmp_path, name, rows)
    file = folder / LAYOUTS[name][0]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\r\n", b"\r\n\r\n"))
    row = BENCHMARKS[name].read(folder).parts[0].questions[0]
    assert row["Question" if name == "cmmlu" else "question"] == 'He said "no",\nthen left.'
    assert (row["choices"] if name == "mmlu" else [row[letter] for letter in "ABCD"]) == ["1", "None", "NA", "1.50"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_quote_that_nothing_closes_is_told(tmp_path, name):
    folder = folder_of(tmp_path, name, [GOOD])
    file = folder / LAYOUTS[name][0]
    file.write_text(file.read_text() + ('1,' if name in HEADS else "") + '"Open,1,2,3,4,B\n', newline="")
    read = BENCHMARKS[name].read(folder)
    assert read.faults == (Fault(f"{LAYOUTS[name][0]}:2", "unreadable", False),)
    assert read.questions == 1


def test_a_row_too_short_has_no_answer(tmp_path):
    read = BENCHMARKS["mmlu"].read(folder_of(tmp_path, "mmlu", [["How long?", "1", "2", "3", "B"]]))
    assert [fault.kind for fault in read.faults] == ["missing answer"]


def test_a_subject_without_examples_is_asked_without(tmp_path):
    folder = folder_of(tmp_path, "mmlu", [GOOD])
    (folder / LAYOUTS["mmlu"][1]).unlink()
    assert BENCHMARKS["mmlu"].read(folder).parts[0].shots == ()


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="to do"):
        BENCHMARKS[name].read(tmp_path)


def test_the_split_without_answers_is_refused(tmp_path):
    file = tmp_path / "test" / "rivers_test.csv"
    file.parent.mkdir()
    file.write_text("id,question,A,B,C,D\n0,x,1,2,3,4\n")
    with pytest.raises(InputError, match="no answers"):
        BENCHMARKS["ceval"].read(tmp_path)


def test_a_header_without_a_column_is_refused(tmp_path):
    file = tmp_path / "data" / "test" / "rivers.csv"
    file.parent.mkdir(parents=True)
    file.write_text(",Question,A,B,C,Answer\n0,x,1,2,3,A\n")
    with pytest.raises(InputError, match="no column D"):
        BENCHMARKS["cmmlu"].read(tmp_path)
