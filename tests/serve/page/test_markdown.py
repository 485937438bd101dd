"""What a model writes, as the page shows it."""

from __future__ import annotations

from typing import Any

import pytest

SHOW = """async ([text]) => {
  const { elements, parse } = await import('/js/markdown.js');
  const place = document.createElement('div');
  place.className = 'text';
  place.append(elements(parse(text, {}), {}));
  document.querySelector('#welcome').append(place);
  await new Promise((done) => setTimeout(done, 20));
  return place.outerHTML;
}"""


@pytest.fixture(scope="module")
def shown(browser: Any, _standing: Any) -> Any:
    """Shows a text on one page for all tests of this file; the locator of what became of it."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(_standing.url)

    def show(text: str) -> Any:
        page.evaluate(SHOW, [text])
        return page.locator("#welcome > .text").last

    yield show
    context.close()


@pytest.mark.parametrize(("text", "html"), [
    ("**注意：**后面", "<p><strong>注意：</strong>后面</p>"),
    ("这是**“引用”**后面", "<p>这是<strong>“引用”</strong>后面</p>"),
    ("重*（轻）*声", "<p>重<em>（轻）</em>声</p>"),
    ("𠮷**「野」**家", "<p>𠮷<strong>「野」</strong>家</p>"),
    ("**bold** text", "<p><strong>bold</strong> text</p>"),
    ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
    ("snake_case_name", "<p>snake_case_name</p>"),
    ('a**"b"**c', '<p>a**"b"**c</p>'),
])
def test_emphasis_beside_chinese_marks_and_elsewhere_as_commonmark_has_it(shown: Any, text: str, html: str) -> None:
    assert shown(text).inner_html() == html


@pytest.mark.parametrize(("text", "formulas", "rest"), [
    ("so $a^2$ and \\(b\\)", ["a^2", "b"], "so @ and @"),
    ("$$x$$", ["x"], "@"),
    ("$$\nx\n+ y\n$$", ["x\n+ y"], "@"),
    ("text\n\\[ z \\]\nmore", ["z"], "text\n@\nmore"),
    ("- item\n  $$\n  q\n  $$", ["q"], "item\n@"),
    ("\\begin{align}a&=b\\end{align}", ["\\begin{align}a&=b\\end{align}"], "@"),
    ("inline $$y$$ here", ["y"], "inline @ here"),
    ("costs $5 and $6", [], "costs $5 and $6"),
    ("from $ to $", [], "from $ to $"),
    ("`$a$` stays", [], "$a$ stays"),
    ("```\n$$a$$\n```", [], "$$a$$"),
    ("长度$L$是", ["L"], "长度@是"),
    ("never $$ closed", [], "never $$ closed"),
    ("$$\nnever closed\n\nnext", [], "$$\nnever closed\nnext"),
])
def test_formulas_are_found_in_every_writing_and_money_is_none(shown: Any, text: str, formulas: list[str],
                                                               rest: str) -> None:
    place = shown(text)
    assert place.locator("annotation").all_text_contents() == formulas
    text = place.evaluate("""(place) => {
      const copy = place.cloneNode(true);
      copy.querySelectorAll('.math').forEach((math) => math.replaceWith('@'));
      copy.querySelectorAll('figcaption').forEach((caption) => caption.remove());
      return copy.textContent;
    }""")
    assert text.replace("\n", "").strip() == rest.replace("\n", "")


def test_a_faulty_formula_is_shown_as_it_was_written(shown: Any) -> None:
    place = shown("$\\frac{1}$ and $x$")
    assert place.locator(".faulty").text_content() == "\\frac{1}"
    assert place.locator(".katex").count() == 1


def test_formulas_keep_their_layout_under_the_strict_policy(open_chat: Any) -> None:
    page = open_chat()  # its guard fails the test where the policy had to forbid a style
    page.evaluate(SHOW, ["$$\\pmb{v} \\fcolorbox{red}{blue}{x} \\oiint \\left\\lfloor \\begin{matrix}1\\\\2\\\\3\\\\4"
                         "\\\\5\\\\6\\\\7\\end{matrix} \\right\\rfloor \\phase{x} \\frac{\\int}{\\color{green} y}$$"])
    assert page.locator(".faulty, [data-style]").count() == 0
    assert page.locator(".math svg[style]").count() > 0
    widths = page.locator(".math svg[style]").evaluate_all("all => all.map((svg) => [svg.style.width, "
                                                           "svg.getAttribute('width')])")
    assert all(style == attribute for style, attribute in widths)
    heights = page.locator(".katex-html .strut").evaluate_all("all => all.map((strut) => strut.style.height)")
    assert all(height.endswith("em") for height in heights)


def test_code_is_coloured_by_its_language_and_else_plain(shown: Any) -> None:
    place = shown("```python\ndef f():\n    return 'x<y'\n```\n\n```nosuch\ndef\n```\n\n    indented\n")
    assert place.locator("pre").all_text_contents() == ["def f():\n    return 'x<y'\n", "def\n", "indented\n"]
    assert place.locator("figcaption span").all_text_contents() == ["python", "nosuch", ""]
    assert place.locator(".hljs-keyword").all_text_contents() == ["def", "return"]
    assert place.locator(".hljs-title.function_").text_content() == "f"


def test_tables_lists_and_headings_have_their_elements(shown: Any) -> None:
    place = shown("# One\n\n| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n3. three\n   - inner\n\nline\nbreak\n---\n> said")
    assert [place.locator(tag).count() for tag in ("h3", ".table > table", "ol[start='3'] ul", "p > br", "hr",
                                                   "blockquote")] == [1] * 6
    assert place.locator("td.center").text_content() == "1"
    assert place.locator("td.right").text_content() == "2"


@pytest.mark.parametrize(("text", "address", "told"), [
    ("[home](https://a.example/b?c=d)", "https://a.example/b?c=d", "home (a.example/b?c=d)"),
    ("https://a.example/b", "https://a.example/b", "https://a.example/b"),
    ("<https://a.example>", "https://a.example", "https://a.example"),
    ("[https://bank.example](https://evil.example)", "https://evil.example",
     "https://bank.example (evil.example)"),
    ("[apple](https://аpple.com)", "https://xn--pple-43d.com", "apple (xn--pple-43d.com)"),
    ("https://a.example，然后", "https://a.example", "https://a.example，然后"),
    ("[](https://a.example/x)", "https://a.example/x", "a.example/x"),
    ("[write](mailto:a@b.example)", "mailto:a@b.example", "write (a@b.example)"),
    ("![map](https://a.example/m.png?q=secret)", "https://a.example/m.png?q=secret",
     "map (a.example/m.png?q=secret)"),
])
def test_links_tell_where_they_lead_and_open_apart(shown: Any, text: str, address: str, told: str) -> None:
    place = shown(text)
    assert place.text_content() == told
    link = place.locator("a")
    assert link.get_attribute("href") == address
    assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")


@pytest.mark.parametrize("text", [
    "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](data:text/html;base64,PGI+)", "[x](vbscript:a)",
    "[x](file:///etc/passwd)", "[x](/v1/models)", "[x](//evil.example)", "[x](&#106;avascript:alert(1))",
    "[x](data:image/png;base64,AAAA)", "<javascript:alert(1)>", "[x][r]\n\n[r]: javascript:alert(1)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)", "![x](data:text/html,x)", "![x](x.png)", "[x](https://)",
], ids=range(15))
def test_other_addresses_are_no_links_and_load_nothing(shown: Any, text: str) -> None:
    assert shown(text).locator("a, img").count() == 0


def test_pictures_inside_the_text_are_shown(shown: Any) -> None:
    image = shown("![dot](data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=)").locator("img")
    assert image.get_attribute("alt") == "dot"
    assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 1
