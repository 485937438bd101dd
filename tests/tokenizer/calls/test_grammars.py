"""Breaks when a grammar refuses a call that the format writes, or lets a model write one that cannot be read."""

from __future__ import annotations

import random

import pytest

from headwater.errors import InputError
from headwater.tokenizer.calls import Call, ChatGlm3Calls, Malformed, Mark, Only, Reply
from headwater.tokenizer.calls.python_grammar import keywords
from headwater.tokenizer.calls.schema import Checker
from tests.tokenizer.calls.conftest import FORMATS, Offer

llguidance = pytest.importorskip("llguidance", reason="llguidance is not installed")
MARKS = ["</s>", "<|user|>", "<|assistant|>", "<|observation|>", "<|call|>", "<|end|>"]
TEXT = {"type": "string", "maxLength": 6}
CODE = {"type": "object", "properties": {"code": TEXT}, "required": ["code"], "additionalProperties": False}
POINT = {"type": "object", "properties": {"x": {"type": "number"}, "it's": {"type": "boolean"}}, "required": ["x"],
         "additionalProperties": False}
SEARCH = {"type": "object", "additionalProperties": False, "required": ["q"], "properties": {
    "n": {"type": "integer"}, "q": TEXT, "kind": {"enum": ["river", "it's", None, 3]},
    "at": {"type": "array", "items": POINT, "maxItems": 2}, "or": {"anyOf": [TEXT, {"type": "null"}]}}}
# Python's names for keywords, which ChatGLM3 writes bare.
SEARCH["properties"]["other"] = SEARCH["properties"].pop("or")
SEARCH["properties"]["page"] = {"type": ["integer", "null"], "minimum": 1}
TOOLS = (Offer("search", parameters=SEARCH), Offer("now", parameters={"type": "object", "properties": {}}),
         Offer("python", parameters=CODE, free_text=True))


class Bytes:
    """A vocabulary of single bytes and the marks behind them."""

    tokens = [bytes([byte]) for byte in range(256)] + [mark.encode() for mark in MARKS]
    special_token_ids = list(range(256, 256 + len(MARKS)))
    eos_token_id, bos_token_id = 256, None

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@pytest.fixture(scope="module")
def tokenizer():
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))


def matcher(tokenizer, grammar):
    compiled = llguidance.LLMatcher.grammar_from_lark(grammar)
    assert llguidance.LLMatcher.validate_grammar(compiled, tokenizer) == ""
    return llguidance.LLMatcher(tokenizer, compiled, log_level=0)


def ids(parts, end):
    tokens = [token for part in parts for token in (
        [256 + MARKS.index(part.name)] if isinstance(part, Mark) else list(part.encode()))]
    return tokens + ([256 + MARKS.index(end)] if end else [])


def accepts(tokenizer, grammar, parts, end):
    one = matcher(tokenizer, grammar)
    tokens = ids(parts, end)
    return one.validate_tokens(tokens) == len(tokens) and one.consume_tokens(tokens) and one.is_accepting()


def walk(tokenizer, grammar, draw, limit=900):
    """What a model of random weights says under the grammar; ends of the turn are not drawn away from."""
    one, said = matcher(tokenizer, grammar), []
    for _ in range(limit):
        mask = one.compute_bitmask()
        allowed = [token for token in range(256 + len(MARKS)) if mask[token // 8] >> token % 8 & 1]
        token = draw.choice([mark for mark in allowed if mark >= 256] or allowed)
        if token == 256:
            assert one.is_accepting()
            return said, None
        assert one.consume_token(token)
        assert not one.is_error()
        if token >= 256 and one.is_accepting():
            return said, MARKS[token - 256]
        said.append(token)
    raise AssertionError("it did not come to an end")


def parts_of(tokens):
    """Bytes to text, marks apart."""
    found, run = [], bytearray()
    for token in tokens:
        if token < 256:
            run.append(token)
        else:
            found += [run.decode(errors="replace"), Mark(MARKS[token - 256])]
            run = bytearray()
    return [part for part in [*found, run.decode(errors="replace")] if part]


ENDS = {"ChatGLM3": ("<|observation|>", None), "GLM-4": ("<|observation|>", "<|user|>"), "own": ("<|end|>", "<|end|>"),
        "plain": (None, None)}
CALLS = [Call("search", {"q": "河"}), Call("search", {"n": -3, "q": "it's\n", "kind": "it's", "at": [{"x": 1.5}]}),
         Call("search", {"q": "", "at": [{"x": 0, "it's": True}, {"x": -2}], "other": None, "page": 3}),
         Call("now", {})]


def written(name, reply):
    """As the model writes the turn, without its end."""
    parts = []
    for number, message in enumerate(FORMATS[name](TOOLS).render(reply)):
        if name in ("ChatGLM3", "GLM-4"):
            parts += [Mark("<|assistant|>")] if number else []
            parts += [message.get("metadata", "") + "\n" + message["content"]]
        elif name == "own" and "metadata" in message:
            parts += [Mark("<|call|>"), message["metadata"] + "\n" + message["content"]]
        else:
            parts += [message["content"]]
    return parts


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_grammar_takes_what_the_format_writes(name, tokenizer):
    format_, (called, said) = FORMATS[name](TOOLS), ENDS[name]
    programs = ["a = 1", "", "\n\n", *(["a = '```'\n`b`\n  ```\n``c\n"] if format_.several else [])]
    for call in [*CALLS, *(Call("python", {"code": text}) for text in programs)]:
        parts = written(name, Reply("", (call,)))
        for choice in ("auto", "required", Only(call.name)):
            assert accepts(tokenizer, format_.grammar(choice), parts, called), (call, choice)
        assert not accepts(tokenizer, format_.grammar(Only("now" if call.name != "now" else "search")), parts, called)
        if name != "plain":  # whose text may be anything where no call may be
            assert not accepts(tokenizer, format_.grammar("none"), parts, called)
    for choice in ("auto", "none"):
        assert accepts(tokenizer, format_.grammar(choice), written(name, Reply("Hello\n河")), said)
    assert not accepts(tokenizer, format_.grammar("required"), written(name, Reply("Hello")), said)
    several = written(name, Reply("", (CALLS[0], CALLS[3])))
    if format_.several:
        assert accepts(tokenizer, format_.grammar(), several, called)
        assert accepts(tokenizer, format_.grammar(), written(name, Reply("I look.", tuple(CALLS))), called)
    assert not accepts(tokenizer, format_.grammar(parallel=False), several, called)


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_random_model_writes_calls_that_fit_their_schemas(name, tokenizer):
    format_, draw = FORMATS[name](TOOLS), random.Random(0)
    checkers = {tool.name: Checker(tool.parameters, where=tool.name) for tool in TOOLS}
    seen = set()
    for choice in ("required", Only("search"), "auto"):
        for _ in range(12):
            # A program of random bytes would not come upon its fence.
            format_ = FORMATS[name](TOOLS[:2] if name == "ChatGLM3" else TOOLS)
            tokens, _end = walk(tokenizer, format_.grammar(choice, parallel=False), draw)
            reply = format_.parse(parts_of(tokens))
            assert reply.calls or choice == "auto"
            for call in reply.calls:
                assert not isinstance(call, Malformed), call
                code = call.name == "python" and name in ("ChatGLM3", "GLM-4")  # as it is, of any length
                assert code or not checkers[call.name].mistakes(call.arguments)
                seen.add(call.name)
    assert "search" in seen


def test_a_choice_of_no_tool_is_refused(format_):
    with pytest.raises(InputError, match="did you mean 'search'"):
        format_.grammar(Only("search_"))
    with pytest.raises(InputError, match="no tool is on offer"):
        type(format_)(()).grammar("required")


def test_chatglm3s_names_of_arguments_may_be_chinese(tokenizer):
    schema = {"type": "object", "properties": {"城市": TEXT, "单位": TEXT}, "required": ["城市"]}
    format_ = ChatGlm3Calls([Offer("天气", parameters=schema)])
    call = Call("天气", {"城市": "河"})
    assert accepts(tokenizer, format_.grammar("required"), [
        "天气\n```python\ntool_call(城市='河')\n```"], "<|observation|>")
    assert format_.parse("天气\n ```python\ntool_call(城市='河')\n```").calls == (call,)
    # Python would read the name as another.
    with pytest.raises(InputError, match="no plain name in Python"):
        ChatGlm3Calls([Offer("f", parameters={"properties": {"ﬁ": TEXT}})]).grammar("required")


@pytest.mark.parametrize(("schema", "told"), [
    ({"pattern": "a", "type": "string"}, "has 'pattern'"),
    ({"type": "array", "uniqueItems": True}, "has 'uniqueItems'"),
    ({}, "any type"), ({"type": "object", "additionalProperties": True}, "any keys"), ({"type": "date"}, "type 'date'"),
    ({"$ref": "#/$defs/None"}, "refers to"), ({"$ref": "https://example.org/x"}, "refers to"), (3, "has 3 where")])
def test_what_chatglm3s_grammar_cannot_promise_is_refused(schema, told):
    with pytest.raises(InputError, match=f"'search' .*{told}"):
        keywords({"type": "object", "properties": {"q": schema}}, "inner_", "search")


def test_chatglm3s_grammar_follows_definitions_that_hold_themselves(tokenizer):
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
            "required": ["next"]}
    tool = Offer("search", parameters={"type": "object", "properties": {"root": {"$ref": "#/$defs/Node"}},
                                       "required": ["root"], "$defs": {"Node": node}})
    format_ = FORMATS["ChatGLM3"]([tool])
    call = Call("search", {"root": {"next": {"next": None}}})
    assert accepts(tokenizer, format_.grammar(), ["search\n" + format_.write(call)], "<|observation|>")


def test_a_property_that_is_no_name_in_python_is_refused():
    with pytest.raises(InputError, match="no plain name in Python"):
        keywords({"type": "object", "properties": {"a-b": {"type": "string"}}}, "inner_", "search")


def test_a_number_that_a_schema_does_not_bound_stays_one_here(tokenizer):
    tool = Offer("f", parameters={"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]})
    for name, text in (("GLM-4", 'f\n{"x": %s}'), ("ChatGLM3", "f\n```python\ntool_call(x=%s)\n```")):
        grammar = FORMATS[name]([tool]).grammar()
        assert accepts(tokenizer, grammar, [text % "-12345.678"], "<|observation|>")
        assert not accepts(tokenizer, grammar, [text % "1e999"], "<|observation|>")


def test_properties_that_nobody_described_are_not_written(tokenizer):
    part = {"type": "object", "properties": {"a": {"type": "string"}}}
    for schema, more in ((part, False), ({"allOf": [part, {"type": "object", "properties": {"b": {}}}]}, True)):
        grammar = FORMATS["GLM-4"]([Offer("f", parameters=schema)]).grammar()
        assert accepts(tokenizer, grammar, ['f\n{"a": "x"}'], "<|observation|>")
        assert accepts(tokenizer, grammar, ['f\n{"a": "x", "b": "y"}'], "<|observation|>") == more
