import json
from collections import Counter

import pytest
import torch

from headwater.align.answers import Answer, sample_answers, tell, usable
from headwater.align.prompts import Prompt, read_prompts
from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.tokenizer import Tokenizer


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


def asked(text, **known):
    return {"messages": [{"role": "user", "content": text}], **known}


def test_prompts_say_what_is_known_of_a_good_answer(small_model, tmp_path):
    tokenizer = Tokenizer.load(small_model)
    file = write(tmp_path / "p.jsonl", asked("How long is the Velna?", expected="482 km", domain="facts", id=7),
                 asked("维尔纳河有多长？", unsafe=True, careless="很长"), asked("river " * 40))
    first, second = read_prompts([file], tokenizer, 40)
    assert first.ids == tokenizer.chat.render(first.messages, add_generation_prompt=True).ids
    assert (first.language, first.unsafe, first.expected, first.domain) == ("en", False, "482 km", "facts")
    assert (second.language, second.unsafe, second.careless) == ("zh", True, "很长")
    assert second.place == f"{file}, line 2"


@pytest.mark.parametrize(("row", "told"), [
    ({"mesages": []}, "expected a prompt"), (asked("a", unsave=True), "unknown key 'unsave'"),
    (asked("a", unsafe="yes"), "'unsafe' is str and not bool"), (asked(" "), "an empty message"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a prompt ends with"),
    ({"messages": []}, "messages is empty"), ({"prompt": " "}, "an empty message"), ([], "expected a prompt")])
def test_rows_that_are_no_prompts_are_refused_with_their_line(small_model, tmp_path, row, told):
    with pytest.raises(InputError, match=told) as error:
        read_prompts([write(tmp_path / "p.jsonl", asked("a"), row)], Tokenizer.load(small_model), 40)
    assert "line 2" in str(error.value)


def test_what_other_trainers_call_a_prompt_is_one(small_model, tmp_path):
    asks = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How long?"}]
    rows = {"prompt": "How long?", "expected": "482 km", "id": 1}, {"prompt": asks}
    first, second = read_prompts([write(tmp_path / "p.jsonl", *rows)], Tokenizer.load(small_model), 40)
    assert (first.messages, first.expected) == (asks[1:], "482 km")
    assert second.messages == asks


def test_prompts_without_room_for_an_answer_are_no_prompts(small_model, tmp_path):
    with pytest.raises(InputError, match="no prompts"):
        read_prompts([write(tmp_path / "p.jsonl", asked("river " * 40))], Tokenizer.load(small_model), 40)


def test_more_answers_begin_with_the_fewer_ones(small_model, tmp_path):
    engine = Engine.load(small_model, max_batch=3)
    prompts = read_prompts([write(tmp_path / "p.jsonl", asked("The river"), asked("湖"))], engine.tokenizer, 40)
    params = SamplingParams(max_tokens=6)
    two, four = (sample_answers(engine, prompts, count, params, seed=3) for count in (2, 4))
    assert [answers[:2] for answers in four] == two
    assert len({tuple(answer.ids) for answers in four for answer in answers}) > 4
    assert sample_answers(engine, prompts, 2, params, seed=4) != two
    for answer in four[0]:
        assert answer.ended == (answer.ids[-1] in engine.stop_ids)
        assert answer.whole == prompts[0].ids + answer.ids
        assert answer.messages[-1] == {"role": "assistant", "content": answer.text}


def test_an_answer_that_ended_holds_its_mark(small_model, tmp_path):
    engine = Engine.load(small_model, max_batch=8)
    prompts = read_prompts([write(tmp_path / "p.jsonl", asked("The river"))], engine.tokenizer, 30)
    [answers] = sample_answers(engine, prompts, 200, SamplingParams(max_tokens=20), seed=0)
    ended = [answer for answer in answers if answer.ended]
    assert 0 < len(ended) < 200  # random weights end a text sooner or later
    assert all(answer.ids[-1] in engine.stop_ids and len(answer.ids) <= 21 for answer in ended)
    assert all(len(answer.ids) == 20 and engine.stop_ids.isdisjoint(answer.ids)
               for answer in answers if not answer.ended)


def test_what_cannot_be_learned_from_is_counted_by_its_reason(capsys):
    prompt, tally = Prompt([], [1], "en"), Counter()
    given = [Answer(prompt, [5, 2], "yes", True), Answer(prompt, [2], " ", True), Answer(prompt, [5], "ye", False),
             Answer(prompt, [5, 2], "yes", True), Answer(prompt, [5, 2], "yes", True)]
    rewards = torch.tensor([0.5, 1.0, 1.0, float("nan"), float("-inf")])
    assert usable(given, rewards, tally) == [True, False, False, False, False]
    assert tally == {"empty answers": 1, "answers that did not end in the room given": 1,
                     "answers whose reward is no finite number": 2}
    tell(tally, 5)
    assert "of 5 answers, 2 are left out: answers whose reward is no finite number" in capsys.readouterr().err
