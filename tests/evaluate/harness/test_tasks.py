from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from headwater.errors import InputError
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.reading import Part
from headwater.evaluate.harness.language_model import EngineLM
from headwater.evaluate.harness.run import ask
from headwater.evaluate.harness.tasks import LocalTask, quiet, task_of
from headwater.generate.engine import Engine


class Reading:
    """A model that reads so many letters."""

    def __init__(self, letters: int) -> None:
        self.most = letters

    def length(self, prompt: str) -> int:
        return len(prompt)


def chinese(number: int, extra: str = "") -> dict[str, str]:
    return {"where": f"x.csv:{number}", "Question": f"问题{number}{extra}", "A": "一", "B": "二", "C": "三", "D": "四",
            "Answer": "B"}


def english(number: int, extra: str = "") -> dict[str, object]:
    return {"where": f"x.csv:{number}", "question": f"Question {number}{extra}", "choices": ["1", "2", "3", "4"],
            "answer": 1}


PART = {"cmmlu": Part("agronomy", (chinese(1), chinese(2, "长" * 50), chinese(3)), (chinese(9),)),
        "mmlu": Part("anatomy", (english(1), english(2, "x" * 50), english(3)), (english(9),))}


def prompt_of(name: str, letters: int | None) -> tuple[LocalTask, str]:
    task = task_of(BENCHMARKS[name], PART[name], "official", None)
    task.reader = None if letters is None else Reading(letters)
    with quiet():
        task.build_all_requests()
    return task, task.instances[0].args[0]


def shown(name: str, prompt: str) -> list[int]:
    word = {"cmmlu": "问题", "mmlu": "Question "}[name]
    return [number for number in (1, 2, 3, 9) if f"{word}{number}" in prompt]


@pytest.mark.parametrize(("name", "first"), [("cmmlu", [1, 3, 9]), ("mmlu", [1, 2, 9])])
def test_a_prompt_too_long_loses_whole_examples_as_its_authors_choose_them(name, first):
    task, whole = prompt_of(name, None)
    assert (shown(name, whole), task.left_out) == ([1, 2, 3, 9], {})
    task, shorter = prompt_of(name, len(whole))
    assert (shown(name, shorter), list(task.left_out.values())) == (first, [1])
    assert shorter.splitlines()[0] == whole.splitlines()[0]  # the instruction stays
    task, bare = prompt_of(name, 10)
    assert (shown(name, bare), list(task.left_out.values())) == ([9], [3])


def test_an_exact_fit_loses_nothing():
    task, whole = prompt_of("mmlu", None)
    task, same = prompt_of("mmlu", len(whole) + 1)  # and the letter
    assert (same, task.left_out) == (whole, {})


def test_fewer_examples_than_the_rules_ask_for_are_all_shown():
    task = task_of(BENCHMARKS["mmlu"], PART["mmlu"], "official", None)
    assert task.config.num_fewshot == 3
    none = Part("anatomy", (), PART["mmlu"].questions)
    assert task_of(BENCHMARKS["mmlu"], none, "official", 5).config.num_fewshot == 0


@pytest.mark.parametrize("rules", ["official", "harness"])
def test_a_subject_of_ones_own_is_asked_by_the_official_rules_alone(rules):
    part = Part("headwaters", PART["mmlu"].shots, PART["mmlu"].questions)
    if rules == "harness":
        with pytest.raises(InputError, match="no task 'mmlu_headwaters'"):
            task_of(BENCHMARKS["mmlu"], part, rules, None)
    else:
        assert task_of(BENCHMARKS["mmlu"], part, rules, None).config.num_fewshot == 3


def test_the_harness_rules_leave_no_choice_of_how_to_answer():
    with pytest.raises(InputError, match="not answered by text by the harness rules"):
        task_of(BENCHMARKS["mmlu"], PART["mmlu"], "harness", None, answer="text")
    part = Part("gsm8k", (), ({"where": "x:1", "question": "2 + 2?", "answer": "#### 4"},))
    with pytest.raises(InputError, match="gsm8k is not answered by letter"):
        task_of(BENCHMARKS["gsm8k"], part, "official", None, answer="letter")


class Lengthy(EngineLM):
    """Thinks that every token of a choice has the same likelihood, but the fourth choice's, which it likes better."""

    def loglikelihood(self, requests):
        return [(-0.9 * len(one.args[1]) if "river of all" in one.args[1] else -1.0 * len(one.args[1]), False)
                for one in requests]


def test_texts_of_choices_are_normalised_by_their_length(small_model: Path):
    row = {"where": "x.csv:1", "question": "Which?", "choices": ["a lake", "a hill", "", "the longest river of all"],
           "answer": 3}
    [found] = ask(Lengthy(Engine.load(small_model)), BENCHMARKS["mmlu"], Part("anatomy", (), (row,)), "official",
                  answer="text")
    assert (found.given, found.wanted) == ("-", "the longest river of all")  # the shortest is the likeliest
    assert (found.metrics["accuracy"], found.metrics["accuracy_norm"], found.metrics["accuracy_bytes"]) == (0, 1, 1)
    assert len(found.logprobs) == 4


def test_a_model_is_asked_in_every_way(small_model: Path):
    model = EngineLM(Engine.load(small_model, max_length=512))
    for name in ("cmmlu", "mmlu"):
        plain, chosen, written = (ask(model, BENCHMARKS[name], PART[name], "official", shots=1, **how) for how in (
            {}, {"chat": True}, {"chat": True, "answer": "written"}))
        assert (plain[0].where, plain[0].wanted) == ("x.csv:9", "B")
        assert len(plain[0].logprobs) == len(chosen[0].logprobs) == 4
        assert written[0].said is not None
        assert len({one[0].prompt_sha256 for one in (plain, chosen)}) == 2
