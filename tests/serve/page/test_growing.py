"""How an answer grows on the page: nothing flickers, nothing is done twice, nothing is lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ENGLISH = """# Rivers of the Atlas

The **Arn** is *long*, its `source` is [on a hill](https://a.example/hill), see $a^2 + b_1$ and \\(c\\).

1. **First** item
2. second, ~~not~~ with `code`

   still the second

- one
- two
  - deeper **bold** text

| River | km |
|:--|--:|
| Arn | 412 |
| Belo | 388 |

```python
def f(x):
    return [x]  # not a mark
```

$$
\\frac{a}{b}
$$

> said **someone**
> twice

It costs $5. Done ![map](https://a.example/m.png) here."""
CHINESE = """## 河流

**注意：**这是**“重要”**的。流速是 $v = \\frac{1}{n}$，其中`n`是糙率。

* 第一，*快*
* 第二，[链接](https://a.example)

| 名 | 长 |
|---|---|
| 阿 | 412 |

1. 一
2. 二

完。"""
GROW = """async ([pieces]) => {
  const { LiveText } = await import('/js/live.js');
  const { mend } = await import('/js/mend.js');
  const place = document.createElement('div');
  place.className = 'text';
  document.querySelector('#welcome').append(place);
  const live = new LiveText(place);
  const seen = [];
  for (const piece of pieces) {
    live.source += piece;
    live.show(mend(live.source.slice(live.settled)));
    seen.push({ text: place.innerText, tags: [...place.children].map((one) => one.className || one.tagName),
                open: live.source.length - live.settled });
  }
  live.finish();
  const whole = document.createElement('div');
  whole.className = 'text';
  const other = new LiveText(whole);
  other.source = live.source;
  other.finish();
  place.remove();
  return { seen, html: place.innerHTML, whole: whole.innerHTML };
}"""


@pytest.fixture(scope="module")
def grow(browser: Any, _standing: Any) -> Any:
    """Shows a text piece by piece: what was seen after each, and the end beside the text shown at once."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(_standing.url)
    yield lambda pieces: page.evaluate(GROW, [pieces])
    context.close()


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_at_no_letter_do_marks_show_or_blocks_change_their_kind(grow: Any, text: str) -> None:
    seen = grow(list(text))["seen"]
    for before, after in pairwise(seen):
        for mark in ("**", "~~", "](", "$$", "|-", "`", "\\(", "!["):
            assert mark not in after["text"], after["text"][-60:]
        kinds = [[kind.replace(" pending", "") for kind in moment["tags"]] for moment in (before, after)]
        assert kinds[1][:len(kinds[0])] == kinds[0]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
@pytest.mark.parametrize("size", [1, 2, 5, 17])
def test_a_text_that_grew_is_the_text_shown_at_once(grow: Any, text: str, size: int) -> None:
    end = grow([text[at:at + size] for at in range(0, len(text), size)])
    assert end["html"] == end["whole"]


MARKS = st.lists(st.sampled_from([
    "**", "*", "_", "`", "```", "```py\n", "~~", "\n", "\n\n", "- ", "1. ", "2) ", "> ", "# ", "| a | b |\n",
    "|---|---|\n", "---", "$", "$$", "\\(", "\\)", "\\[", "\\]", "[", "](", "https://a.example", ")", "![", "\\", "a",
    "word ", "河流", "：", "“", "”", "    ", "  ", "<b>", "&amp;", "{", "}", "^", "_1", "[r]: https://r.example\n",
    "[r]", "😀"]), max_size=24)


def test_however_a_text_of_marks_comes_its_end_is_the_same(grow: Any) -> None:
    @settings(max_examples=150, derandomize=True)
    @given(MARKS)
    def check(pieces: list[str]) -> None:
        end = grow(pieces)
        assert end["html"] == end["whole"]

    check()


def test_what_is_shown_is_never_parsed_again(grow: Any) -> None:
    paragraph = "A river begins in the hills and **ends** in the sea. "
    text = "\n\n".join([paragraph * 3] * 100)
    seen = grow([text[at:at + 200] for at in range(0, len(text), 200)])["seen"]
    assert max(moment["open"] for moment in seen) < 2 * len(paragraph) * 3 + 200


def test_what_stands_keeps_its_elements_and_what_is_selected_in_it(chat: Any, standin: Any) -> None:
    standin.script = ["First **paragraph** of all.\n\n- item one\n- item", 0.4, " two\n- item three", 0.1, "\n\nlast"]
    chat.fill("#input", "go")
    chat.press("#input", "Enter")
    chat.locator("li.assistant .text li").nth(1).wait_for()
    chat.evaluate("""() => {
      const [paragraph, item] = ['p', 'li'].map((tag) => document.querySelector(`li.assistant .text ${tag}`));
      paragraph.mine = item.mine = true;
      getSelection().selectAllChildren(item);
    }""")
    chat.locator("li.assistant .actions").wait_for()
    assert chat.locator("li.assistant .text > *").count() == 3
    assert chat.evaluate("['p', 'li'].every((tag) => document.querySelector(`li.assistant .text ${tag}`).mine)")
    assert chat.evaluate("getSelection().toString()") == "item one"


def test_the_page_follows_a_reader_at_the_end_and_leaves_one_who_scrolled_away(chat: Any, standin: Any) -> None:
    lines = [f"line {number}\n\n" for number in range(60)]
    standin.script = [*lines, 0.3, *lines, "end"]
    chat.fill("#input", "go")
    chat.press("#input", "Enter")
    below = """(() => {
      const box = document.querySelector('#scroller');
      return box.scrollHeight - box.scrollTop - box.clientHeight;
    })()"""
    chat.get_by_text("line 59").wait_for()
    assert chat.evaluate(below) < 80
    chat.evaluate("document.querySelector('#scroller').scrollTop = 100")
    chat.locator("li.assistant .actions").wait_for()
    assert chat.evaluate("document.querySelector('#scroller').scrollTop") == 100
    chat.click("#to-end")
    assert chat.evaluate(below) < 2
    chat.locator("#to-end").wait_for(state="hidden")


def test_escape_stops_the_answer_and_the_server_learns_it(chat: Any, standin: Any) -> None:
    standin.script = ["some **text", 30.0, "never"]
    chat.fill("#input", "go")
    chat.press("#input", "Enter")
    chat.locator("li.assistant .text", has_text="some text").wait_for()
    chat.keyboard.press("Escape")
    chat.get_by_text("Stopped.").wait_for()
    assert chat.locator("li.assistant .text").text_content() == "some **text"
    assert chat.locator("#send").is_visible()
    chat.wait_for_timeout(100)
    assert standin.left == 1
