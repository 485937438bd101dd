from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance
from lm_eval.utils import hash_string

from headwater.errors import InputError
from headwater.evaluate.harness.language_model import EngineLM
from headwater.generate.engine import Engine

STORY = "Once upon a time, there was a little girl named Lily. She liked to play outside in the park."


@pytest.fixture(scope="module")
def model(small_model: Path) -> EngineLM:
    return EngineLM(Engine.load(small_model))


def asked(kind: str, *arguments: object) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=one, idx=0) for one in arguments]


@torch.inference_mode()
def by_definition(model: EngineLM, ids: list[int], behind: int) -> float:
    rows = model.engine.model(torch.tensor([ids]))[0].log_softmax(-1)
    return sum(rows[place - 1, ids[place]].item() for place in range(behind, len(ids)))


def test_a_choice_is_scored_behind_its_context(model):
    found = model.loglikelihood(asked("loglikelihood", ("The river", " is long."), ("The river ", "is long.")))
    before = len(model.encode("The river"))
    for logprob, _ in found:  # a word's space belongs to the word, wherever it was written
        assert logprob == pytest.approx(by_definition(model, model.encode("The river is long."), before), abs=1e-4)


def test_a_text_without_context_stands_behind_the_start(model):
    [(logprob, _)] = model.loglikelihood(asked("loglikelihood", ("", "The river")))
    ids = [model.tokenizer.bos, *model.tokenizer.encode("The river")]
    assert logprob == pytest.approx(by_definition(model, ids, 1), abs=1e-4)


def test_a_conversation_is_read_through_the_chat_template(model):
    turns = [{"role": "user", "content": "How long?"}, {"role": "assistant", "content": "Very."},
             {"role": "user", "content": "<|assistant|>?"}]
    prompt = model.apply_chat_template(turns)
    rendered = model.tokenizer.chat.render(turns, add_generation_prompt=True).ids
    assert model.encode(prompt) == rendered
    [(logprob, _)] = model.loglikelihood(asked("loglikelihood", (prompt, "Yes")))
    assert logprob == pytest.approx(by_definition(model, rendered + model.tokenizer.encode("Yes"), len(rendered)),
                                    abs=1e-4)
    begun = model.apply_chat_template([*turns, {"role": "assistant", "content": "It is"}], add_generation_prompt=False)
    assert model.encode(begun) == rendered + model.tokenizer.encode("It is")


def test_what_is_too_long_loses_its_beginning_and_is_counted(model):
    context, most = "river " * 1000, model.engine.max_length
    model.cut.clear()
    [(logprob, _)] = model.loglikelihood(asked("loglikelihood", (context, "lake")))
    whole = model.encode(context.rstrip() + " lake")
    left = len(whole) - len(model.encode(context.rstrip()))
    assert logprob == pytest.approx(by_definition(model, whole[-most - 1 :], most + 1 - left), abs=1e-3)
    assert model.cut == {hash_string(context)}
    model.loglikelihood(asked("loglikelihood", ("river", "lake")))
    model.generate_until(asked("generate_until", ("river", {"until": [], "max_gen_toks": 4})))
    assert model.cut == {hash_string(context)}
    model.generate_until(asked("generate_until", (context + "s", {"until": [], "max_gen_toks": 4})))
    assert model.cut == {hash_string(context), hash_string(context + "s")}


def test_every_token_of_a_long_text_counts_once(model):
    text, most = STORY * 60, model.engine.max_length
    ids = [model.tokenizer.bos, *model.encode(text)]
    assert len(ids) > 2 * most
    [total] = model.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))
    expected, place = 0.0, 1
    while place < len(ids):
        end = min(place + most, len(ids))
        expected += by_definition(model, ids[max(0, end - most - 1) : end], most + 1 - (end - place)
                                  if end > most else place)
        place = end
    assert total == pytest.approx(expected, rel=1e-5)


def test_answers_end_at_stops_and_at_their_length(model):
    ways = [{"until": [], "max_gen_toks": 12}, {"until": [], "max_gen_toks": 3}]
    whole, short = model.generate_until(asked("generate_until", *((STORY, way) for way in ways)))
    assert whole.startswith(short)
    assert len(short) < len(whole)
    stop = whole[len(short) :][:2] or whole[-1]
    [cut] = model.generate_until(asked("generate_until", (STORY, {"until": [stop], "max_gen_toks": 12})))
    assert cut == whole.split(stop)[0]


def test_what_the_engine_cannot_do_is_said(model):
    with pytest.raises(InputError, match="num_beams"):
        model.generate_until(asked("generate_until", (STORY, {"until": [], "num_beams": 4})))
    with pytest.raises(InputError, match="answers of 100000 tokens"):
        model.generate_until(asked("generate_until", (STORY, {"until": [], "max_gen_toks": 100_000})))
    with pytest.raises(InputError, match="a choice of"):
        model.loglikelihood(asked("loglikelihood", ("It is", " far" * 5000)))
