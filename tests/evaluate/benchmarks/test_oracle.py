"""One that always knows the answer and one that guesses, through prompt, answer, reading and judgement."""

import math
import random
from dataclasses import replace

import pytest

from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.reading import Part

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
from lm_eval import evaluator
from lm_eval.api.model import LM

from headwater.evaluate.harness.run import answers_of
from headwater.evaluate.harness.tasks import quiet, task_of

CHOOSING = ["mmlu", "cmmlu", "ceval"]
WRITING = ["gsm8k", "bbh"]
QUESTIONS = 60


class Sayer(LM):
    """Says what a function of the question's row says."""

    def __init__(self, say):
        super().__init__()
        self.say, self.prompts = say, []

    def loglikelihood(self, requests):
        return [(0.0 if request.args[1].strip() == self.say(request.doc) else -1.0, False) for request in requests]

    def generate_until(self, requests):
        self.prompts += [request.args[0] for request in requests]
        return [self.say(request.doc) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


def right(name, row):
    return {"mmlu": lambda: "ABCD"[row["answer"]], "cmmlu": lambda: row["Answer"], "ceval": lambda: row["answer"],
            "gsm8k": lambda: row["answer"], "bbh": lambda: row["target"]}[name]()


def part_of(shared, name, questions=QUESTIONS):
    part = max(BENCHMARKS[name].read(shared / "data" / "benchmarks" / name).parts,
               key=lambda part: len(part.questions))
    return replace(part, questions=part.questions[:questions], shots=part.shots[:5])


def scored(name, part, say, official=None):
    benchmark = BENCHMARKS[name] if official is None else replace(BENCHMARKS[name], official=official)
    task = task_of(benchmark, part, "official", None)
    with quiet():
        found = evaluator.evaluate(Sayer(say), {"tasks": {"it": task}, "groups": {}}, bootstrap_iters=0)
    answers = answers_of(task, benchmark, "it", found["samples"]["it"])
    metric = benchmark.metric if official is None else "exact_match"
    return sum(answer.metrics[metric] for answer in answers) / len(answers), answers


@pytest.mark.parametrize("name", CHOOSING)
def test_likelihoods_of_the_right_letters_score_all(shared, name):
    share, answers = scored(name, part_of(shared, name), lambda row: right(name, row))
    assert share == 1.0
    assert all(answer.given == answer.wanted for answer in answers)


@pytest.mark.parametrize("name", CHOOSING)
def test_likelihoods_at_random_score_chance(shared, name):
    drawn = random.Random(7)
    letters = {}
    part = part_of(shared, name, 400)
    share, _ = scored(name, part, lambda row: letters.setdefault(row["where"], drawn.choice("ABCD")))
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(part.questions))


SENTENCES = {"mmlu": ["{}", "The answer is ({}).", "Answer: {}", "It must be {} since the others are wrong."],
             "cmmlu": ["{}", "答案是：{}", "选择{}。", "正确选项是{}", "{}选项正确"],
             "ceval": ["{}", "所以答案是{}。", "答案为{}", "选择{}"]}


@pytest.mark.parametrize(("name", "sentence"), [(name, one) for name, several in SENTENCES.items() for one in several])
def test_a_letter_told_in_words_scores_all(shared, name, sentence):
    part = part_of(shared, name)
    share, answers = scored(name, part, lambda row: sentence.format(right(name, row)), BENCHMARKS[name].chat)
    assert share == 1.0
    assert answers[0].said == sentence.format(answers[0].wanted)


@pytest.mark.parametrize("name", CHOOSING)
@pytest.mark.parametrize("said", ["", "我不知道。", "I cannot tell."])
def test_no_letter_is_no_answer_and_wrong(shared, name, said):
    share, answers = scored(name, part_of(shared, name), lambda row: said, BENCHMARKS[name].chat)
    assert share == 0.0
    assert {answer.given for answer in answers} == {""}


@pytest.mark.parametrize("name", CHOOSING)
def test_letters_told_at_random_score_chance(shared, name):
    drawn = random.Random(11)
    part = part_of(shared, name, 400)
    share, _ = scored(name, part, lambda row: drawn.choice("ABCD"), BENCHMARKS[name].chat)
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / len(part.questions))


@pytest.mark.parametrize(("name", "sentence"), [("gsm8k", "{}"), ("gsm8k", "{}\n\nAnd so on."),
                                            ("bbh", "We see that. So the answer is {}."),
                                            ("bbh", "The answer is {}")])
def test_the_right_text_scores_all(shared, name, sentence):
    share, _ = scored(name, part_of(shared, name), lambda row: sentence.format(right(name, row)))
    assert share == 1.0


def test_a_letter_at_random_in_words_scores_chance_among_five(shared):
    parts = BENCHMARKS["bbh"].read(shared / "data" / "benchmarks" / "bbh").parts
    part = next(part for part in parts if part.subject == "logical_deduction_five_objects")
    drawn = random.Random(3)
    share, _ = scored("bbh", part, lambda row: f"So the answer is ({drawn.choice('ABCDE')}).")
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / len(part.questions))


@pytest.mark.parametrize(("said", "share"), [
    ("#### 1,080", 1.0), ("#### 1080", 1.0), ("#### 1080.0", 0.0), ("1080", 0.0), ("#### 5\n#### 1080", 0.0)])
def test_gsm8k_compares_the_first_marked_number_as_text(said, share):
    part = Part("gsm8k", (), ({"where": "x:1", "question": "How many?", "answer": "So many.\n#### 1,080"},))
    assert scored("gsm8k", part, lambda row: said)[0] == share
