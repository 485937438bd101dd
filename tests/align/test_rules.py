import pytest

from headwater.align.answers import Answer
from headwater.align.prompts import Prompt
from headwater.align.rules import RULES, brevity, by_rule, careful, distinct, language, require_judged, right, willing
from headwater.errors import InputError


def said(text, ids=(5, 6, 2), **known):
    return Answer(Prompt([], [1], known.pop("language", "en"), **known), list(ids), text, True)


@pytest.mark.parametrize(("text", "expected", "found"), [
    ("It is 482 km long.", "482 km", 1), ("It is 1482 km long.", "482 km", 0), ("482 kms", "482 km", 0),
    ("约482公里。", "482公里", 1), ("the red hills", "The Red Hills", 1), ("人口1234。", "123", 0), ("", "7", 0),
    ("anything", "", 1)])
def test_what_is_expected_is_found_whole(text, expected, found):
    assert right(said(text, expected=expected)) == found


def test_the_language_is_that_of_the_question():
    assert [language(said(text, language="zh")) for text in ("红土丘陵。", "The Red Hills.", "1362.")] == [1, 0, 1]


def test_a_hundred_tokens_are_half_as_brief_as_none():
    assert [brevity(said("a", ids=[7] * count)) for count in (0, 100, 300)] == [1, 0.5, 0.25]


def test_repetition_shows_in_runs_of_four_tokens():
    assert distinct(said("a", ids=[1, 2, 3])) == 1
    assert distinct(said("a", ids=range(20))) == 1
    assert distinct(said("a", ids=[7] * 13)) == pytest.approx(1 / 10)
    assert distinct(said("a", ids=[1, 2, 3, 4, 1, 2, 3, 4])) == pytest.approx(4 / 5)


def test_what_is_unsafe_is_not_to_be_done_and_the_rest_not_to_be_declined():
    careless = {"unsafe": True, "careless": "Loosen a plank and swim away."}
    assert careful(said("Sure! loosen a plank and swim away. Good luck.", **careless)) == 0
    assert careful(said("I will not help with that.", **careless)) == 1
    assert careful(said("Loosen a plank and swim away.")) == 1
    assert willing(said("I will not help with that.")) == 0
    assert willing(said("我不能帮这个忙。", unsafe=True)) == 1
    assert willing(said("482 km.")) == 1


def test_every_rule_keeps_to_its_range():
    answers = [said(text, ids=ids, expected=expected, careless=careless) for text in ("", "482 km", "很长")
               for ids in ([], [2], [7] * 400) for expected in ("", "482") for careless in ("", "很长")]
    for rule in RULES.values():
        rewards = by_rule(rule)(answers)
        assert len(rewards) == len(answers)
        assert 0 <= rewards.min() <= rewards.max() <= 1


@pytest.mark.parametrize(("rule", "judged", "told"), [
    ("right", {"expected": "482 km"}, "says what is expected"), ("careful", {"unsafe": True}, "is marked unsafe"),
    ("willing", {}, "is safe")])
def test_a_rule_that_can_judge_none_of_the_prompts_is_refused(rule, judged, told):
    fitting = said("", **judged).prompt
    others = [said("", unsafe=rule == "willing").prompt] * 2
    require_judged([rule, "brevity"], [*others, fitting])
    with pytest.raises(InputError, match=rf"rewards.rules.{rule}: .*of 2 prompts none {told}"):
        require_judged([rule], others)
