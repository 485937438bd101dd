"""Scores by subject and group, by hand."""

import pytest

from headwater.evaluate.answers import Answer
from headwater.evaluate.scores import above_chance, members_of, score, scores

GROUPS = {"law": ("Humanities",), "food": ("Other", "China specific"), "drama": ("Humanities", "China specific"),
          "physics": ("STEM",)}


def answered(subject: str, *right: float) -> list[Answer]:
    return [Answer(subject, f"test/{subject}.csv:{row}", "?", "A", "A", {"accuracy": one, "half": one / 2})
            for row, one in enumerate(right, 1)]


ANSWERS = [*answered("law", 1, 0, 0, 0), *answered("food", 1, 1), *answered("drama", 0), *answered("magic", 1)]


def test_averaged_over_questions_every_question_counts_the_same() -> None:
    found = scores(ANSWERS, groups=GROUPS, resamples=200)
    assert found.whole.questions == 8
    assert found.whole.metrics["accuracy"].value == 0.5
    assert found.whole.metrics["half"].value == 0.25
    assert {name: one.metrics["accuracy"].value for name, one in found.groups.items()} == {
        "Humanities": 0.2, "Other": 1, "China specific": pytest.approx(2 / 3)}


def test_averaged_over_subjects_every_subject_counts_the_same() -> None:
    found = scores(ANSWERS, averaged="subjects", groups=GROUPS, resamples=200)
    assert found.whole.metrics["accuracy"].value == (0.25 + 1 + 0 + 1) / 4
    assert {name: one.metrics["accuracy"].value for name, one in found.groups.items()} == {
        "Humanities": 0.125, "Other": 1, "China specific": 0.5}
    assert {name: one.questions for name, one in found.groups.items()} == {
        "Humanities": 5, "Other": 2, "China specific": 3}


def test_a_subject_in_no_group_counts_in_the_whole_alone() -> None:
    assert "magic" not in GROUPS
    found = scores(ANSWERS, groups=GROUPS, resamples=200)
    assert sum(found.groups[name].questions for name in ("Humanities", "Other")) == found.whole.questions - 1
    assert found.subjects["magic"].questions == 1


def test_groups_stand_in_the_order_of_the_definition_and_empty_ones_are_left_out() -> None:
    assert members_of(GROUPS, ["drama", "law", "food"]) == {
        "Humanities": ["law", "drama"], "Other": ["food"], "China specific": ["food", "drama"]}


def test_the_order_of_answers_does_not_change_the_figures() -> None:
    for averaged in ("questions", "subjects"):
        one, other = (score(those, averaged=averaged, resamples=300) for those in (ANSWERS, ANSWERS[::-1]))
        assert one == other


def test_a_metric_is_taken_over_the_answers_that_have_it() -> None:
    extra = Answer("law", "test/law.csv:9", "?", "A", "A", {"f1": 0.25})
    assert score([*ANSWERS, extra], resamples=100).metrics["f1"].value == 0.25
    assert score([*ANSWERS, extra], resamples=100).metrics["accuracy"].value == 0.5


def test_above_chance_is_0_for_guessing_and_1_for_all_right() -> None:
    assert [above_chance(value, 0.25) for value in (0.25, 1, 0)] == pytest.approx([0, 1, -1 / 3])
