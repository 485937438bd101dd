"""Conversations: kept in the browser, opened, changed, exported, bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def ask(page: Any, standin: Any, text: str, *script: Any) -> None:
    standin.script = list(script)
    count = page.locator("li.assistant").count()
    page.fill("#input", text)
    page.press("#input", "Enter")
    page.locator("li.assistant").nth(count).locator(".actions").wait_for()


def told(standin: Any) -> list[tuple[str, str]]:
    """What the last request said."""
    return [(message["role"], message["content"]) for message in standin.asked[-1]["messages"]]


def test_conversations_are_kept_reopened_and_gone_on_with(chat: Any, standin: Any) -> None:
    ask(chat, standin, "first question", "one **bold**")
    chat.click("#new")
    ask(chat, standin, "second question", "two")
    assert told(standin) == [("user", "second question")]
    chat.reload()
    assert chat.locator(".chat .title").all_text_contents() == ["second question", "first question"]
    chat.get_by_role("button", name="first question").click()
    assert chat.locator("li.user .said").all_text_contents() == ["first question"]
    assert chat.locator("li.assistant .text strong").text_content() == "bold"
    ask(chat, standin, "more", "three")
    assert told(standin) == [("user", "first question"), ("assistant", "one **bold**"), ("user", "more")]
    assert chat.locator(".chat .title").all_text_contents() == ["first question", "second question"]
    assert chat.locator(".chat[aria-current]").text_content().startswith("first question")


def test_chats_are_found_by_any_word_in_them(chat: Any, standin: Any) -> None:
    ask(chat, standin, "about rivers", "the Arn")
    chat.click("#new")
    ask(chat, standin, "about lakes", "the Oruma")
    chat.keyboard.press("Control+k")
    chat.keyboard.type("arn")
    assert chat.locator(".chat .title").all_text_contents() == ["about rivers"]
    chat.fill("#find", "nothing of this")
    assert chat.locator("#no-chats").text_content() == "None found."


def test_a_chat_is_deleted_at_the_second_click(chat: Any, standin: Any) -> None:
    ask(chat, standin, "to be deleted", "x")
    chat.locator("#chats li").hover()
    chat.get_by_role("button", name="Delete", exact=True).click()
    assert chat.locator(".chat").count() == 1
    chat.get_by_role("button", name="Delete?").click()
    assert chat.locator(".chat, #messages > li").count() == 0
    chat.reload()
    assert chat.locator(".chat").count() == 0


def test_a_deleted_chat_does_not_come_back_with_its_answer(chat: Any, standin: Any) -> None:
    standin.script = ["some", 30.0]
    chat.fill("#input", "go")
    chat.press("#input", "Enter")
    chat.locator("li.assistant .text").wait_for()
    chat.evaluate("document.querySelector('#remove-all').click(); document.querySelector('#remove-all').click()")
    chat.wait_for_timeout(100)
    assert chat.evaluate("Object.keys(localStorage).filter((key) => key.includes('chat'))") == []


def test_answering_again_replaces_the_answer(chat: Any, standin: Any) -> None:
    ask(chat, standin, "a", "one")
    ask(chat, standin, "b", "two")
    standin.script = ["three"]
    assert chat.get_by_role("button", name="Answer again").count() == 1  # the last alone
    chat.get_by_role("button", name="Answer again").click()
    chat.locator("li.assistant .text", has_text="three").wait_for()
    assert chat.locator("li.assistant .text").all_text_contents() == ["one", "three"]
    assert told(standin) == [("user", "a"), ("assistant", "one"), ("user", "b")]


def test_an_edited_question_is_asked_anew_and_what_followed_is_gone(chat: Any, standin: Any) -> None:
    ask(chat, standin, "a", "one")
    ask(chat, standin, "b", "two")
    chat.locator("li.user").first.hover()
    chat.locator("li.user .edit").first.click()
    field = chat.locator(".editing textarea")
    assert field.input_value() == "a"
    field.fill("changed")
    standin.script = ["three"]
    field.press("Enter")
    chat.locator("li.assistant .text", has_text="three").wait_for()
    assert chat.locator("li.user .said").all_text_contents() == ["changed"]
    assert told(standin) == [("user", "changed")]


def test_the_last_question_is_edited_by_the_arrow_and_left_by_escape(chat: Any, standin: Any) -> None:
    ask(chat, standin, "a", "one")
    chat.press("#input", "ArrowUp")
    chat.locator(".editing textarea").fill("changed")
    chat.keyboard.press("Escape")
    assert chat.locator(".editing").count() == 0
    assert chat.locator("li.user .said").text_content() == "a"


def test_an_interrupted_answer_stays_and_one_that_never_came_is_not_told_again(chat: Any, standin: Any) -> None:
    standin.script = ["half", 30.0]
    chat.fill("#input", "a")
    chat.press("#input", "Enter")
    chat.locator("li.assistant .text", has_text="half").wait_for()
    chat.keyboard.press("Escape")
    chat.locator("li.assistant .actions").wait_for()
    ask(chat, standin, "b")  # an empty answer
    ask(chat, standin, "c", "x")
    assert told(standin) == [("user", "a"), ("assistant", "half"), ("user", "c")]


def test_the_answer_so_far_is_kept_when_the_page_is_left(chat: Any, standin: Any) -> None:
    standin.script = ["half an answer", 30.0]
    chat.fill("#input", "a")
    chat.press("#input", "Enter")
    chat.locator("li.assistant .text", has_text="half").wait_for()
    chat.reload()
    chat.locator(".chat").click()
    assert chat.locator("li.assistant .text").text_content() == "half an answer"


def test_a_server_that_is_gone_is_told_and_asked_again_when_the_person_says(chat: Any, standin: Any) -> None:
    chat.route("**/chat/completions", lambda route: route.abort())
    ask(chat, standin, "a", "one")
    assert chat.locator(".note.bad").text_content() == "The server does not answer. Is it still running?"
    chat.unroute("**/chat/completions")
    chat.get_by_role("button", name="Try again").click()
    chat.locator("li.assistant .text", has_text="one").wait_for()
    assert chat.locator(".note").count() == 0


def test_messages_are_copied_as_written_and_code_alone(open_chat: Any, standin: Any) -> None:
    page = open_chat(permissions=["clipboard-read", "clipboard-write"])
    ask(page, standin, "a", "see **this**\n\n```py\nx = 1\n```")
    page.locator("li.assistant .actions .copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == "see **this**\n\n```py\nx = 1\n```"
    page.locator(".copy-code").click()
    page.locator(".copy-code.copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "x = 1\n"


def test_settings_and_the_chosen_model_are_sent(open_chat: Any, standin: Any) -> None:
    standin.models = [{"id": "river"}, {"id": "poet", "parent": "river"}]
    page = open_chat()
    page.select_option("#models", "poet")
    page.keyboard.press("Control+,")
    chosen = {"temperature": "0.7", "top_p": "0.9", "max_tokens": "12", "seed": "5", "system": "Be short."}
    for name, value in chosen.items():
        page.fill(f"#{name}", value)
    page.click("#done")
    standin.late = 0.3
    page.reload()
    ask(page, standin, "a", "x")  # before the page knows the models
    body = standin.asked[-1]
    assert {name: body[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed", "stream")} == {
        "model": "poet", "temperature": 0.7, "top_p": 0.9, "max_tokens": 12, "seed": 5, "stream": True}
    assert told(standin) == [("system", "Be short."), ("user", "a")]
    assert page.locator("li.assistant .by").text_content() == "poet"


def test_a_question_that_waits_for_the_models_is_stopped(chat: Any, standin: Any) -> None:
    standin.late = 5
    chat.reload()
    chat.fill("#input", "a")
    chat.press("#input", "Enter")
    chat.click("#stop")
    chat.locator("li.assistant .actions").wait_for(timeout=3000)
    assert standin.asked == []


def test_a_server_that_wants_a_key_is_given_it(chat: Any, standin: Any) -> None:
    standin.key = "sk-river"
    chat.reload()
    chat.locator("#settings[open]").wait_for()
    assert chat.evaluate("document.activeElement.id") == "api_key"
    assert chat.locator("#model").text_content() == "This server asks for an API key."
    for wrong in ("密", "sk-lake"):
        chat.fill("#api_key", wrong)
        chat.press("#api_key", "Tab")
        chat.wait_for_timeout(50)
        assert chat.locator("#model").text_content() == "This server asks for an API key."
    chat.fill("#api_key", "sk-river")
    chat.click("#done")
    chat.get_by_text("river", exact=True).wait_for()
    chat.reload()
    chat.get_by_text("river", exact=True).wait_for()


@pytest.mark.parametrize(("kind", "name"), [("json", "A-question.json"), ("markdown", "A-question.md")])
def test_a_chat_is_exported(chat: Any, standin: Any, tmp_path: Path, kind: str, name: str) -> None:
    ask(chat, standin, "A question?", "First.\n",
        {"type": "call", "id": "1", "name": "python", "arguments": "f('```')"},
        {"type": "observation", "id": "1", "text": "412", "failed": False, "images": [DOT],
         "sources": [["https://a.example", "Title"]]}, "Last.")
    chat.click("#open-settings")
    with chat.expect_download() as saved:
        chat.click(f"#export-{kind}")
    assert saved.value.suggested_filename == name
    saved.value.save_as(tmp_path / name)
    text = (tmp_path / name).read_text(encoding="utf-8")
    if kind == "json":
        exported = json.loads(text)
        assert exported["title"] == "A question?"
        assert [message["content"] for message in exported["messages"]] == ["A question?", "First.\nLast."]
        assert [event["type"] for event in exported["messages"][1]["agent"]] == ["call", "observation"]
    else:
        order = ["# A question?", "## You", "A question?", "## Model", "First.", "````\nf('```')\n````", "412", DOT,
                 "- Title: <https://a.example>", "Last."]
        places = [text.index(part, 15 if number else 0) for number, part in enumerate(order)]
        assert places == sorted(places)


def test_what_is_kept_is_bounded(chat: Any) -> None:
    kept = chat.evaluate("""async () => {
      const store = await import('/js/store.js');
      const chat = (number, content, agent) => ({ id: `c${number}`, title: `${number}`, updated: number, dropped: 0,
        messages: [{ role: 'user', content: 'q' }, { role: 'assistant', content, agent }] });
      for (let number = 0; number < 60; number += 1) store.keep(chat(number, 'x'));
      const many = store.conversations().map((one) => one.id);
      for (let number = 60; number < 70; number += 1) store.keep(chat(number, 'y'.repeat(900_000)));
      const large = store.conversations().map((one) => one.id);
      const images = ['data:image/png;base64,' + 'A'.repeat(900_000), 'data:image/png;base64,BB'];
      store.keep(chat(70, 'z', [{ type: 'observation', id: '1', at: 0, images: [...images].reverse() },
        { type: 'observation', id: '2', at: 0, images }]));
      const events = store.conversation('c70').messages[1].agent;
      const pictures = events.map((event) => event.images.map((one) => one.length));
      const tooLarge = store.keep(chat(71, 'w'.repeat(5_500_000)));
      const after = store.conversations().map((one) => one.id);
      localStorage.setItem('filling', 'v'.repeat(5_200_000 - JSON.stringify(localStorage).length));
      const full = store.keep(chat(72, 'u'.repeat(500_000)));
      return { many, large, pictures, tooLarge, after, full, last: store.conversations().map((one) => one.id) };
    }""")
    assert kept["many"] == [f"c{number}" for number in range(59, 9, -1)]
    assert kept["large"] == ["c69", "c68", "c67", "c66"]
    assert kept["pictures"] == [[24, 0], [900_022, 24]]
    assert (kept["tooLarge"], kept["after"]) == (False, ["c70", "c69", "c68", "c67"])
    assert (kept["full"], kept["last"]) == (True, ["c72", "c70", "c69", "c68"])  # the oldest made room


def test_a_browser_that_keeps_nothing_still_chats(browser: Any, standin: Any) -> None:
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })")
    page.goto(standin.url)
    ask(page, standin, "a", "one")
    assert page.locator(".chat .title").all_text_contents() == ["a"]
    context.close()
