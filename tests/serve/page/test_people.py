"""People: input methods, keyboards, screen readers, phones, eyes, languages."""

from __future__ import annotations

import re
from typing import Any

import pytest

from headwater.serve.static import PAGE

PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}
LONG = "Words `and_a_very_long_identifier_that_goes_on_and_on_and_on_and_on` " + "x" * 200 + """

| a wide | table with | many columns | of which | none is | short enough |
|---|---|---|---|---|---|
| cell | cell | cell | cell | cell | cell |

```python
some_very_long_line_of_code = "that does not end before the screen of a phone does, and then goes on for a while"
```

$$a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p + q + r + s + t + u + v + w + x + y + z = 1$$

中文""" + "很长" * 80


def ask(page: Any, standin: Any, text: str, *script: Any) -> None:
    standin.script = list(script)
    page.fill("#input", text)
    page.click("#send")
    page.locator("li.assistant .actions").last.wait_for()


def test_enter_chooses_a_candidate_while_an_input_method_composes(chat: Any, standin: Any) -> None:
    standin.script = ["好"]
    devtools = chat.context.new_cdp_session(chat)
    chat.focus("#input")
    chat.evaluate("""() => {
      window.composing = [];
      document.querySelector('#input').addEventListener('keydown', (event) => window.composing.push(event.isComposing));
    }""")
    devtools.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    devtools.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    assert chat.evaluate("window.composing") == [True]
    assert chat.locator("#messages > li").count() == 0
    devtools.send("Input.insertText", {"text": "你好"})
    assert chat.input_value("#input") == "你好"
    chat.keyboard.press("Enter")
    chat.locator("li.assistant .actions").wait_for()
    assert standin.asked[-1]["messages"][-1]["content"] == "你好"


def test_safaris_enter_after_a_composition_sends_nothing(chat: Any) -> None:
    chat.fill("#input", "ni")
    chat.evaluate("document.getElementById('input').dispatchEvent(new KeyboardEvent('keydown', "
                  "{key: 'Enter', keyCode: 229, bubbles: true, cancelable: true}))")
    assert chat.locator("#messages > li").count() == 0


def test_enter_sends_and_shift_enter_begins_a_line(chat: Any, standin: Any) -> None:
    standin.script = ["x"]
    chat.keyboard.type("one")
    chat.keyboard.press("Shift+Enter")
    chat.keyboard.type("two")
    chat.keyboard.press("Enter")
    chat.locator("li.assistant .actions").wait_for()
    assert standin.asked[-1]["messages"][-1]["content"] == "one\ntwo"
    assert chat.input_value("#input") == ""


def test_on_a_touch_screen_enter_begins_a_line_and_the_button_sends(open_chat: Any, standin: Any) -> None:
    page = open_chat(**PHONE)
    page.fill("#input", "one")
    page.press("#input", "Enter")
    assert page.input_value("#input") == "one\n"
    standin.script = ["x"]
    page.tap("#send")
    page.locator("li.assistant .actions").wait_for()


def test_every_listed_key_does_what_it_says(chat: Any, standin: Any) -> None:
    def focused() -> str:
        return chat.evaluate("document.activeElement.id")

    chat.keyboard.press("Control+k")
    assert focused() == "find"
    chat.keyboard.press("Control+,")
    assert chat.locator("#settings").evaluate("(dialog) => dialog.open")
    chat.keyboard.press("Escape")
    assert not chat.locator("#settings").evaluate("(dialog) => dialog.open")
    ask(chat, standin, "a", "b")
    chat.keyboard.press("Control+Shift+O")
    assert chat.locator("#messages > li").count() == 0
    assert focused() == "input"
    chat.keyboard.type("/?")
    assert chat.input_value("#input") == "/?"
    chat.focus("#new")
    chat.keyboard.press("?")
    assert chat.locator("#help dt").count() == chat.locator("#help dd").count() == 9
    chat.keyboard.press("Escape")
    chat.focus("#new")
    chat.keyboard.press("/")
    assert focused() == "input"


def test_the_tab_key_walks_the_page_in_the_order_of_sight(chat: Any, standin: Any) -> None:
    standin.tools = [{"type": "python", "label": "Code"}]
    chat.reload()
    chat.locator(".tool").wait_for()
    chat.focus(".skip")
    walked = []
    for _ in range(11):
        chat.keyboard.press("Tab")
        walked.append(chat.evaluate("document.activeElement.id || document.activeElement.className"))
    assert walked == ["close-sidebar", "find", "new", "open-settings", "open-help", "language",
                      "example", "example", "example", "input", "tool"]
    chat.focus(".skip")
    chat.keyboard.press("Enter")
    assert chat.evaluate("document.activeElement.id") == "input"


def test_a_screen_reader_hears_the_beginning_and_the_whole_answer_once(chat: Any, standin: Any) -> None:
    chat.evaluate("""() => {
      window.heard = [];
      new MutationObserver(() => window.heard.push(document.querySelector('#status').textContent))
        .observe(document.querySelector('#status'), { childList: true, characterData: true, subtree: true });
    }""")
    ask(chat, standin, "a", *"a long answer in many pieces")
    chat.wait_for_function("window.heard.length > 1")
    assert chat.evaluate("window.heard") == ["The model is answering.", "Answer: a long answer in many pieces"]
    status = chat.locator("#status")
    assert (status.get_attribute("role"), status.get_attribute("aria-live")) == ("status", "polite")
    assert chat.locator("#messages[aria-live], #messages [aria-live]").count() == 0


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_everything_that_can_be_operated_has_a_name_in_the_persons_language(open_chat: Any, standin: Any,
                                                                            language: str) -> None:
    standin.models = [{"id": "m-1"}, {"id": "m-2", "parent": "m-1"}]
    page = open_chat(locale=language)
    ask(page, standin, "a", "```py\nx\n```", {"type": "call", "id": "1", "name": "t", "arguments": "{}"}, "b")
    names = page.evaluate("""() => [...document.querySelectorAll('button, input, select, textarea, summary, [role]')]
      .filter((one) => !['option', 'optgroup'].includes(one.localName))
      .map((one) => [one.outerHTML.slice(0, 90), one.getAttribute('aria-label') ?? one.closest('label')?.textContent
        ?? one.textContent])""")
    nameless = [html for html, name in names if not name.strip() and "status" not in html]
    assert nameless == []
    own = [name for html, name in names if "example" not in html and "language" not in html]
    han = [bool(re.search(r"[\u4e00-\u9fff]", name)) for name in own]
    if language == "en-US":
        assert not any(han)
    else:
        assert sum(han) > 20
    assert page.get_attribute("html", "lang") == language.replace("en-US", "en")


def test_both_languages_have_the_same_words_and_the_page_uses_them_all() -> None:
    text = (PAGE / "js/words.js").read_text(encoding="utf-8")
    english, chinese = (set(re.findall(r"^    (\w+):", half, flags=re.M)) for half in text.split("  zh: {"))
    assert english == chinese
    rest = "".join(path.read_text(encoding="utf-8") for path in [*PAGE.glob("js/*.js"), PAGE / "index.html"]
                   if path.name != "words.js") + "otherLanguage"
    assert {key for key in english if not re.search(rf"\b{key}\b", rest)} == set()
    used = set(re.findall(r'data-(?:text|placeholder|title)="(\w+)"', rest)) | set(re.findall(r'word\("(\w+)"', rest))
    assert used <= english


@pytest.mark.parametrize("options", [PHONE, {"viewport": {"width": 1280, "height": 800}}], ids=["phone", "wide"])
def test_nothing_is_wider_than_the_screen(open_chat: Any, standin: Any, options: dict[str, Any]) -> None:
    standin.models = [{"id": "a-model-with-a-name-that-is-longer-than-a-phone-is-wide"}, {"id": "b", "parent": "a"}]
    standin.tools = [{"type": name, "label": "A tool with a long name"} for name in ("python", "browser", "one", "two")]
    page = open_chat(**options)
    page.locator(".tool").first.wait_for()
    ask(page, standin, "question" * 40, LONG, {"type": "call", "id": "1", "name": "n" * 80, "arguments": "x" * 300},
        {"type": "observation", "id": "1", "text": "y" * 300,
         "sources": [["https://a.example/" + "z" * 200, "t" * 200]]})
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    width = options["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("(() => { const box = document.querySelector('#scroller'); "
                         "return box.scrollWidth - box.clientWidth })()") == 0
    for sought in (".text", ".call", ".said", ".field", "#send", "header", "#new", "#language"):
        box = page.locator(sought).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    for dialog in ("settings", "help"):
        page.evaluate(f"document.querySelector('#{dialog}').showModal()")
        assert page.locator(f"#{dialog}").evaluate("(box) => box.scrollWidth - box.clientWidth") == 0
        page.keyboard.press("Escape")


def test_on_a_phone_the_chats_lie_over_the_page_and_fingers_find_everything(open_chat: Any, standin: Any) -> None:
    page = open_chat(**PHONE)
    ask(page, standin, "a", "b")
    page.tap("#new")
    assert not page.locator("#sidebar").is_visible()
    page.tap("#menu")
    page.locator(".chat").tap()
    page.locator("#sidebar").wait_for(state="hidden")
    assert page.locator("li.user .said").text_content() == "a"
    small = page.evaluate("""() => [...document.querySelectorAll('button')].filter((one) => one.checkVisibility())
      .map((one) => [one.id || one.className, one.getBoundingClientRect().height])
      .filter(([, height]) => height < 36)""")
    assert small == []
    assert "viewport-fit=cover" in page.locator("meta[name=viewport]").get_attribute("content")


def test_a_keyboard_that_covers_the_page_leaves_the_field_in_sight(open_chat: Any) -> None:
    page = open_chat(**PHONE)
    page.evaluate("""() => {
      Object.defineProperty(visualViewport, 'height', { value: 300 });
      visualViewport.dispatchEvent(new Event('resize'));
    }""")
    box = page.locator(".field").bounding_box()
    assert box["y"] + box["height"] <= 300


@pytest.mark.parametrize(("device", "chosen", "dark"), [("light", "auto", False), ("dark", "auto", True),
                                                        ("light", "dark", True), ("dark", "light", False)])
def test_light_and_dark_follow_the_device_or_the_person_and_can_be_read(open_chat: Any, device: str, chosen: str,
                                                                        dark: bool) -> None:
    page = open_chat(color_scheme=device)
    page.click("#open-settings")
    page.select_option("#theme", chosen)
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == ("dark" if dark else "light")
    colours = page.evaluate("""() => {
      const style = getComputedStyle(document.documentElement);
      const names = ['ink', 'faint', 'accent', 'bad', 'good', 'page', 'panel', 'sunken', 'bubble', 'on-accent',
        ...['keyword', 'string', 'number', 'name', 'comment'].map((kind) => `code-${kind}`)];
      return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    }""")
    pairs = [(text, ground) for text in ("ink", "faint", "accent", "bad") for ground in ("page", "panel")]
    pairs += [("ink", "bubble"), ("on-accent", "accent"), ("faint", "sunken"), ("good", "page")]
    pairs += [(name, "sunken") for name in colours if name.startswith("code-")]
    assert {pair: contrast(*(colours[name] for name in pair)) for pair in pairs
            if contrast(*(colours[name] for name in pair)) < 4.5} == {}


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio."""
    def luminance(colour: str) -> float:
        parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_nothing_moves_for_those_who_asked_for_stillness(open_chat: Any, standin: Any) -> None:
    page = open_chat(reduced_motion="reduce")
    standin.script = [{"type": "call", "id": "1", "name": "t", "arguments": ""}, 30.0]
    page.fill("#input", "a")
    page.press("#input", "Enter")
    page.locator(".call.running").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate("document.getAnimations().length") > 0
