"""Breaks when a turn is judged by another call than its own, or when what does not fit counts as right."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from headwater.errors import InputError
from headwater.evaluate.calling import measure
from headwater.generate.request import Completion

TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {
    "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}}
OTHER = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def call(name: str, arguments: dict[str, str]) -> dict[str, object]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def row(*said: dict[str, object], language: str = "en") -> dict[str, object]:
    return {"messages": list(said), "tools": [TOOL, OTHER], "language": language}


ASKED = {"role": "user", "content": "How long is it?"}
LOOKED = {"role": "assistant", "content": None, "tool_calls": [call("look", {"name": "the river"})]}
FOUND = {"role": "tool", "tool_call_id": "1", "content": "482 km"}
ANSWER = {"role": "assistant", "content": "482 km."}


class Says:
    """An engine whose model says these turns, one for each prompt."""

    def __init__(self, tokenizer, *turns, max_length: int = 10_000) -> None:
        self.tokenizer, self.turns, self.max_length = tokenizer, turns, max_length
        self.asked: list[list[int]] = []

    def generate(self, prompts, params):
        self.asked += prompts
        return [self._said(turn) for turn in self.turns[: len(prompts)]]

    def _said(self, turn):
        chat = self.tokenizer.chat
        before = [{"role": "user", "content": "x"}]
        head = chat.render(before, add_generation_prompt=True).ids
        *tokens, end = chat.render([*before, turn]).ids[len(head):]
        return Completion(tokens, "", "stop", len(head), end_mark=end)


def as_call(name: str, arguments: dict[str, str]) -> dict[str, str]:
    return {"role": "assistant", "content": json.dumps(arguments), "metadata": name}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "calls.jsonl"
    rows = [row(ASKED, LOOKED, FOUND, ANSWER), row(ASKED, ANSWER, language="zh")]
    file.write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8")
    return file


RIGHT = as_call("look", {"name": "the river"})


@pytest.mark.parametrize(("first", "second", "third", "english", "chinese"), [
    (RIGHT, ANSWER, ANSWER, (1, 1, 1, 1), (1, 1)),
    (as_call("look", {"name": "a lake"}), ANSWER, RIGHT, (1, 0, 1, 0), (0, 0)),
    (as_call("add", {}), RIGHT, ANSWER, (0, 0, 0, 0), (1, 1)),
    (ANSWER, {"role": "assistant", "content": "Nothing."}, ANSWER, (0, 0, 1, 0), (1, 1))])
def test_turns_are_right_where_their_own_call_is_made(trained, path, first, second, third, english, chinese):
    engine = Says(trained, first, second, third)
    found = measure(engine, path)
    assert len(engine.asked) == 3
    names = ("right_tool", "right_call", "no_call", "dialogues")
    assert tuple(found["en"]["figures"][name] for name in names) == english
    assert tuple(found["zh"]["figures"][name] for name in names[2:]) == chinese
    assert "right_tool" not in found["zh"]["figures"]  # no turn of it calls
    assert found["en"]["subjects"]["look"] == {"questions": 1, "accuracy": english[0]}


def test_what_does_not_fit_the_context_is_wrong(trained, path, capsys):
    found = measure(Says(trained, max_length=30), path)
    assert found["en"]["figures"]["right_tool"] == found["zh"]["figures"]["no_call"] == 0
    assert "3 leave no room" in capsys.readouterr().err


def test_dialogues_without_calls_are_refused(trained, tmp_path):
    file = tmp_path / "talk.jsonl"
    file.write_text(json.dumps({"messages": [ASKED, ANSWER]}), encoding="utf-8")
    with pytest.raises(InputError, match="no dialogue calls"):
        measure(SimpleNamespace(tokenizer=trained), file)
