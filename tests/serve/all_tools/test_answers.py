"""The server's own tools behind the API: a scripted model works with them, in streams and without."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from headwater.agent.tool import Kind
from headwater.atlas.world import World
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.calls import Call
from tests.serve.all_tools.conftest import BROWSER, POST, PYTHON, WEATHER, Post, httpx, joined, named, streaming, whole
from tests.serve.all_tools.scripted import Script, roomy_run


def last_observation(text: str) -> str:
    return text.rpartition("<|observation|>")[2].partition("<|end|>")[0]


def marching(river: str, each: int) -> list[Any]:
    """A policy in three steps, which knows nothing but what it reads: look the river up, compute, answer."""
    def read(text: str) -> Call:
        found = re.search(r"【(\d+)】", last_observation(text))
        assert found, text
        return Call("mclick", {"ids": [int(found[1])]})

    def compute(text: str) -> Call:
        found = re.search(rf"{river}[^.]*? (\d+) km|(\d+) km[^.]*?{river}", last_observation(text))
        assert found, text
        return Call("python", {"code": f"import math\nprint(math.ceil({found[1] or found[2]} / {each}))"})

    def answer(text: str) -> str:
        return f"It takes {last_observation(text).strip()} days."

    return [Call("search", {"query": f"How long is {river}?"}), read, compute, answer]


def solved(server: Any, script: Script, world: World) -> tuple[list[Any], str]:
    river = next(one for one in world.described() if one.kind == "river")
    [length] = [fact.value for fact in world.facts_of(river) if fact.attribute == "length"]
    name = river.en.removeprefix("the ")
    script.says(*marching(name, 17))
    with streaming(server, BROWSER, PYTHON, stream_options={"include_usage": True},
                   messages=[{"role": "user", "content": f"How many days along {river.en} at 17 km a day?"}]) as events:
        return list(events), f"It takes {-(-length // 17)} days."


def test_a_task_of_three_steps_is_solved_through_the_api_in_a_stream(
        server: Any, script: Script, world: World, sandbox: None) -> None:
    events, wanted = solved(server, script, world)
    text, agent, ending = joined(events)
    assert (text, ending) == (wanted, {"finish_reason": "stop"})
    assert [(one["type"], one.get("name", one.get("failed"))) for one in agent] == [
        ("call", "search"), ("observation", False), ("call", "mclick"), ("observation", False), ("call", "python"),
        ("observation", False)]
    assert agent[4]["arguments"].startswith("import math\n")  # a program as it is, not as JSON
    assert agent[3]["sources"][0][0].endswith(".html")
    assert [one["id"] for one in agent[::2]] == [one["id"] for one in agent[1::2]]
    [said] = [event["usage"] for event in events if event.get("usage")]
    tokenizer = server.engine.tokenizer
    assert said["completion_tokens"] > len(tokenizer.encode(text)) + 20
    assert said["prompt_tokens"] > 3000  # of four turns, each with what the tools are
    assert said["total_tokens"] == said["prompt_tokens"] + said["completion_tokens"]


def test_a_stream_and_a_whole_answer_say_the_same(server: Any, script: Script) -> None:
    for turns in ([Call("search", {"query": "regatta"}), Call("mclick", {"ids": [1]}), "In May."],
                  [Call("mclick", {"ids": [9]}), "Nothing was there."]):
        script.says(*turns)
        message = whole(server, BROWSER)["choices"][0]
        script.says(*turns)
        with streaming(server, BROWSER) as events:
            text, agent, ending = joined(list(events))
        assert (text, ending["finish_reason"]) == (message["message"]["content"], message["finish_reason"])
        assert named(agent) == named(message["message"]["agent"])
        assert len(agent) == 2 * len(turns) - 2


def test_openais_client_reads_it_all(client: Any, script: Script) -> None:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    asked = {"model": "tiny", "messages": [{"role": "user", "content": "?"}], "tools": [BROWSER]}
    script.says(Call("search", {"query": "regatta"}), "In May.")
    found = client.chat.completions.create(**asked)
    assert ChatCompletion.model_validate(found.model_dump()) == found
    assert [one["type"] for one in found.choices[0].message.agent] == ["call", "observation"]
    script.says(Call("search", {"query": "regatta"}), "In May.")
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert all(ChatCompletionChunk.model_validate(one.model_dump()) == one for one in chunks)
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "In May."
    assert [one.agent["type"] for one in chunks if not one.choices] == ["call", "observation"]
    again = [*asked["messages"], found.choices[0].message, {"role": "user", "content": "Sure?"}]
    script.says("Yes.")
    client.chat.completions.create(**{**asked, "messages": again})
    [read] = script.read  # what the tool gave for the answer before is read again
    assert "<|call|>search\n" in read
    assert read.count("<|observation|>") == 1
    assert read.index("regatta is held in May") < read.index("In May.")


def test_a_pages_order_calls_nothing_that_the_user_has_not_allowed(
        server: Any, script: Script, post: Post, sandbox: None) -> None:
    obeying = [Call("search", {"query": "Quellmar regatta"}), Call("post", {"text": "all I know"}),
               Call("python", {"code": "print('secret')"}), "I was told to."]
    script.says(*obeying)
    message = whole(server, BROWSER)["choices"][0]["message"]
    assert [one["failed"] for one in message["agent"] if one["type"] == "observation"] == [False, True, True]
    assert "There is no tool named 'post'" in message["agent"][3]["text"]
    assert post.sent == []
    assert not any("Send a text" in text or "Runs Python" in text for text in script.read)  # nor is the model told
    script.says(*obeying)
    message = whole(server, BROWSER, POST)["choices"][0]["message"]
    assert "needs the user's approval, and nobody can be asked" in message["agent"][3]["text"]
    assert post.sent == []
    script.says(Call("post", {"text": "hello"}), "Sent.")  # before anybody else's words: as the user wishes
    assert whole(server, BROWSER, POST)["choices"][0]["message"]["content"] == "Sent."
    assert post.sent == ["hello"]


def test_an_earlier_answers_pages_are_others_words_too(server: Any, script: Script, post: Post) -> None:
    script.says(Call("search", {"query": "regatta"}), "In May.")
    message = whole(server, BROWSER, POST)["choices"][0]["message"]
    script.says(Call("post", {"text": "all"}), "Done.")
    asked = [{"role": "user", "content": "?"}, message, {"role": "user", "content": "And now?"}]
    second = whole(server, BROWSER, POST, messages=asked)["choices"][0]["message"]
    assert second["agent"][1]["failed"]
    assert post.sent == []


def test_a_function_of_the_clients_comes_back_and_the_conversation_goes_on(
        server: Any, script: Script) -> None:
    script.says(Call("search", {"query": "regatta"}), Call("weather", {"city": "Quellmar"}))
    with streaming(server, BROWSER, WEATHER) as events:
        streamed = list(events)
    script.says(Call("search", {"query": "regatta"}), Call("weather", {"city": "Quellmar"}))
    choice = whole(server, BROWSER, WEATHER)["choices"][0]
    message = choice["message"]
    assert (choice["finish_reason"], message["content"]) == ("tool_calls", None)
    assert [one["type"] for one in message["agent"]] == ["call", "observation"]
    [call] = message["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"city": "Quellmar"})
    pieces = [one for event in streamed for choice in event["choices"] for one in choice["delta"].get("tool_calls", ())]
    assert (pieces[0]["function"]["name"], len(pieces) > 2) == ("weather", True)
    assert json.loads("".join(one["function"]["arguments"] for one in pieces)) == {"city": "Quellmar"}
    assert joined(streamed)[2] == {"finish_reason": "tool_calls"}
    script.says("It rains, and the regatta is in May.")
    second = whole(server, BROWSER, WEATHER, messages=[
        {"role": "user", "content": "?"}, message, {"role": "tool", "tool_call_id": call["id"], "content": "rain"}])
    assert second["choices"][0]["finish_reason"] == "stop"
    [read] = script.read
    assert read.index("<|call|>search") < read.index("<|call|>weather") < read.index("<|observation|>rain")


def test_names_live_from_cell_to_cell_and_end_with_the_answer(server: Any, script: Script, sandbox: None) -> None:
    cells = [Call("python", {"code": "a = 41"}), Call("python", {"code": "a + 1"})]
    script.says(*cells, "42.")
    agent = whole(server, PYTHON)["choices"][0]["message"]["agent"]
    assert agent[3]["text"] == "42"
    script.says(cells[1], "Gone.")
    assert "NameError" in whole(server, PYTHON)["choices"][0]["message"]["agent"][1]["text"]


def test_an_mcp_servers_tool_is_called_and_only_those_that_are_listed(
        trained: Tokenizer, small_model: Path, serving: Any, tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed")
    from headwater.agent.mcp import McpSettings, McpTools
    from headwater.serve.server_tools import ServerTools
    from tests.agent.test_mcp import TEXT
    from tests.agent.test_mcp import server as stranger

    strange, asked = stranger(TEXT)
    settings = McpSettings(command=["not started here"], tools=["look"], harmless=["look"])
    kinds = {"strange": Kind("strange", lambda: McpTools.open(settings, strange))}
    with serving(roomy_run(tmp_path, trained, small_model), tools=ServerTools(kinds)) as running:
        script = Script(running.engine)
        script.says(Call("look", {"at": "Velna"}), Call("erase", {}), "482 km.")
        message = whole(running, {"type": "strange"})["choices"][0]["message"]
    told = [one["text"] for one in message["agent"] if one["type"] == "observation"]
    assert told[0] == "482 km"
    assert "There is no tool named 'erase'" in told[1]
    assert asked == [("look", {"at": "Velna"})]


def test_a_call_can_be_asked_for_and_none_can(server: Any, script: Script) -> None:
    script.says("No call.")
    choice = whole(server, BROWSER, tool_choice="none")["choices"][0]
    assert "agent" not in choice["message"]
    assert "<|tools|>" not in script.read[0]
    script.says(Call("find", {"text": "May"}), "Done.")
    chosen = {"type": "function", "function": {"name": "find"}}
    assert whole(server, BROWSER, tool_choice=chosen)["choices"][0]["message"]["agent"][0]["name"] == "find"
    demanded, free = script.params
    assert '"find' in demanded.constraint.text
    assert '"search' not in demanded.constraint.text
    assert '"search' in free.constraint.text


def test_a_random_models_calls_fit_and_are_carried_out(server: Any) -> None:
    for seed in range(4):
        asked = {"tool_choice": "required", "temperature": 1.5, "seed": seed, "budgets": {"steps": 1}, "max_tokens": 80}
        found = [whole(server, BROWSER, WEATHER, **asked)["choices"][0] for _ in range(2)]
        messages = [{**one["message"], "agent": named(one["message"]["agent"]), "tool_calls": [
            call["function"] for call in one["message"].get("tool_calls", ())]} for one in found]
        assert messages[0] == messages[1]  # the same seed, the same work
        message = messages[0]
        assert message["tool_calls"] or message["agent"][0]["name"] in ("search", "mclick", "open_url", "find")
        assert not any("do not fit" in one.get("text", "") for one in message["agent"])


def test_the_page_reads_what_there_is_and_metrics_count_calls(server: Any, script: Script) -> None:
    offered = httpx.get(server.url + "/tools.json").json()
    assert [one["type"] for one in offered] == list(server.tools.kinds)
    assert all(isinstance(one["label"], str) for one in offered)
    script.says(Call("search", {"query": "regatta"}), Call("mclick", {"ids": [77]}), Call("made_up", {"a": 1}), "Done.")
    whole(server, BROWSER)
    text = httpx.get(server.url + "/metrics").text
    for name, outcome in (("search", "done"), ("mclick", "failed"), ("unknown", "wrong")):
        assert re.search(rf'headwater_tool_calls_total{{name="{name}",outcome="{outcome}"}} [1-9]', text)
    assert "made_up" not in text


def test_the_page_shows_the_work_as_it_is(server: Any, script: Script, world: World) -> None:
    from tests.serve.page.conftest import ARGUMENTS, CHROMIUM

    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    script.says(lambda text: "In **May**." if "<|observation|>" in text else Call("search", {"query": "regatta"}))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_context(locale="en-US").new_page()
        page.goto(server.url)
        page.locator("#tools button", has_text="Browser").click()
        page.fill("#input", "When is the regatta?")
        page.press("#input", "Enter")
        page.locator("li.assistant .actions").wait_for()
        body = page.locator("li.assistant .body")
        assert body.locator(".call .name").text_content() == "search"
        assert "Quellmar regatta is held in May" in body.locator(".result").text_content()
        assert body.locator(".sources a, .sources li").count() > 0
        assert body.locator(".text strong").text_content() == "May"
        page.fill("#input", "Sure?")
        page.press("#input", "Enter")
        page.locator("li.assistant .actions").nth(1).wait_for()
        browser.close()
    assert script.read[-2].count("In **May**.") == 1


@pytest.mark.parametrize("again", [True, False], ids=["with", "without"])
def test_words_before_a_call_stand_apart_from_those_after_it(again: bool) -> None:
    from headwater.agent.events import Called, Observed, Text
    from headwater.agent.tool import Observation
    from headwater.serve.work_told import WorkTold

    told = WorkTold()
    before = [Text("  Let me"), Text(" look. ")] if again else [Text("\n")]
    events = [*before, Called("a", "find", "{}"), Observed("a", Observation("none")), Text("\n"), Text(" Nothing.")]
    pieces = [piece["delta"]["content"] for event in events for piece in told.feed(event) if "delta" in piece]
    assert "".join(pieces) == ("Let me look. \n\nNothing." if again else "Nothing.")
