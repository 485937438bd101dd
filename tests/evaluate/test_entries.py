"""What is written of a model on a benchmark."""

import json

import pytest

from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.benchmarks.definition import Benchmark
from headwater.evaluate.benchmarks.reading import Fault, Part, Reading
from headwater.evaluate.compare import compare
from headwater.evaluate.contaminated import Contamination
from headwater.evaluate.entries import asked, entry, figures
from headwater.evaluate.published import Published

READING = Reading((Part("law", (), ({"where": "law.csv:1"}, {"where": "law.csv:2"})),
                   Part("food", (), ({"where": "food.csv:1"},))),
                  (Fault("law.csv:2", "lower-case letter", True), Fault("food.csv:2", "missing answer", False),
                   Fault("food.csv:3", "missing answer", False)))
ANSWERS = [Answer("law", "law.csv:1", "?", "A", "A", {"accuracy": 1}),
           Answer("law", "law.csv:2", "?", "A", "B", {"accuracy": 0}),
           Answer("food", "food.csv:1", "?", "A", "A", {"accuracy": 1})]


def none_of(*_: object) -> None:
    raise AssertionError("not asked here")


BENCHMARK = Benchmark("mine", "zh", 5, "accuracy", none_of, none_of, none_of, none_of,
                      groups={"law": ("Humanities",), "food": ("Other", "China specific")}, averaged="subjects",
                      chance=0.25)


def test_an_entry_holds_all_that_the_report_shows() -> None:
    found = entry(BENCHMARK, READING, ANSWERS, resamples=100,
                  contamination=Contamination(frozenset({"law.csv:1"}), "record", "drop"))
    assert json.loads(json.dumps(found)) == found
    assert found["questions"] == 3
    assert found["metrics"]["accuracy"]["value"] == 0.75
    assert found["above_chance"] == pytest.approx(0.5 / 0.75)
    assert (found["metric"], found["averaged"], found["chance"]) == ("accuracy", "subjects", 0.25)
    assert (found["shots"], found["rules"]) == (5, "official")
    assert found["faults"] == {"lower-case letter": {"asked": 1, "left_out": 0},
                               "missing answer": {"asked": 0, "left_out": 2}}
    assert list(found["groups"]) == ["Humanities", "Other", "China specific"]
    assert found["subjects"]["law"]["metrics"]["accuracy"]["value"] == 0.5
    assert found["contaminated"]["clean"]["questions"] == 2
    assert found["contaminated"]["action"] == "drop"


def test_without_a_search_nothing_is_said_of_contamination() -> None:
    assert "contaminated" not in entry(BENCHMARK, READING, ANSWERS, resamples=50)


def test_other_rules_may_name_the_metric_otherwise() -> None:
    other = [Answer("law", "law.csv:1", "?", "A", "A", {"acc": 1, "acc_norm": 0})]
    found = entry(BENCHMARK, READING, other, rules="harness", shots=0, resamples=50)
    assert (found["metric"], found["rules"], found["shots"]) == ("acc", "harness", 0)


def test_an_entry_of_no_answer_is_refused() -> None:
    with pytest.raises(InputError, match="no question was answered"):
        entry(BENCHMARK, READING, [])


def test_figures_are_named_by_task_language_and_metric() -> None:
    found = entry(BENCHMARK, READING, ANSWERS, resamples=50)
    assert figures("mine", "zh", found) == {"mine.zh.accuracy": 0.75}


def test_models_are_compared_by_the_benchmarks_own_average() -> None:
    known = {"sky": {"mine": Published("Sky", 0.5, "paper", "Sky (2023)")}}
    comparison = compare([asked(BENCHMARK, {"sky": ANSWERS, "sea": ANSWERS}, known)], groups=True, resamples=50)
    assert [line.group for line in comparison.lines] == [None, "Humanities", "Other", "China specific"]
    cell = comparison.lines[0].cells["sky"]
    assert cell.figure.value == 0.75
    assert cell.published is not None
    assert comparison.lines[0].cells["sea"].published is None

