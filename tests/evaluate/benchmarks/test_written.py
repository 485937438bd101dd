"""Benchmarks whose answers are texts: GSM8K, BBH, HumanEval, cloze and ToxiGen."""

import json
import math
import random

import pytest

from headwater.errors import InputError
from headwater.evaluate.benchmarks import humaneval, toxigen
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.cloze import cut, cut_chinese
from headwater.evaluate.benchmarks.gsm8k import extract
from headwater.evaluate.benchmarks.reading import Fault


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n"
                            for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "file", "good", "empty", "unanswered"), [
    ("gsm8k", "test.jsonl", {"question": "How many?", "answer": "Two.\n#### 2"}, {"question": " ", "answer": "#### 2"},
     {"question": "How few?", "answer": "Two."}),
    ("humaneval", "HumanEval.jsonl",
     {"task_id": "t/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c): ...",
      "canonical_solution": "    return 1"},
     {"prompt": "", "entry_point": "f", "test": "x"}, {"prompt": "def g():\n", "entry_point": "g", "test": ""}),
    ("cloze", "lines.jsonl", {"text": "He went home"}, {"prefix": "", "target": "home"},
     {"prefix": "He", "target": ""}),
])
def test_faults_of_written_benchmarks(tmp_path, name, file, good, empty, unanswered):
    write_lines(tmp_path / file, [good, empty, unanswered, good, "{not json\n", "[1]\n"])
    read = BENCHMARKS[name].read(tmp_path)
    assert read.questions == 2
    assert read.faults == (Fault(f"{file}:2", "empty question", False), Fault(f"{file}:3", "missing answer", False),
                           Fault(f"{file}:4", "duplicate", True), Fault(f"{file}:5", "unreadable", False),
                           Fault(f"{file}:6", "unreadable", False))


def test_faults_of_bbh(tmp_path):
    path = tmp_path / "bbh" / "task.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"examples": [{"input": "a", "target": "True"}, {"input": "b", "target": ""}, 7]}))
    read = BENCHMARKS["bbh"].read(tmp_path)
    assert read.faults == (Fault("bbh/task.json:2", "missing answer", False),
                           Fault("bbh/task.json:3", "unreadable", False))
    assert read.parts[0].shots == ()


def test_a_worked_example_without_an_answer_is_refused(tmp_path):
    test_faults_of_bbh(tmp_path)
    prompt = tmp_path / "cot-prompts" / "task.txt"
    prompt.parent.mkdir()
    prompt.write_text("Say it.\n\nQ: a\nA: True\n")
    with pytest.raises(InputError, match="worked answers"):
        BENCHMARKS["bbh"].read(tmp_path)


@pytest.mark.parametrize("name", ["gsm8k", "bbh", "humaneval", "ifeval", "cloze", "cloze_zh", "toxigen"])
def test_another_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="to do"):
        BENCHMARKS[name].read(tmp_path)


@pytest.mark.parametrize(("said", "number"), [("#### 7", "7"), ("x #### -1,234.5 y", "-1234.5"), ("####7", ""),
                                              ("7", ""), ("#### $7", "")])
def test_gsm8k_reads_what_the_official_pattern_reads(said, number):
    assert extract(said) == number


def test_a_completion_ends_where_something_else_begins():
    assert humaneval.completed("    return 1\n\ndef g():\n    pass\nprint(1)") == "    return 1\n"
    assert humaneval.completed("    return 1\n") == "    return 1\n"


def test_a_program_is_prompt_completion_test_and_call():
    row = {"prompt": "def f():\n", "test": "def check(c):\n    assert c() == 1", "entry_point": "f"}
    assert humaneval.program(row, "    return 1") == \
        "def f():\n    return 1\ndef check(c):\n    assert c() == 1\ncheck(f)"


def test_code_is_read_out_of_a_chat_answer():
    assert humaneval.in_chat({}, "Sure!\n```python\ndef f():\n    return 1\n```\nDone.") == "\ndef f():\n    return 1"
    assert humaneval.in_chat({}, "    return 1") == "    return 1"


def test_the_last_word_is_cut_as_the_harness_cuts_it():
    assert cut("`` so ? '' he said to Ann") == ("`` so ? '' he said to", "Ann")
    assert cut("one") == ("", "")


@pytest.mark.parametrize(("text", "found"), [
    ("小明喜欢北京。他明天又要去北京。", ("小明喜欢北京。他明天又要去", "北京")),
    ("维尔纳河很长。大家都爱维尔纳河！”", ("维尔纳河很长。大家都爱", "维尔纳河")),
    ("没有说过的词", ("没有说过的词", "")), ("English only", ("English only", ""))])
def test_of_a_chinese_text_a_word_is_asked_for_that_it_has_said(text, found):
    assert cut_chinese(text) == found


@pytest.mark.parametrize(("name", "delimited"), [("cloze", " home"), ("cloze_zh", "home")])
def test_the_word_follows_with_a_space_where_words_are_spaced(tmp_path, name, delimited):
    write_lines(tmp_path / "own.jsonl", [{"prefix": "He went ", "target": "home"}])
    part = BENCHMARKS[name].read(tmp_path).parts[0]
    config = BENCHMARKS[name].official(part)
    assert (config["doc_to_text"](part.questions[0]), config["doc_to_target"](part.questions[0])) == \
        ("He went", delimited)


def test_toxigens_prompts_have_lines_and_end_where_a_statement_begins(shared):
    read = BENCHMARKS["toxigen"].read(shared / "data" / "filters" / "toxigen")
    prompts = [row["prompt"] for part in read.parts for row in part.questions]
    assert len(prompts) == read.questions
    assert all(prompt.startswith("- ") and prompt.endswith("\n-") and "\\n" not in prompt for prompt in prompts)
    assert {BENCHMARKS["toxigen"].groups[part.subject][0] for part in read.parts} == {"hate", "neutral"}


def test_what_is_said_is_judged_and_nothing_is_no_abuse():
    assert toxigen.toxicity({}, "you are a fucking idiot") == {"toxicity": 1.0}
    assert toxigen.toxicity({}, "the river is long and quiet") == {"toxicity": 0.0}
    assert toxigen.toxicity({}, "") == {"toxicity": 0.0}


def test_a_guesser_of_truth_values_scores_half(shared):
    part = next(part for part in BENCHMARKS["bbh"].read(shared / "data" / "benchmarks" / "bbh").parts
                if part.subject == "boolean_expressions")
    config = BENCHMARKS["bbh"].official(part)
    drawn, rows = random.Random(5), list(part.questions)
    found = config["filter_list"][0]["filter"][0]["filter_fn"](
        [[f"So the answer is {drawn.choice(['True', 'False'])}."] for _ in rows], rows)
    share = sum(config["process_results"](row, one)["exact_match"] for row, one in zip(rows, found, strict=True))
    assert abs(share / len(rows) - 0.5) < 4 * math.sqrt(0.25 / len(rows))
