"""Several models on the same questions."""

import io
import json
import random

import pytest
from rich.console import Console

from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.compare import BEST, Asked, Comparison, compare, paired
from headwater.evaluate.comparison_table import ComparisonTable
from headwater.evaluate.published import Published
from headwater.evaluate.significance import mcnemar

GROUPS = {"law": ("Humanities",), "physics": ("STEM",)}


def answers(right: str, subject: str = "law") -> list[Answer]:
    """One answer for each of the figures."""
    return [Answer(subject, f"test/{subject}.csv:{row}", f"question {row}", "A", "A", {"accuracy": float(one)})
            for row, one in enumerate(right, 1)]


def of(comparison: Comparison, model: str, row: int = 0):
    return comparison.lines[row].cells[model]


def test_the_marks_are_mcnemars_corrected_for_all_models() -> None:
    found = compare([Asked("mmlu", "accuracy", {"base": answers("0" * 12 + "1" * 8), "good": answers("1" * 20),
                                                "like": answers("1" + "0" * 11 + "1" * 8)})], resamples=500)
    good, like = of(found, "good").against, of(found, "like").against
    assert good is not None
    assert like is not None
    assert (good.p, good.alone) == (mcnemar(12, 0), (12, 0))
    assert good.corrected == 2 * good.p
    assert good.significant
    assert not like.significant
    assert good.difference.value == pytest.approx(0.6)
    assert 0.3 < good.difference.low < 0.6 < good.difference.high < 0.9
    assert [name for name, cell in found.lines[0].cells.items() if cell.best] == ["good"]
    assert of(found, "base").against is None


@pytest.mark.parametrize("averaged", ["questions", "subjects"])
def test_a_model_never_differs_from_itself(averaged: str) -> None:
    same = [*answers("0110100"), *answers("111", "physics")]
    found = compare([Asked("mmlu", "accuracy", {"one": same, "two": list(same)}, averaged=averaged)], resamples=200)
    against = of(found, "two").against
    assert against is not None
    assert (against.p, against.significant, against.difference.value) == (1, False, 0)
    assert of(found, "one").best
    assert of(found, "two").best


def test_questions_that_not_all_were_asked_are_left_out_and_counted() -> None:
    found = compare([Asked("mmlu", "accuracy", {"one": answers("1100"), "two": answers("110011")})], resamples=100)
    line = found.lines[0]
    assert (line.questions, line.left_out) == (4, 2)
    assert line.cells["two"].figure.value == 0.5


def test_the_order_of_models_and_answers_does_not_change_the_pairs() -> None:
    held = {"one": answers("110010101"), "two": answers("011100101"), "three": answers("11111000")}
    mixed = {name: random.Random(0).sample(held[name], len(held[name])) for name in reversed(held)}
    (first, lost), (second, also_lost) = paired(held), paired(mixed)
    assert lost == also_lost == 1
    assert {name: first[name] == second[name] for name in held} == dict.fromkeys(held, True)
    one = compare([Asked("mmlu", "accuracy", held)], reference="one", resamples=300)
    other = compare([Asked("mmlu", "accuracy", mixed)], reference="one", resamples=300)
    assert one.lines[0].cells == other.lines[0].cells


def test_turned_round_a_difference_and_its_interval_only_change_the_sign() -> None:
    held = {"one": answers("1100101010"), "two": answers("0111011111")}
    there, back = (compare([Asked("mmlu", "accuracy", held)], reference=name, resamples=400) for name in held)
    one, other = of(there, "two").against, of(back, "one").against
    assert one is not None
    assert other is not None
    assert one.difference == other.difference.negated()
    assert one.p == other.p


def test_against_the_best_the_best_of_each_row_is_the_reference() -> None:
    held = {"one": [*answers("1111"), *answers("0001", "physics")],
            "two": [*answers("1000"), *answers("1111", "physics")]}
    found = compare([Asked("mmlu", "accuracy", held, groups=GROUPS)], reference=BEST, groups=True, resamples=100)
    assert [line.group for line in found.lines] == [None, "Humanities", "STEM"]
    references = [{cell.against.reference for cell in line.cells.values() if cell.against} for line in found.lines]
    assert references[1:] == [{"one"}, {"two"}]


def test_a_model_that_was_not_asked_a_benchmark_has_no_cell() -> None:
    found = compare([Asked("mmlu", "accuracy", {"one": answers("10")}),
                     Asked("ceval", "accuracy", {"one": answers("10"), "two": answers("11")})], resamples=50)
    assert list(found.lines[0].cells) == ["one"]
    assert list(found.lines[1].cells) == ["one", "two"]


def test_other_questions_at_the_same_place_are_refused() -> None:
    other = [Answer("law", "test/law.csv:1", "another question", "A", "A", {"accuracy": 1})]
    with pytest.raises(InputError, match="different questions"):
        paired({"one": answers("1"), "two": other})
    with pytest.raises(InputError, match="answered twice"):
        paired({"one": [*answers("1"), *answers("1")]})
    with pytest.raises(InputError, match="no question in common"):
        compare([Asked("mmlu", "accuracy", {"one": answers("1"), "two": answers("1", "physics")})])
    with pytest.raises(InputError, match="no model three"):
        compare([Asked("mmlu", "accuracy", {"one": answers("1")})], reference="three")


def printed(comparison: Comparison, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(ComparisonTable(comparison))
    return out.getvalue()


def many(number: int) -> Comparison:
    held = {f"model number {place} of many": answers("1" * place + "0" * (20 - place)) for place in range(number)}
    return compare([Asked("cmmlu", "accuracy", held, groups=GROUPS)], groups=True, resamples=100)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_table_keeps_to_the_terminal_and_loses_nothing(width: int) -> None:
    text = printed(many(9), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for place in range(9):
        assert f"{5 * place:.1f} (" in text
    assert text.count("Humanities") == text.count("cmmlu")


def test_one_table_where_there_is_room() -> None:
    assert printed(many(3), 160).count("questions") == 2  # the column, and the note below
    assert printed(many(9), 100).count("continued") >= 2


def test_marks_and_published_figures_stand_in_the_table() -> None:
    figure = Published("Llama-2-7B", 0.453, "secondary", "LLaMA 2")
    asked = Asked("mmlu", "accuracy", {"base": answers("0" * 30), "llama": answers("1" * 30)},
                  published={"llama": figure})
    text = printed(compare([asked], resamples=100), 160)
    assert "★↑" in text
    assert "45.3 (secondary)" in text
    assert "published" not in printed(compare([Asked("mmlu", "accuracy", asked.answers)], resamples=100), 160)


def test_json_holds_what_the_table_holds() -> None:
    told = json.loads(json.dumps(many(3).as_json()))
    assert told["models"] == [f"model number {place} of many" for place in range(3)]
    cell = told["rows"][0]["models"]["model number 2 of many"]
    assert cell["value"] == 0.1
    assert cell["best"]
    assert cell["against"]["reference"] == "model number 0 of many"
    assert cell["against"]["alone"] == 2
