"""Breaks when a row of a public form loses or invents a word, or when a mistake in one passes in silence."""

import json
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from headwater.dialogues.forms import form_of, messages_of
from headwater.dialogues.rows import BadRow
from headwater.tokenizer.chat import JINJA

TOOL = {"name": "look_up", "description": "长度", "parameters": {"type": "object", "properties": {}}}
OPENAI_TOOL = {"type": "function", "function": TOOL}
ASK = {"role": "user", "content": "How long is the Velna?"}
ANSWER = {"role": "assistant", "content": "482 km."}
ARGUMENTS = '{"name": "维尔纳"}'
CALL = {"role": "assistant", "content": ARGUMENTS, "metadata": "look_up"}
RESULT = {"role": "observation", "content": '{"value": 482}'}
OFFER = {"role": "system", "content": "", "tools": [TOOL]}
TOLD = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": ARGUMENTS}}
CALLED = [ASK, {"role": "assistant", "content": None, "tool_calls": [TOLD]},
          {"role": "tool", "tool_call_id": "call_1", "content": '{"value": 482}'}, ANSWER]


def read(row, notes=None):
    return messages_of(row, form_of(row), Counter() if notes is None else notes)


@pytest.mark.parametrize("tools", [[TOOL], [OPENAI_TOOL], json.dumps([TOOL]), json.dumps([OPENAI_TOOL])])
def test_openai_rows_with_tools_and_calls(tools):
    assert read({"messages": CALLED, "tools": tools}) == [OFFER, ASK, CALL, RESULT, ANSWER]
    spoken = [{"role": "developer", "content": "Be brief."}, *CALLED]
    assert read({"messages": spoken, "tools": tools})[0] == {"role": "system", "content": "Be brief.", "tools": [TOOL]}


def test_an_answer_with_a_call_becomes_two_messages():
    row = {"messages": [ASK, {**CALLED[1], "content": "I look it up."}, *CALLED[2:]], "tools": None}
    assert read(row) == [ASK, {"role": "assistant", "content": "I look it up."}, CALL, RESULT, ANSWER]


def test_content_in_parts_is_joined_and_reasoning_left_out_and_counted():
    parts = [{"type": "reasoning", "value": "Hm."}, {"type": "tool_call", "value": json.dumps(TOLD["function"])}]
    row = {"messages": [{"role": "user", "content": [{"type": "text", "text": "How long is "},
                                                     {"type": "text", "value": "the Velna?"}]},
                        {"role": "assistant", "content": parts}, *CALLED[2:]]}
    notes = Counter()
    assert read(row, notes) == [ASK, CALL, RESULT, ANSWER]
    assert notes == {"parts of reasoning are left out": 1}


def test_sharegpt_rows_with_tools_and_calls():
    call = json.dumps({"name": "look_up", "arguments": json.loads(ARGUMENTS)}, ensure_ascii=False)
    turns = [("human", ASK["content"]), ("function_call", call), ("observation", RESULT["content"]),
             ("gpt", ANSWER["content"])]
    row = {"conversations": [{"from": speaker, "value": text} for speaker, text in turns],
           "tools": json.dumps([TOOL]), "system": "Be brief."}
    assert read(row) == [{"role": "system", "content": "Be brief.", "tools": [TOOL]}, ASK, CALL, RESULT, ANSWER]
    row["conversations"][1]["value"] = f"[{call}, {call}]"
    assert read(row)[2:4] == [CALL, CALL]


def test_alpaca_rows_with_history():
    row = {"instruction": "翻译", "input": "river", "output": "河流", "system": "简短", "history": [["hi", "hello"]],
           "id": 7, "source": "web"}
    assert read(row) == [{"role": "system", "content": "简短"}, {"role": "user", "content": "hi"},
                         {"role": "assistant", "content": "hello"}, {"role": "user", "content": "翻译\nriver"},
                         {"role": "assistant", "content": "河流"}]
    assert read({"instruction": "hi", "input": "", "output": "hello", "history": []})[0]["content"] == "hi"


@pytest.mark.parametrize("tools", [None, [OPENAI_TOOL]])
def test_transformers_writes_the_same_from_the_row_itself(trained, tools):
    """What other programs make of our recorded template, from OpenAI's own form."""
    plain = [{"role": "system", "content": "Be brief."}, *CALLED]
    plain[2] = {**plain[2], "content": "I look it up."}
    for messages in (plain, CALLED):
        [text], _ = render_jinja_template([messages], tools=tools, chat_template=JINJA, bos_token="<s>")
        row = {"messages": messages, "tools": tools}
        assert trained.spell(trained.chat.render(read(row)).ids) == text


def alpaca(**values):
    return {"instruction": "a", "output": "b", **values}


def spoken(*turns):
    return {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}


@pytest.mark.parametrize(("row", "reason", "fix"), [
    ({"mesages": [ASK, ANSWER]}, "unknown key 'mesages'", "did you mean 'messages'?"),
    ({"instruction": "a", "outputz": "b"}, "unknown key 'outputz'", "did you mean 'output'?"),
    (alpaca(inputs="c"), "unknown key 'inputs'", "did you mean 'input'?"),
    (alpaca(chosen="c", rejected="d"), "unknown keys 'chosen', 'rejected'", "known here: instruction, output, input"),
    ({"messages": [{**ASK, "contents": "x"}]}, "unknown key 'contents'", "did you mean 'content'?"),
    ({"conversations": [{"form": "human", "value": "x"}]}, "unknown key 'form'", "did you mean 'from'?"),
    ({"instruction": "a", "instances": ["b"]}, "the key 'output' is missing", "correct"),
    ({"question": "a", "std_answer": "b"}, "expected a dialogue, found question, std_answer", "write rows with"),
    ([1], "expected a dialogue, found list", "write rows with"),
    ({"messages": [ASK, ANSWER], "output": "b"}, "keys of two forms", "leave one of them"),
    ({"messages": "hi"}, "expected a list in 'messages', found str", "give a list"),
    ({"messages": ["hi"]}, "expected an object in 'messages', found str", "give an object"),
    ({"messages": [{"content": "x"}]}, "a turn without 'role'", "write role with one of system"),
    (spoken(("humann", "x"), ("gpt", "y")), "unknown role 'humann'", "did you mean 'human'?"),
    (spoken(("bing", "x"), ("gpt", "y")), "unknown role 'bing'", "use system, human"),
    (spoken(("human", 3), ("gpt", "y")), "expected text in 'value', found int", "give text"),
    (spoken(("human", " "), ("gpt", "y")), "an empty question", "correct"),
    (spoken(("human", "x"), ("gpt", "")), "an empty answer", "correct"),
    (alpaca(output=["better", "worse"]), "expected text in 'output', found list", "give text"),
    (alpaca(instruction=5), "expected text in 'instruction', found int", "give text"),
    (alpaca(input=0), "expected text in 'input', found int", "give text"),
    (alpaca(system=[]), "expected text in 'system', found list", "give text"),
    (alpaca(history=[["q", None]]), "expected text in 'history', found nothing", "give text"),
    ({"messages": [{**ASK, "content": [1]}]}, "expected text or a list of objects in 'content', found list", "give"),
    ({"messages": [{**ASK, "content": 1.5}]}, "expected text in 'content', found float", "give text"),
    ({"messages": [{**ASK, "role": 1}]}, "expected text in 'role', found int", "give text"),
    ({"messages": [ASK, {**ANSWER, "tool_calls": {"name": "f"}}]},
     "expected a list in 'tool_calls', found dict", "give a list"),
    (alpaca(imput=""), "unknown key 'imput'", "did you mean 'input'?"),
    ({"messages": [ASK, {**ANSWER, "contents": None}]}, "unknown key 'contents'", "did you mean 'content'?"),
    (alpaca(output=""), "an empty answer", "correct"),
    (alpaca(history=[["q"]]), "the history is not a list of [question, answer]", "correct"),
    (spoken(("gpt", "x"), ("human", "y")), "answer after the beginning", "answer follows question or observation"),
    (spoken(("human", "x"), ("human", "y"), ("gpt", "z")), "question after question", "a turn is missing before it"),
    (spoken(("human", "x")), "no message of the assistant: nothing to learn from", "remove the row"),
    (spoken(("human", "x"), ("gpt", "y"), ("human", "z")), "question at the end, without an answer", "remove"),
    (spoken(("human", "x"), ("gpt", "y"), ("system", "z")), "system message after answer",
     "follows the beginning: move it to the front"),
    ({"messages": [ASK, {**ANSWER, "weight": 0}]}, "unknown key 'weight'", "leaves keys out, of rows and of messages"),
    (spoken(("human", "x"), ("observation", "y")), "observation after question", "follows call or observation"),
    (spoken(("human", "x"), ("function_call", '{"name": "f", "arguments": {}}'), ("gpt", "y")), "answer after call",
     "a turn is missing"),
    (spoken(("human", "x"), ("function_call", "look_up(482)")), "a call that is no JSON", "correct"),
    (spoken(("human", "x"), ("function_call", '{"arguments": {}}')), "a call without a function's name", "correct"),
    (spoken(("human", "x"), ("function_call", '{"name": "f"}')), "arguments of a call of type NoneType", "an object"),
    ({"messages": [ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
     "arguments of a call that is no JSON", "correct"),
    ({"messages": [{**CALLED[1], "role": "user"}]}, "a call of a function by the user", "correct"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part of type 'image_url'", "text"),
    ({"messages": [ASK, ANSWER], "tools": "[{"}, "a list of tools that is no JSON", "correct"),
    ({"messages": [ASK, ANSWER], "tools": [{"function": {}}]}, "tools that are not a list of functions", "give [{"),
    ({"messages": [OFFER, ASK, ANSWER], "tools": [TOOL]}, "tools beside the messages", "leave one of them")])
def test_what_is_wrong_with_a_row_is_said_with_what_to_do(row, reason, fix):
    with pytest.raises(BadRow) as told:
        read(row)
    assert told.value.reason.startswith(reason)
    assert fix in told.value.fix


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "gpt", "x", "{}", "[]", ""]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["role", "content", "from", "value", "tool_calls", "tools", "name", "arguments",
                                         "function", "type", "text", "metadata"]), inner, max_size=3), max_leaves=9)


@given(row=st.dictionaries(st.sampled_from(["messages", "conversations", "tools", "system", "instruction", "input",
                                            "output", "history", "id", "x"]), JSON, max_size=4)
       | st.builds(lambda turns, tools: {"messages": turns, "tools": tools}, st.lists(JSON, max_size=3), JSON)
       | st.builds(lambda turns: {"conversations": turns}, st.lists(JSON, max_size=3)))
def test_any_row_is_read_or_refused_in_words(row):
    with suppress(BadRow):
        said = read(row)
        assert said[-1]["role"] == "assistant"
        assert all(isinstance(message["content"], str) for message in said)


def test_a_mistake_in_a_turn_names_it():
    with pytest.raises(BadRow) as told:
        read({"messages": [ASK, ANSWER, {**ASK, "role": "usr"}]})
    assert told.value.turn == 3


def test_keys_that_hold_nothing_or_are_named_are_left_out():
    assert form_of(alpaca(audio=None, weight=[])).name == "Alpaca instructions"
    assert form_of({"messages": [], "images": []}).name == "dialogues of messages"
    assert form_of(alpaca(worker="w7"), ignored=["worker"]).name == "Alpaca instructions"
    assert form_of(alpaca(messages=[ASK]), ignored=["messages"]).name == "Alpaca instructions"
