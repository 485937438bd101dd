"""Each format on the texts that its models write: what is a call, what is text, what is neither."""

from __future__ import annotations

import json

import pytest

from headwater.errors import InputError
from headwater.tokenizer.calls import Call, ChatGlm3Calls, Glm4Calls, Malformed, Mark, OwnCalls, PlainCalls, Reply
from tests.tokenizer.calls.conftest import FORMATS, TOOLS, Offer

ASSISTANT, CALL = Mark("<|assistant|>"), Mark("<|call|>")
GLM4, CHATGLM3, OWN, PLAIN = Glm4Calls(TOOLS), ChatGlm3Calls(TOOLS), OwnCalls(TOOLS), PlainCalls(TOOLS)
SEARCH = Call("search", {"q": "Velna", "n": 3})


# As the models' own documentation shows their calls.
@pytest.mark.parametrize(("format_", "parts"), [
    (GLM4, ['search\n{"q": "Velna", "n": 3}']), (GLM4, [' search \n{"n": 3,\n "q": "Velna"}\n']),
    (CHATGLM3, ["search\n ```python\ntool_call(q='Velna', n=3)\n```"]),
    (CHATGLM3, [' search\n ```python\ntool_call(\n    q="Velna",\n    n=3,\n)\n```\n']),
    (OWN, [CALL, 'search\n{"q": "Velna", "n": 3}']),
    (PLAIN, ['{"name": "search", "arguments": {"q": "Velna", "n": 3}}']),
    (PLAIN, ['\n{"name" :"search","arguments":{"q":"Velna","n":3} }\n'])])
def test_a_call_is_read_as_the_family_writes_it(format_, parts):
    assert format_.parse(parts) == Reply("", (SEARCH,))


@pytest.mark.parametrize(("format_", "text", "content"), [
    (GLM4, "\n你好", "你好"), (GLM4, "Hello\nthere", "Hello\nthere"), (GLM4, "python is a language", None),
    (GLM4, "searching\n{}", None), (GLM4, "search", None), (GLM4, "\nsearch\n{}", "search\n{}"), (GLM4, "", None),
    (GLM4, "unknown\n{}", None), (CHATGLM3, " \n 你好", "你好"),
    (CHATGLM3, "\n ```python\n1\n```", "```python\n1\n```"),
    (OWN, 'search\n{"q": 1}', None), (OWN, "<|call|>search\n{}", None), (PLAIN, "a {\"name\": 1}", None),
    (PLAIN, '{"name": "Bob", "age": 3}', None), (PLAIN, '{"arguments": {}, "name": "search"}', None),
    (PLAIN, '{"name": 3, "arguments": {}}', None), (PLAIN, '{"name": "sea', None), (PLAIN, "  yes", "yes"),
    (PLAIN, '{"name": "' + "a" * 600 + '", "arguments": {}}', None), (PLAIN, '{"name": "\\x", "arguments": {}}', None)])
def test_what_is_no_call_is_text(format_, text, content):
    assert format_.parse(text) == Reply(text if content is None else content)


def test_without_tools_everything_is_text():
    for kind in (Glm4Calls, PlainCalls):
        text = '{"name": "search", "arguments": {}}' if kind is PlainCalls else "search\n{}"
        assert kind(()).parse(text) == Reply(text)


@pytest.mark.parametrize(("format_", "parts", "name", "wrong"), [
    (GLM4, 'search\n{"q": "Vel', "search", "no JSON"), (GLM4, "search\n[1]", "search", "no object but a list"),
    (GLM4, 'search\n{"q": 1} or so', "search", "no JSON: Extra data"), (GLM4, "search\n", "search", "no JSON"),
    (GLM4, 'search\n{"q": 1, "q": 2}', "search", "'q' is given twice"),
    (GLM4, 'search\n{"q": NaN}', "search", "NaN is no number"), (GLM4, 'search\n{"q": 1e999}', "search", "larger than"),
    (GLM4, 'search\n{"q": ' + "9" * 5000 + "}", "search", "too long"),
    (GLM4, 'search\n{"q": "\\ud800"}', "search", "half a character"),
    (GLM4, 'search\n{"q": ' + "[" * 64 + "]" * 64 + "}", "search", "more than 64 deep"),
    (GLM4, 'search\n{"q": ' + "[" * 100_000 + "}", "search", "more than 64 deep"),
    (GLM4, 'search\n"' + "a" * 1_000_000, "search", "more than 1000000"),
    (CHATGLM3, "search\n ```python\ntool_call(q=", "search", "cut off"),
    (CHATGLM3, "search\ntool_call(q=1)", "search", "does not begin with ```python"),
    (CHATGLM3, "search\n ```python\ntool_call(q=-0x" + "f" * 4000 + ")\n```", "search", "too long"),
    (OWN, [CALL, "search"], "", "no line of its own"), (OWN, [CALL, "\n{}"], "", "no line of its own"),
    (PLAIN, '{"name": "search", "arguments": {"q": 1}', "search", "something else"),
    (PLAIN, '{"name": "search", "arguments": {"q": 1}, "id": 2}', "search", "something else"),
    (PLAIN, '{"name": "search", "arguments": {"q": 1}} and', "search", "something else"),
    (PLAIN, '{"name": "search", "arguments": {"q": "}"', "search", "cut off"),
    (PLAIN, '{"name": "search", "arguments": "q"}', "search", "no JSON")])
def test_a_call_that_cannot_be_read_is_told_as_such(format_, parts, name, wrong):
    reply = format_.parse(parts)
    assert reply.content == ""
    (call,) = reply.calls
    assert isinstance(call, Malformed)
    assert call.name == name
    assert wrong in call.wrong
    assert call.written in (parts if isinstance(parts, str) else parts[-1])


@pytest.mark.parametrize("inner", [
    "__import__('os').system('x')", "tool_call(__import__('os'))", "tool_call(q=open('/etc/passwd'))",
    "tool_call(q=[x for x in y])", "tool_call(q=f'{x}')", "tool_call(q=1+1)", "tool_call(q=(1, 2))", "tool_call(q={1})",
    "tool_call(q=b'1')", "tool_call(q=1j)", "tool_call(q=...)", "tool_call(q=name)", "tool_call(q={1: 2})",
    "tool_call(q={**{}})", "tool_call(q=1, q=2)", "tool_call(q=1, **{'q': 2})", "tool_call(q={'a': 1, 'a': 2})",
    "tool_call(**[1])", "tool_call('Velna')", "tool_call(*['Velna'])", "tool_call(q=1e999)", "tool_call(q=-'1')",
    "tool_call(q=not 1)", "tool_call(q=lambda: 1)", "a.tool_call(q=1)", "other(q=1)", "q", "x = 1", "",
    "tool_call(q=\0)", "tool_call(q='\\ud800')", "tool_call(q=" + "[" * 64 + "]" * 64 + ")",
    "tool_call(q=" + "[" * 300 + "]" * 300 + ")",
    "tool_call(q=" + "-" * 5000 + "1)", "tool_call(q=" + "1+" * 50_000 + "1)", "tool_call(q=" + "9" * 5000 + ")",
    "tool_call(q=" + "(" * 150 + "1" + ")" * 150 + ".real)"], ids=lambda text: text[:30])
def test_chatglm3_arguments_are_literals_or_refused(inner):
    (call,) = CHATGLM3.parse(f"search\n ```python\n{inner}\n```").calls
    assert isinstance(call, Malformed)
    assert call.wrong


def test_chatglm3_reads_every_literal_that_json_has():
    inner = "tool_call(a=[1, -2.5, True, None], b={'c': \"it's\\n\"}, **{'d-e': -0.0, 'class': '河'})"
    (call,) = CHATGLM3.parse(f"search\n ```python\n{inner}\n```").calls
    assert call == Call("search", {"a": [1, -2.5, True, None], "b": {"c": "it's\n"}, "d-e": -0.0, "class": "河"})


def test_a_program_is_taken_as_it_is():
    code = 'print("{")\n\n```\nprint(1)\n```\n'
    assert GLM4.parse(f"python\n{code}") == Reply("", (Call("python", {"code": code}),))
    assert CHATGLM3.parse(f"interpreter\n ```python\n{code}\n```") == Reply("", (Call("python", {"code": code}),))
    assert CHATGLM3.parse("interpreter\n ```python\n```") == Reply("", (Call("python", {"code": ""}),))


def test_a_turn_may_hold_text_and_several_calls():
    other = Call("查询", {})
    assert GLM4.parse(["\nI look.", ASSISTANT, 'search\n{"q": "Velna", "n": 3}', ASSISTANT, "查询\n{}"]) == \
        Reply("I look.", (SEARCH, other))
    one = "search\n ```python\ntool_call(q='Velna', n=3)\n```"
    two = "查询\n ```python\ntool_call()\n```"
    assert CHATGLM3.parse([" \n I look.", ASSISTANT, one, ASSISTANT, two]) == Reply("I look.", (SEARCH, other))
    assert OWN.parse(["I look.", CALL, f"search\n{SEARCH.json}", CALL, "查询\n{}"]) == Reply("I look.", (SEARCH, other))


def test_two_pieces_of_text_are_two_lines():
    assert GLM4.parse(["\none", ASSISTANT, "\ntwo"]) == Reply("one\ntwo")


@pytest.mark.parametrize("format_", [GLM4, CHATGLM3], ids=["GLM-4", "ChatGLM3"])
def test_a_turn_that_ends_as_a_call_and_names_none_is_told(format_):
    reply = format_.parse('find\n{"q": 1}', "<|observation|>")
    assert reply.content == 'find\n{"q": 1}'
    assert [call.wrong for call in reply.calls] == ["the turn ended as a call does, and its first line names no tool "
                                                    "on offer"]
    assert format_.parse("\nhello", "<|user|>") == Reply("hello")


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\u2028b", "a" * 65, "\x07"])
def test_names_that_no_format_can_write_are_refused(name):
    with pytest.raises(InputError, match="without spaces"):
        GLM4.__class__([Offer(name)])


def test_two_tools_of_one_name_are_refused(format_):
    with pytest.raises(InputError, match="two tools are named 'search'"):
        type(format_)([Offer("search"), Offer("search")])


def test_chatglm3_writes_programs_of_one_tool_alone():
    with pytest.raises(InputError, match="here are python, shell"):
        ChatGlm3Calls([Offer("python", free_text=True), Offer("shell", free_text=True)])
    with pytest.raises(InputError, match="ChatGLM3's own"):
        ChatGlm3Calls([Offer("python", free_text=True), Offer("interpreter")])


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_system_message_tells_every_tool(name, families, trained):
    tokenizer = {"ChatGLM3": families["ChatGLM3"], "GLM-4": families["GLM-4"], "plain": families["Baichuan 2"],
                 "own": trained}[name]
    message = FORMATS[name](TOOLS).system("be brief")
    text = tokenizer.decode(tokenizer.chat.render([message, {"role": "user", "content": "?"}]).ids)
    assert text.lstrip().startswith("be brief")
    assert all(json.dumps(tool.name, ensure_ascii=False) in text or tool.free_text for tool in TOOLS)
    assert "run it" in text
    if name == "GLM-4":
        assert "be brief\n\n# 可用工具\n\n## python\n\nrun it\n\n## search\n\n{" in text


def test_without_content_and_tools_there_is_no_system_message():
    for kind in FORMATS.values():
        assert kind(()).system("") is None
        assert kind(()).system("be brief") == {"role": "system", "content": "be brief"}
