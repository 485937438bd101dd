"""The engine's worker as the loop's model."""

from __future__ import annotations

import pytest

from headwater.agent.asking import ContextFull, WorkerModel
from headwater.agent.budgets import Budgets
from headwater.agent.events import Called, Ended, Text
from headwater.agent.loop import Agent
from headwater.agent.toolbox import Toolbox
from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.constraint import Constraint
from headwater.generate.worker import Worker
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer.calls import Only, OwnCalls
from tests.agent.conftest import SEARCH, compute, heard, search

pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")

WARM = SamplingParams(max_tokens=8, temperature=3, seed=3)


@pytest.fixture(scope="module")
def worker(small_model):
    worker = Worker(Engine.load(small_model, max_batch=2))
    yield worker
    worker.close()


def test_a_real_models_turn_goes_through_the_loop(worker):
    model = WorkerModel(worker, WARM)
    assert isinstance(model.format([SEARCH]), OwnCalls)
    ask = [{"role": "user", "content": "hi"}]
    events = heard(Agent(model, Toolbox()).run(ask))
    ended = events[-1]
    assert isinstance(ended, Ended)
    prompt = worker.engine.tokenizer.chat.render(ask, add_generation_prompt=True).ids
    (alone,) = worker.engine.generate([prompt], WARM)
    assert (ended.text, ended.tokens) == (alone.text, len(alone.tokens))
    assert len(alone.text) > 3
    assert "".join(event.text for event in events if isinstance(event, Text)) == alone.text
    assert ended.why == {"length": "length", "stop": "answer"}[alone.finish_reason]


def test_the_context_bounds_a_turn_and_refuses_what_is_too_long(worker):
    model = WorkerModel(worker, WARM.model_copy(update={"max_tokens": 500}))
    ended = heard(Agent(model, Toolbox()).run([{"role": "user", "content": "hi"}]))[-1]
    assert 0 < ended.tokens < 64
    with pytest.raises(ContextFull, match="the context holds 64"):
        heard(Agent(model, Toolbox([search()])).run([{"role": "user", "content": "hi"}]))


def test_what_does_not_go_with_tools_is_refused(worker):
    for params in (SamplingParams(stop=("x",)), SamplingParams(constraint=Constraint(kind="json"))):
        with pytest.raises(InputError, match="do not go together with tools"):
            WorkerModel(worker, params)


@pytest.fixture(scope="module")
def roomy(trained):
    """A random model with room for a system message."""
    config = ModelConfig(vocab_size=trained.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024)
    worker = Worker(Engine(initialise(Decoder(config), 0), trained, max_batch=2))
    yield worker
    worker.close()


@pytest.mark.parametrize("choice", ["required", Only("compute")], ids=["required", "one"])
def test_a_random_models_calls_fit_and_are_carried_out(roomy, choice):
    pytest.importorskip("llguidance", reason="llguidance is not installed")
    for seed in range(4):
        looked, summed = search(lambda query: "nothing"), compute()
        model = WorkerModel(roomy, SamplingParams(max_tokens=60, temperature=1, seed=seed))
        events = heard(Agent(model, Toolbox([looked, summed]), budgets=Budgets(steps=1)).run(
            [{"role": "user", "content": "?"}], choice))
        assert len(looked.asked + summed.asked) == 1
        assert [event.wrong for event in events if isinstance(event, Called)] == [""]
        assert summed.asked or choice == "required"


def test_without_constraint_a_model_says_what_it_likes(roomy):
    events = heard(Agent(WorkerModel(roomy, WARM, constrained=False), Toolbox([search()])).run(
        [{"role": "user", "content": "?"}]))
    assert events[-1].why in ("answer", "length", "repeated", "budget")
