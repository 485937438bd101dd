"""What the server's tools did, as the page shows it, and which of them it asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
TRACE: list[Any] = [
    "First ", "words.\n",
    {"type": "call", "id": "a", "name": "browser", "arguments": '{"query": "Arn", "count": 2}'},
    {"type": "observation", "id": "a", "text": "412 <b>km</b>", "failed": False, "images": [],
     "sources": [["https://a.example/arn", "The *Arn*"]]},
    {"type": "call", "id": "b", "name": "python", "arguments": "import math\nprint(math.pi)"},
    {"type": "observation", "id": "b", "text": "NameError", "failed": True, "images": [DOT], "sources": []},
    {"type": "budget", "what": "steps"},
    "Last **words**.",
]


def ask(page: Any, text: str = "hello") -> None:
    page.fill("#input", text)
    page.press("#input", "Enter")


def traced(page: Any, standin: Any, script: list[Any]) -> Any:
    standin.script = script
    ask(page)
    page.locator("li.assistant .actions").wait_for()
    return page.locator("li.assistant .body")


def check_trace(body: Any) -> None:
    kinds = body.locator("> *").evaluate_all("all => all.map((one) => one.className)")
    assert kinds == ["text", "call", "call failed", "note", "text"]
    browsed, computed = body.locator(".call").all()
    assert browsed.locator("summary .name").text_content() == "browser"
    assert json.loads(browsed.locator("figure code").text_content()) == {"query": "Arn", "count": 2}
    assert browsed.locator(".result").text_content() == "412 <b>km</b>"
    assert browsed.locator(".state").text_content() == "done"
    link = browsed.locator(".sources a")
    assert (link.text_content(), link.get_attribute("href")) == ("The *Arn*", "https://a.example/arn")
    assert "(a.example/arn)" in browsed.locator(".sources").text_content()
    assert computed.locator("figure code").text_content() == "import math\nprint(math.pi)"
    assert computed.locator(".hljs-keyword").text_content() == "import"
    assert computed.locator(".state").text_content() == "failed"
    assert computed.locator("img").get_attribute("src") == DOT
    assert body.locator("> .note").text_content() == "The tools' budget of steps is used up."
    assert body.locator(".text").all_text_contents() == ["First words.", "Last words."]


def test_calls_and_what_came_back_stand_between_the_words_and_are_kept(chat: Any, standin: Any) -> None:
    check_trace(traced(chat, standin, TRACE))
    chat.reload()
    chat.locator(".chat").click()
    chat.locator("li.assistant .actions").wait_for()
    check_trace(chat.locator("li.assistant .body"))


def test_a_panel_is_folded_until_it_is_opened_and_its_pictures_show_always(chat: Any, standin: Any) -> None:
    panel = traced(chat, standin, TRACE).locator(".call").last
    assert not panel.locator(".result").is_visible()
    assert panel.locator("img").is_visible()
    panel.locator("summary").focus()
    chat.keyboard.press("Enter")
    panel.locator(".result").wait_for()


def test_a_call_is_said_to_run_until_something_comes_back(chat: Any, standin: Any) -> None:
    standin.script = [TRACE[2], 30.0]
    ask(chat)
    panel = chat.locator(".call.running")
    panel.wait_for()
    assert panel.locator(".state").text_content() == "running"
    chat.keyboard.press("Escape")
    chat.locator("li.assistant .actions").wait_for()
    assert chat.locator(".call .state").text_content() == "Stopped."


def test_arguments_are_read_as_what_they_are(chat: Any, standin: Any) -> None:
    cases = [
        ('{"code": "print(1)"}', "print(1)", "python"),
        ('{"a":{"b":[1]}}', '{\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}', "json"),
        ("not json {", "not json {", ""), ('"text"', '"text"', ""), ("", "", ""),
    ]
    body = traced(chat, standin, [{"type": "call", "id": str(number), "name": "any", "arguments": arguments}
                                  for number, (arguments, _, _) in enumerate(cases)])
    assert body.locator("figure code").all_text_contents() == [shown for _, shown, _ in cases]
    assert body.locator("figcaption span").all_text_contents() == [language for _, _, language in cases]


def test_the_budget_that_is_used_up_is_named_in_both_languages(chat: Any, standin: Any) -> None:
    body = traced(chat, standin, [{"type": "budget", "what": what} for what in ("tokens", "seconds", "other")])
    assert [text.split(" of ")[-1] for text in body.locator(".note").all_text_contents()] == [
        "tokens is used up.", "time is used up.", "The tools' budget is used up."]
    chat.click("#language")
    assert body.locator(".note").first.text_content() == "工具的词元数已用完。"


@pytest.mark.parametrize("offered", [None, []], ids=["unknown", "none"])
def test_a_server_without_tools_has_no_switches_and_is_asked_for_none(open_chat: Any, standin: Any,
                                                                      offered: list[Any] | None) -> None:
    standin.tools = offered
    page = open_chat()
    traced(page, standin, ["x"])
    assert not page.locator("#tools").is_visible()
    assert "tools" not in standin.asked[-1]


def test_switched_tools_are_asked_for_and_stay_switched(open_chat: Any, standin: Any) -> None:
    standin.tools = [{"type": "python", "label": "Code"}, {"type": "mcp", "label": "Weather & more"}]
    page = open_chat()
    page.locator(".tool").first.wait_for()
    assert page.locator(".tool").all_text_contents() == ["Python", "Weather & more"]
    traced(page, standin, ["x"])
    assert "tools" not in standin.asked[-1]  # none unless the person says so
    switch = page.get_by_role("button", name="Weather & more")
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    page.reload()
    page.locator(".tool[aria-pressed=true]").wait_for()
    page.click(".tool >> nth=0")
    ask(page, "again")
    page.locator("li.assistant .actions").wait_for()
    assert standin.asked[-1]["tools"] == [{"type": "python"}, {"type": "mcp"}]


def test_a_conversation_has_a_session_of_its_own_for_its_tools(open_chat: Any, standin: Any) -> None:
    standin.tools = [{"type": "python", "label": "Code"}]
    page = open_chat()
    traced(page, standin, ["x"])
    page.click(".tool")
    for count in (2, 3):
        ask(page)
        page.locator("li.assistant .actions").nth(count - 1).wait_for()
    page.click("#new")
    traced(page, standin, ["x"])
    without, one, again, other = (body.get("session") for body in standin.asked)
    assert without is None
    assert one == again != other
    assert re.fullmatch("[0-9a-f]{32}", one)


def test_a_picture_is_saved_as_what_it_is(chat: Any, standin: Any, tmp_path: Path) -> None:
    traced(chat, standin, TRACE)
    chat.locator(".picture").hover()
    with chat.expect_download() as saved:
        chat.get_by_role("button", name="Save picture").click()
    assert saved.value.suggested_filename == "picture.gif"
    saved.value.save_as(tmp_path / "picture.gif")
    assert (tmp_path / "picture.gif").read_bytes().startswith(b"GIF89a")
