"""Breaks when a call comes back changed, or when a stream's split changes what is said of it."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.tokenizer.calls import (
    ArgumentsDelta,
    Call,
    CallBegins,
    CallEnds,
    Malformed,
    Mark,
    Reply,
    TextDelta,
    format_for,
)
from headwater.tokenizer.calls.spoken import Spoken
from tests.tokenizer.calls.conftest import FORMATS, TOOLS

FAMILY = {"ChatGLM3": "ChatGLM3", "GLM-4": "GLM-4", "GLM-4 json": "GLM-4", "Baichuan 2": "plain", "LLaMA 2": "plain"}
# SentencePiece's official models read U+2581 as a space.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"))
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                      | TEXT, lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8)
ARGUMENTS = st.dictionaries(TEXT | st.sampled_from(["q", "class", "ﬁ", "self"]), VALUES, max_size=4)
CODE = TEXT | st.sampled_from(["```", "\n```", "print(1)\n```\n", "```python\nx", " \n"])
CALLS = st.builds(Call, st.sampled_from(["search", "search_more", "查询"]), ARGUMENTS) | \
    st.builds(lambda code: Call("python", {"code": code}), CODE)
ASK = {"role": "user", "content": "?"}
PIECES = st.lists(st.sampled_from(
    ["search", "python", "interpreter", "查询", "\n", " ", "{", "}", '"name"', ": ", '"search"', ", ", '"arguments"',
     '{"q": 1}', "```python\n", "\n```", "tool_call(q='}')", "河", "\\", '"', Mark("<|assistant|>"), Mark("<|call|>"),
     Mark("[MASK]")]), max_size=14)


def spoken(tokenizer, messages):
    """What the model would have said: from where it begins to its end mark."""
    prompt = tokenizer.chat.render([ASK], add_generation_prompt=True).ids
    ids = tokenizer.chat.render([ASK, *messages]).ids
    assert ids[: len(prompt)] == prompt
    assert ids[-1] in tokenizer.chat.stop_ids
    said = Spoken(tokenizer)
    return [*said.feed(ids[len(prompt):-1]), *said.finish()]


def events(format_, parts, end=None):
    """Deltas that follow each other are one."""
    parser, found = format_.parser(), []
    for event in [*(event for part in parts for event in parser.feed(part)), *parser.finish(end)]:
        last = found[-1] if found else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            found[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, ArgumentsDelta) and isinstance(last, ArgumentsDelta):
            found[-1] = ArgumentsDelta(event.index, last.text + event.text)
        else:
            found.append(event)
    return found, parser.reply


@pytest.mark.parametrize("family", list(FAMILY))
@given(call=CALLS)
@settings(max_examples=60)
def test_a_call_comes_back_from_the_templates_ids(family, families, call):
    tokenizer = families[family]
    format_ = format_for(tokenizer.chat, TOOLS)
    assert type(format_) is FORMATS[FAMILY[family]]
    assert format_.parse(spoken(tokenizer, format_.render(Reply("", (call,))))) == Reply("", (call,))


@given(call=CALLS)
@settings(max_examples=60)
def test_a_call_comes_back_from_the_ids_of_our_own_template(trained, call):
    format_ = format_for(trained.chat, TOOLS)
    parts = spoken(trained, format_.render(Reply("", (call,))))
    assert parts[0] == Mark("<|call|>")
    assert format_.parse(parts) == Reply("", (call,))


@pytest.mark.parametrize("family", ["ChatGLM3", "GLM-4"])
@given(reply=st.builds(Reply, TEXT.filter(bool), st.lists(CALLS, max_size=3).map(tuple)))
@settings(max_examples=60)
def test_a_turn_of_text_and_calls_comes_back(family, families, reply):
    tokenizer = families[family]
    format_ = format_for(tokenizer.chat, TOOLS)
    assert format_.parse(spoken(tokenizer, format_.render(reply))) == reply


def test_what_was_written_is_written_again(format_):
    texts = {"ChatGLM3": "search\n ```python\ntool_call( q = 1 )\n```", "GLM-4": 'search\n{ "q":1}',
             "headwater's template": 'search\n{ "q":1}', "plain JSON": '{"name":"search", "arguments":{"q":1}}'}
    text = texts[format_.title]
    parts = [Mark("<|call|>"), text] if format_.title.startswith("headwater") else [text]
    (message,) = format_.render(format_.parse(parts))
    assert message["content"] == (text if format_.title == "plain JSON" else text.partition("\n")[2].lstrip())


@pytest.mark.parametrize("name", list(FORMATS))
@given(pieces=PIECES, data=st.data(), end=st.sampled_from([None, "<|observation|>"]))
@settings(max_examples=200)
def test_however_a_stream_is_split_the_events_are_the_same(name, pieces, data, end):
    whole: list = []
    for piece in pieces:
        if whole and isinstance(piece, str) and isinstance(whole[-1], str):
            whole[-1] += piece
        else:
            whole.append(piece)
    split: list = []
    for piece in whole:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(piece))))) if isinstance(piece, str) else []
        split += [piece[a:b] for a, b in pairwise([0, *cuts, len(piece)])] if isinstance(piece, str) else [piece]
    format_ = FORMATS[name](TOOLS)
    found, reply = events(format_, whole, end)
    assert events(format_, split, end) == (found, reply)
    assert format_.parse(whole, end) == reply
    check(found, reply)


def check(found, reply):
    """What every stream keeps to."""
    assert "".join(event.text for event in found if isinstance(event, TextDelta)) == reply.content
    assert tuple(event.call for event in found if isinstance(event, CallEnds)) == reply.calls
    assert [event.index for event in found if isinstance(event, CallEnds)] == list(range(len(reply.calls)))
    begun = {event.index: event.name for event in found if isinstance(event, CallBegins)}
    deltas = {event.index: event.text for event in found if isinstance(event, ArgumentsDelta)}
    for index, call in enumerate(reply.calls):
        assert begun.get(index, "") == call.name
        if isinstance(call, Call):
            assert json.loads(deltas[index]) == call.arguments
        else:
            assert isinstance(call, Malformed)


@pytest.mark.parametrize("name", list(FORMATS))
@given(call=CALLS, data=st.data())
@settings(max_examples=60)
def test_a_split_calls_deltas_are_its_arguments(name, families, trained, call, data):
    tokenizer = {"ChatGLM3": families["ChatGLM3"], "GLM-4": families["GLM-4"], "own": trained,
                 "plain": families["Baichuan 2"]}[name]
    format_ = FORMATS[name](TOOLS)
    found, reply = events(format_, spoken(tokenizer, format_.render(Reply("", (call,)))))
    assert reply == Reply("", (call,))
    check(found, reply)


@pytest.mark.parametrize("name", list(FORMATS))
def test_text_goes_on_at_once_and_a_call_is_never_shown(name):
    parser = FORMATS[name](TOOLS).parser()
    assert parser.feed("Search") == [TextDelta("Search")]
    assert parser.feed("ing") == [TextDelta("ing")]
    starts = {"ChatGLM3": ["sear", "ch\n"], "GLM-4": ["sear", "ch\n"], "own": [Mark("<|call|>"), "sear", "ch\n"],
              "plain": ['{"na', 'me": "search", "arguments":']}
    parser = FORMATS[name](TOOLS).parser()
    assert [event for part in starts[name] for event in parser.feed(part)] == [CallBegins(0, "search")]


def test_arguments_of_json_and_programs_go_on_as_they_come(format_):
    if format_.title != "ChatGLM3":
        parser = format_.parser()
        start = {"GLM-4": ["search\n"], "plain JSON": ['{"name": "search", "arguments": ']}.get(
            format_.title, [Mark("<|call|>"), "search\n"])
        for part in start:
            parser.feed(part)
        assert parser.feed('{"q": "Vel') == [ArgumentsDelta(0, '{"q": "Vel')]
    if format_.title in ("GLM-4", "ChatGLM3"):
        parser = format_.parser()
        parser.feed("python\n" if format_.title == "GLM-4" else "interpreter\n ```python\n")
        assert parser.feed('print("a")') == [ArgumentsDelta(0, '{"code": "print(\\"a\\")')]
