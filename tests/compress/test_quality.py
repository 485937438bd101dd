"""What a model is held against before it is made smaller and afterwards."""

import csv
import json

import pytest
from pydantic import ValidationError
from rich.console import Console

from headwater.compress.cost import Cost, cost_table
from headwater.compress.prune import PruneSettings
from headwater.compress.prune import run as prune
from headwater.compress.quality import BenchmarkSettings
from headwater.compress.quantize import QuantizeSettings
from headwater.compress.quantize import run as quantize
from headwater.errors import InputError
from headwater.generate.choice import answer_all, read_questions, spread
from headwater.generate.engine import Engine


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Eight questions in MMLU's layout."""
    folder = tmp_path_factory.mktemp("choice")
    (folder / "test").mkdir()
    with open(folder / "test" / "rivers_test.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([f"How long is the river {number}?", "9 km", "a day", "red", f"{number} km",
                                      "ABCD"[number % 4]] for number in range(8))
    return folder


def test_benchmarks_are_answered_before_and_after(small_model, questions, tmp_path):
    given = {"choice": {"rivers": {"en": questions}}, "limit": 6}
    figures = quantize(QuantizeSettings.parse({"model": small_model, "benchmarks": given}), tmp_path)
    told = json.loads((tmp_path / "quantize.json").read_text())["costs"]
    for when, folder in (("before", small_model), ("after", tmp_path)):
        answered = answer_all(Engine.load(folder), spread(read_questions(questions), 6), "en", "chat")
        right = sum(one.right for one in answered) / 6
        assert told[when]["accuracy"] == {"rivers.en": right}
        assert figures[f"rivers.en.accuracy.{when}"] == right


def test_pruning_answers_them_too(small_model, questions, tmp_path):
    (tmp_path / "text.txt").write_text("The river Velna is 482 km long. " * 200)
    figures = prune(PruneSettings.parse({
        "model": small_model, "corpus": None, "count": 1, "benchmarks": {"choice": {"rivers": {"en": questions}}},
        "calibration": {"text": tmp_path / "text.txt", "tokens": 512, "length": 32}}), tmp_path / "out")
    assert {f"rivers.en.accuracy.{when}" for when in ("before", "after")} <= figures.keys()


def test_a_folder_without_questions_is_named_by_its_setting(small_model, tmp_path):
    settings = QuantizeSettings.parse({"model": small_model, "benchmarks": {"choice": {"rivers": {"en": tmp_path}}}})
    with pytest.raises(InputError, match=r"benchmarks\.choice\.rivers\.en: .*no test/"):
        quantize(settings, tmp_path / "out")


def test_a_model_that_does_not_chat_is_asked_plainly(shared, questions, tmp_path):
    stories = shared / "checkpoints" / "stories260K-hf"
    own = {"choice": {"rivers": {"en": questions}}}
    with pytest.raises(InputError, match=r"benchmarks\.style: no chat format(.|\n)*style=plain"):
        quantize(QuantizeSettings.parse({"model": stories, "benchmarks": own}), tmp_path / "no")
    own |= {"style": "plain"}
    figures = quantize(QuantizeSettings.parse({"model": stories, "benchmarks": own}), tmp_path / "plain")
    assert 0 <= figures["rivers.en.accuracy.after"] <= 1


@pytest.mark.parametrize("values", [{"limit": 9}, {"style": "plain"}])
def test_how_to_ask_has_no_effect_without_questions(values):
    with pytest.raises(ValidationError, match="without benchmarks"):
        BenchmarkSettings(**values)


def test_the_table_of_two_languages_fits_a_terminal_of_eighty_columns():
    cost = Cost({"en": 0.7, "zh": 0.6}, {"atlas_choice.en": 0.9, "atlas_choice.zh": 0.8}, 6_500_000_000, 13_000_000_000,
                14_000_000_000, 12.0)
    console = Console(width=80, record=True)
    console.print(cost_table({"as it was": cost, "INT4, GPTQ symmetric, groups of 128": cost}))
    lines = console.export_text().splitlines()
    assert sum("6,500,000,000" in line for line in lines) == 1  # no cell is broken
    assert any("atlas_choice, zh, right" in line and line.count("80.0%") == 2 for line in lines)
