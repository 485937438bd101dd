from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    """The page in English at temperature 0; any error of the page itself fails the test."""
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.set_default_timeout(10_000)
    open_page(page, server)
    yield page
    context.close()
    assert errors == []


def open_page(page: Any, server: Any) -> None:
    page.goto(server.url)
    page.evaluate("localStorage.setItem('headwater.temperature', '0')")
    page.reload()
    page.get_by_text("tiny", exact=True).wait_for()


def say(page: Any, text: str) -> None:
    page.fill("#input", text)
    page.press("#input", "Enter")


def answered(page: Any, count: int) -> str:
    """The text of the last of `count` answers, once it is complete."""
    page.locator("li.assistant").nth(count - 1).wait_for()
    page.locator("#send").wait_for()
    assert page.locator("li.assistant").count() == count
    return str(page.locator("li.assistant .text").last.text_content())


def test_questions_in_both_languages_are_answered(page: Any, lessons: dict[str, str]) -> None:
    say(page, "你好")
    assert answered(page, 1) == lessons["你好"]
    page.click("#new")
    say(page, "hello")
    assert answered(page, 1) == lessons["hello"]


def test_markup_in_an_answer_stays_text(page: Any) -> None:
    say(page, "hello")
    assert "<b>and</b>" in answered(page, 1)
    assert page.locator("li.assistant .text b").count() == 0


def test_the_language_button_translates_the_page_and_is_remembered(page: Any) -> None:
    assert page.locator("#welcome h2").text_content() == "What would you like to talk about?"
    page.click("#language")
    page.reload()
    assert page.locator("#welcome h2").text_content() == "想聊些什么？"
    assert page.get_attribute("html", "lang") == "zh-CN"


def test_the_page_proposes_what_the_run_asked_and_else_its_own(browser: Any, run_folder: Path, serving: Any) -> None:
    with serving(run_folder, examples=["hello", "你好"]) as server:
        page = browser.new_page(locale="en-US")
        open_page(page, server)
        page.get_by_role("button", name="你好", exact=True).wait_for()
        assert page.locator("#examples button").all_text_contents() == ["hello", "你好"]
        page.click("#language")
        assert page.locator("#examples button").all_text_contents() == ["hello", "你好"]
        page.close()


def test_settings_are_sent_and_remembered(page: Any) -> None:
    page.click("#open-settings")
    page.fill("#system", "Be a river.")
    page.click("#done")
    page.reload()
    with page.expect_request("**/chat/completions") as sent:
        say(page, "hello")
    body = sent.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be a river."}
    assert body["temperature"] == 0
    answered(page, 1)


def test_enter_that_ends_a_composition_sends_nothing(page: Any) -> None:
    page.fill("#input", "ni")
    page.evaluate("document.getElementById('input').dispatchEvent("
                  "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))")
    assert page.locator("li").count() == 0


def test_stop_ends_the_answer_and_frees_the_slot(browser: Any, run_folder: Path, serving: Any) -> None:
    with serving(run_folder, endless=True) as server:
        step = server.engine.step
        server.engine.step = lambda: (time.sleep(0.05), step())[1]
        page = browser.new_page(locale="en-US")
        open_page(page, server)
        say(page, "hello")
        page.locator("li.assistant .text", has_text="A r").wait_for()
        page.click("#stop")
        page.get_by_text("Stopped.").wait_for(timeout=5000)
        deadline = time.monotonic() + 5
        while server.engine.busy and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server.engine.busy
        page.close()


def test_a_long_conversation_leaves_out_its_first_rounds(page: Any) -> None:
    for count in range(1, 9):
        say(page, "hello " * 6)
        answered(page, count)
    assert page.get_by_text("Earlier messages no longer fit").count() > 0
    assert page.locator(".note.bad").count() == 0
