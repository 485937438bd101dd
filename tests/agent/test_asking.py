"""The engine's worker as the loop's model."""

from __future__ import annotations

import pytest

from headwater.agent.asking import ContextFull, WorkerModel
from headwater.agent.events import Ended, Text
from headwater.agent.loop import Agent
from headwater.agent.toolbox import Toolbox
from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.worker import Worker
from headwater.tokenizer.calls import Only, OwnCalls
from tests.agent.conftest import SEARCH, heard, search

pytest.importorskip("jsonschema", reason="jsonschema is not installed")

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


def test_what_it_cannot_promise_is_refused(worker):
    with pytest.raises(InputError, match="stop texts and tools"):
        WorkerModel(worker, SamplingParams(stop=("x",)))
    with pytest.raises(InputError, match="cannot be demanded"):
        heard(Agent(WorkerModel(worker, SamplingParams()), Toolbox([search()])).run(
            [{"role": "user", "content": "hi"}], Only("search")))
