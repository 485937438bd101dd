"""The loop under a scripted model: it acts, it recovers, it ends."""

from __future__ import annotations

import asyncio
import json

import pytest

from headwater.agent.asking import ContextFull
from headwater.agent.budgets import Budgets
from headwater.agent.events import Arguments, BudgetReached, CallBegan, Called, Ended, Observed, Text, wire
from headwater.agent.tool import Definition, Image, Observation
from headwater.agent.toolbox import Toolbox
from headwater.errors import InputError
from headwater.tokenizer.calls import Call, Glm4Calls, Mark, Only, OwnCalls, PlainCalls, Reply
from tests.agent.conftest import COMPUTE, SEARCH, Scripted, Stand, agent, compute, heard, search

pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
LOOK = Call("search", {"query": "Velna and Taro"})


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def last_read(model):
    return model.read[-1][-1]["content"]


@pytest.mark.parametrize("format", [Glm4Calls, OwnCalls, PlainCalls])
def test_three_steps_are_searched_computed_and_answered(format, ask):
    def difference(messages):
        long, short = (int(word) for word in messages[-1]["content"].split() if word.isdigit())
        return Call("compute", {"a": long, "b": short})

    model = Scripted(LOOK, difference, lambda messages: f"It is {messages[-1]['content']} longer.", format=format)
    looked, computed = search(), compute()
    run = agent(model, looked, computed).run([{"role": "system", "content": "Be brief."}, *ask])
    events = heard(run)
    assert looked.asked == [("search", {"query": "Velna and Taro"})]
    assert computed.asked == [("compute", {"a": 482, "b": 310})]
    ended = events[-1]
    assert isinstance(ended, Ended)
    assert (ended.why, ended.calls, ended.tainted) == ("answer", (), True)
    assert "172 longer" in ended.text.replace('{"tool": "compute", "result": "', "").replace('"}', "")
    assert "".join(event.text for event in of(events, Text)) == ended.text
    assert len(of(events, Text)) > 3  # the answer is streamed, and so are the arguments
    assert len(of(events, Arguments)) > 6
    assert json.loads("".join(event.text for event in of(events, Arguments) if event.id == "call_0")) == LOOK.arguments
    assert [event.name for event in of(events, CallBegan)] == ["search", "compute"]
    assert [event.observation.text for event in of(events, Observed)] == [
        "The Velna is 482 km long. The Taro is 310 km long.", "172"]
    assert "Be brief." in model.read[0][0]["content"]
    assert model.read[2][len(model.read[0]):] == list(ended.messages[:-1])
    assert model.closed == 3


def test_an_event_is_told_before_the_model_goes_on(ask):
    model = Scripted("one two three")

    async def first():
        return await anext(aiter(agent(model).run(ask))), model.closed

    assert asyncio.run(first()) == (Text("on"), 0)  # the template's line, then what is heard at once


def test_the_format_on_the_wire():
    looked = Stand((SEARCH,), lambda query: Observation("482 km", (Image(b"png"),), sources=(("https://a", "A"),)))
    python = Definition("python", "run", {"type": "object"}, free_text=True)
    model = Scripted(Call("search", {"query": "V"}), Call("python", {"code": "1 + 1\n"}), "done")
    events = heard(agent(model, looked, Stand((python,), lambda code: "2")).run([{"role": "user", "content": "?"}]))
    assert [told for event in events if (told := wire(event))] == [
        {"type": "call", "id": "call_0", "name": "search", "arguments": '{"query": "V"}'},
        {"type": "observation", "id": "call_0", "text": "482 km", "failed": False,
         "images": ["data:image/png;base64,cG5n"], "sources": [["https://a", "A"]]},
        {"type": "call", "id": "call_1", "name": "python", "arguments": "1 + 1\n"},
        {"type": "observation", "id": "call_1", "text": "2", "failed": False, "images": [], "sources": []}]
    assert wire(BudgetReached("steps")) == {"type": "budget", "what": "steps"}


def broken():
    raise OSError("disk gone")


@pytest.mark.parametrize(("turn", "told"), [
    ([Mark("<|call|>"), 'serch\n{"query": "x"}'], "There is no tool named 'serch'. Did you mean 'search'?"),
    ([Mark("<|call|>"), "weather\n{}"], "There is no tool named 'weather'. There are: search."),
    ([Mark("<|call|>"), 'search\n{"query": 3}'], 'The arguments do not fit: query: 3 is not of type "string".'),
    ([Mark("<|call|>"), "search\n{}"], 'The arguments do not fit: "query" is a required property.'),
    ([Mark("<|call|>"), 'search\n{"query": NaN}'], "This call cannot be read: NaN is no number of JSON."),
    ([Mark("<|call|>"), "search"], "This call cannot be read: the call has no line of its own for the tool's name."),
    (Call("search", {"query": "Nile"}), "nothing is known of 'Nile'\n  to do: search for a river's name"),
], ids=["mistyped", "unknown", "type", "missing", "NaN", "nameless", "tool"])
def test_what_goes_wrong_is_told_and_the_model_tries_again(turn, told, ask):
    model = Scripted(turn, Call("search", {"query": "Velna"}), "482 km", format=OwnCalls)
    looked = search()
    events = heard(agent(model, looked).run(ask))
    first, second = of(events, Observed)
    assert (first.observation.text, first.observation.failed) == (told, True)
    assert (second.observation.text, second.observation.failed) == ("The Velna is 482 km long.", False)
    assert model.read[1][-1] == {"role": "observation", "content": told}
    assert events[-1].why == "answer"


def test_a_tools_own_mistake_is_an_observation(ask):
    model = Scripted(LOOK, "I cannot.")
    events = heard(agent(model, Stand((SEARCH,), lambda query: broken())).run(ask))
    assert last_read(model) == "'search' failed: OSError: disk gone"
    assert events[-1].text == "I cannot."


def test_the_same_failing_call_ends_the_run(ask):
    nile = Call("search", {"query": "Nile"})
    model = Scripted(nile, Call("search", {"query": "Nil"}), nile, "never said")
    events = heard(agent(model, search()).run(ask))
    assert events[-1].why == "repeated"
    assert len(of(events, Observed)) == 3
    assert heard(agent(Scripted(nile, nile, nile, "so be it"), search(), failures=4).run(ask))[-1].why == "answer"


def test_several_calls_of_a_turn_are_carried_out_in_order(ask):
    turn = Reply("I look.", (Call("search", {"query": "Velna"}), Call("search", {"query": "Taro"})))
    model, looked = Scripted(turn, "172 km"), search()
    events = heard(agent(model, looked).run(ask))
    assert [arguments["query"] for _, arguments in looked.asked] == ["Velna", "Taro"]
    roles = [(message["role"], message.get("metadata", "")) for message in events[-1].messages]
    assert roles == [("assistant", ""), ("assistant", "search"), ("assistant", "search"), ("observation", ""),
                     ("observation", ""), ("assistant", "")]


def test_functions_of_the_caller_are_handed_back(ask):
    weather = Definition("weather", "tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
    turn = Reply("I look.", (Call("weather", {"city": "Taro"}), LOOK))
    model, looked = Scripted(turn), search()
    events = heard(agent(model, looked, functions=[weather]).run(ask))
    ended = events[-1]
    assert ended.why == "calls"
    assert [(call.name, call.arguments, call.wrong) for call in ended.calls] == [("weather", '{"city": "Taro"}', "")]
    assert looked.asked == [("search", {"query": "Velna and Taro"})]
    # What the caller adds follows its own call.
    assert [message.get("metadata") for message in ended.messages] == [None, "search", None, "weather"]
    assert [event.by_caller for event in of(events, CallBegan)] == [True, False]
    assert [wire(event)["name"] for event in of(events, Called) if wire(event)] == ["search"]


def test_a_callers_call_that_does_not_fit_is_handed_back_with_what_is_wrong(ask):
    weather = Definition("weather", "tells it", {"type": "object", "required": ["city"]})
    (call,) = heard(agent(Scripted(Call("weather", {})), functions=[weather]).run(ask))[-1].calls
    assert call.wrong == 'The arguments do not fit: "city" is a required property.'


@pytest.mark.parametrize(("budgets", "what"), [({"steps": 2}, "steps"), ({"tokens": 14}, "tokens")])
def test_a_budget_ends_the_run(budgets, what, ask):
    model = Scripted(*[Call("search", {"query": f"Velna {number}"}) for number in range(9)])
    events = heard(agent(model, search(), **budgets).run(ask))
    assert events[-2] == BudgetReached(what)
    assert events[-1].why == "budget"
    assert len(model.read) == 2
    if what == "tokens":
        assert events[-1].tokens == 14
        assert model.rooms[1] < model.rooms[0] == 14


def test_an_answer_is_cut_at_its_room(ask):
    events = heard(agent(Scripted("a long answer indeed"), tokens=4).run(ask))
    assert events[-2] == BudgetReached("tokens")
    assert events[-1].messages == ({"role": "assistant", "content": "a long answ"},)


def test_seconds_end_a_model_that_goes_on(ask):
    model = Scripted("on and on " * 50, pause=0.01)
    events = heard(agent(model, seconds=0.15).run(ask))
    assert events[-2] == BudgetReached("seconds")
    text = "".join(event.text for event in of(events, Text))
    assert text
    assert events[-1].messages == ({"role": "assistant", "content": text},)  # what was heard stays
    assert model.closed == 1


def test_seconds_end_a_tool_and_the_calls_behind_it(ask):
    ended = []

    async def slow(query):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(query)

    turn = Reply("", (LOOK, Call("compute", {"a": 1, "b": 1})))
    summed = compute()
    events = heard(agent(Scripted(turn), Stand((SEARCH,), slow), summed, seconds=0.1).run(ask))
    assert ended == ["Velna and Taro"]
    assert summed.asked == []
    assert [event.observation.text for event in of(events, Observed)] == [
        "Not finished: the time for this answer is over."] * 2
    assert events[-2:] == [BudgetReached("seconds"), events[-1]]
    assert len(events[-1].messages) == 4


def test_a_slow_tool_is_stopped_and_the_model_goes_on(ask):
    model = Scripted(LOOK, "I do not know.")
    events = heard(agent(model, Stand((SEARCH,), lambda query: asyncio.sleep(60)), tool_seconds=0.05).run(ask))
    assert last_read(model) == "'search' took longer than 0.05 seconds and was stopped."
    assert events[-1].why == "answer"


def test_a_tools_own_timeout_is_its_own(ask):
    def late(query):
        raise TimeoutError("no route")

    model = Scripted(LOOK, "no")
    heard(agent(model, Stand((SEARCH,), late)).run(ask))
    assert last_read(model) == "'search' failed: TimeoutError: no route"


def test_a_long_observation_loses_its_middle_and_says_so(ask):
    model = Scripted(LOOK, "done")
    heard(agent(model, Stand((SEARCH,), lambda query: "a" * 700 + "b" * 700), observation=300).run(ask))
    assert last_read(model) == f"{'a' * 200}\n[1100 characters are left out here]\n{'b' * 100}"


def test_half_a_character_does_not_reach_the_model(ask):
    model = Scripted(LOOK, "done")
    heard(agent(model, Stand((SEARCH,), lambda query: "a\ud800b")).run(ask))
    assert last_read(model) == "a?b"


def test_a_context_that_fills_up_ends_the_run_where_work_was_done(ask):
    events = heard(agent(Scripted(LOOK, ContextFull), search()).run(ask))
    assert events[-2] == BudgetReached("context")
    with pytest.raises(ContextFull):
        heard(agent(Scripted(ContextFull), search()).run(ask))


def test_leaving_ends_the_tool_and_the_model(ask):
    ended = []

    async def slow(query):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(query)

    async def leave():
        model = Scripted(LOOK)
        run = agent(model, Stand((SEARCH,), slow)).run(ask)

        async def listen():
            async for _ in run:
                pass

        task = asyncio.create_task(listen())
        while model.closed == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        other = Scripted("on and on " * 50)
        events = aiter(agent(other).run(ask))
        await anext(events)
        await events.aclose()
        assert other.closed == 1

    asyncio.run(leave())
    assert ended == ["Velna and Taro"]


def test_a_choice_is_for_the_first_turn(ask):
    model = Scripted(LOOK, "done")
    heard(agent(model, search()).run(ask, Only("search")))
    assert model.choices == [Only("search"), "auto"]


def test_a_model_that_must_not_call_cannot(ask):
    model, looked = Scripted([Mark("<|call|>"), 'search\n{"query": "V"}'], "no", format=OwnCalls), search()
    events = heard(agent(model, looked).run(ask, "none"))
    assert looked.asked == []
    assert "tools" not in model.read[0][0]
    assert events[-1].text == "no"


def test_the_trace_reads_and_saves(ask, tmp_path):
    run = agent(Scripted(LOOK, "482 km"), search()).run(ask)
    heard(run)
    run.trace.save(tmp_path / "trace.json")
    entries = json.loads((tmp_path / "trace.json").read_text())
    assert [entry["type"] for entry in entries] == ["turn", "call", "observation", "turn", "ended"]
    assert entries[1]["arguments"] == LOOK.json
    assert all(entry["seconds"] >= 0 for entry in entries)
    lines = str(run.trace).splitlines()
    assert "calls search" in lines[1]
    assert "gives 'The Velna is 482 km" in lines[2]
    assert "ends: answer" in lines[4]


def test_a_toolbox_closes_every_tool_and_tells_a_failure():
    one, two = search(), compute()

    async def fail():
        one.closed += 1
        raise OSError("stuck")

    async def close():
        async with Toolbox([one, two]):
            pass

    asyncio.run(close())
    one.close = fail
    with pytest.raises(OSError, match="stuck"):
        asyncio.run(close())
    assert (one.closed, two.closed) == (2, 2)


def test_two_tools_of_one_name_and_a_broken_schema_are_refused():
    with pytest.raises(InputError, match="two tools are named 'search'"):
        Toolbox([search()], [SEARCH])
    with pytest.raises(InputError, match="no JSON Schema"):
        Toolbox((), [Definition("f", "", {"type": 3})])


def test_budgets_are_settings():
    assert Budgets.parse({"steps": 3}).steps == 3
    with pytest.raises(Exception, match="did you mean 'steps'"):
        Budgets.parse({"step": 3})
    assert COMPUTE.plain()["name"] == "compute"
