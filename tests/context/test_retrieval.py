"""Needles: where they stand, what the oracle finds, what a guesser scores, in both languages."""

import re

import numpy as np
import pytest

from headwater.context.retrieval import (
    ANSWER_TOKENS,
    WORDINGS,
    Haystack,
    guesser,
    oracle,
    questions,
    right,
)
from headwater.errors import InputError

TEXTS = {"en": ["The river runs south past the old mill. It turns a wheel! Who built it? Nobody knows.",
                "Lakes are deep in the north.\nTheir fish are pale. The ice lasts until May."],
         "zh": ["河水流过古老的磨坊。它带动水轮！谁建的？没有人知道。",
                "北方的湖很深。\n湖里的鱼颜色很浅。冰要到五月才化。"]}
TASKS = sorted({task for task, _ in WORDINGS})


@pytest.fixture(scope="module", params=["en", "zh"])
def haystack(request, trained):
    return Haystack(TEXTS[request.param], trained, request.param)


@pytest.mark.parametrize("task", TASKS)
def test_the_oracle_finds_every_answer_and_a_guesser_almost_none(haystack, trained, task):
    asked = list(questions(task, haystack, lengths=[400, 900], depths=[0.0, 0.3, 1.0], each=6, seed=1))
    assert len(asked) == 36
    assert all(right(one, said) for one, said in zip(asked, oracle(trained)(asked), strict=True))
    assert sum(right(one, said) for one, said in zip(asked, guesser(0)(asked), strict=True)) <= 1
    for one in asked:
        assert 0.7 * one.length < len(one.prompt) <= one.length - ANSWER_TOKENS
        assert one.prompt[0] == trained.bos


@pytest.mark.parametrize("task", ["passkey", "needle", "several"])
def test_needles_stand_between_sentences_at_their_depth(haystack, trained, task):
    wording = WORDINGS[task, haystack.language]
    for one in questions(task, haystack, lengths=[1200], depths=[0.0, 0.5, 1.0], each=4, seed=2):
        text = trained.decode(one.prompt).rpartition("\n")[0].rpartition("\n")[0]
        form = re.escape(wording.needle).replace(r"\{value\}", one.answer).replace(r"\{key\}", r"\w+")
        place = re.search(form, text)
        before = text[: place.start()].rstrip()
        assert not before or before.endswith((*".!?。！？", "north"))
        assert place.start() / len(text) == pytest.approx(one.depth, abs=0.15)


def test_lines_are_asked_for_at_their_depth(haystack, trained):
    asked = list(questions("lines", haystack, lengths=[800], depths=[0.0, 0.5, 1.0], each=3, seed=3))
    for one in asked:
        lines = [line for line in trained.decode(one.prompt).split("\n")[:-2] if line]
        found = [number for number, line in enumerate(lines) if one.answer in line]
        assert found[0] / (len(lines) - 1) == pytest.approx(one.depth, abs=0.1)
        assert len({re.search(r"\d{5}", line)[0] for line in lines}) == len(lines)


def test_questions_depend_on_the_seed_alone(haystack):
    def ask(seed):
        return [one.prompt for one in questions("several", haystack, lengths=[500], depths=[0.5], each=3, seed=seed)]

    assert ask(5) == ask(5)
    assert ask(5) != ask(6)
    assert len({tuple(prompt) for prompt in ask(5)}) == 3


def test_only_the_first_number_counts(haystack):
    one = next(questions("passkey", haystack, lengths=[500], depths=[0.5], each=1, seed=0))
    assert right(one, f" {one.answer}. The pass key is 12")
    assert not right(one, f" 12, {one.answer}")
    assert not right(one, one.answer + "0")
    assert not right(one, "no number")


def test_what_holds_no_text_is_refused(haystack, trained):
    with pytest.raises(InputError, match="hold no sentence"):
        list(questions("needle", haystack, lengths=[64], depths=[0.5], each=1, seed=0))
    with pytest.raises(InputError, match="two lines"):
        list(questions("lines", haystack, lengths=[64], depths=[0.5], each=1, seed=0))
    with pytest.raises(InputError, match="no sentence"):
        Haystack(["", "\n"], trained, "en")


def test_a_short_text_is_read_over_again(haystack):
    found = haystack.fill(2000, 1)
    assert 1900 < sum(map(len, found)) <= 2000
    assert found[0] == haystack.sentences[1]
    assert np.array_equal(found[len(haystack.sentences)], found[0])


def test_a_sentence_too_long_for_the_room_is_passed_over(trained):
    text = "The lake of the city lies far from here and from all that we know of it. It is deep."
    haystack = Haystack([text], trained, "en")
    short = haystack.sizes[1]
    assert short < haystack.sizes[0]
    assert haystack.fill(int(short), 0) == [haystack.sentences[1]]
    assert haystack.fill(int(short) - 1, 0) == []
