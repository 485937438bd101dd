"""Python functions as tools: the schema says what the signature does, and calls arrive as its types."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import threading
from datetime import date
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from headwater.agent.functions import FunctionTool, definition_of
from headwater.agent.tool import Definition, Image, Observation, ToolError
from headwater.errors import InputError
from headwater.tokenizer.calls import Call
from tests.agent.conftest import Scripted, agent, heard


class Unit(enum.Enum):
    KM = "km"
    MILE = "mile"


class Place(TypedDict):
    name: str
    title: str


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Query(BaseModel):
    text: str
    limit: int = Field(default=3, ge=1)


def everything(name: str, kind: Literal["river", "lake"], unit: Unit, points: list[Point], place: Place, query: Query,
               day: date, weights: dict[str, float], near: str | None = None, copy: bool = False,
               count: Annotated[int, Field(ge=0, description="how many")] = 3) -> str:
    """Look at everything.

    Twice, if need be.

    Args:
        name: the name
            as it was written
        kind (str): river or lake

    Returns:
        what was found
    """
    return repr((name, kind, unit, points, place, query, day, weights, near, copy, count))


def call(function, arguments, **options):
    tool = FunctionTool(function, **options)
    return asyncio.run(tool.call(tool.definitions[0].name, arguments))


def test_the_schema_says_what_the_signature_does():
    (definition,) = FunctionTool(everything).definitions
    schema = definition.parameters
    assert definition.name == "everything"
    assert definition.description == "Look at everything.\n\nTwice, if need be."
    assert schema["required"] == ["name", "kind", "unit", "points", "place", "query", "day", "weights"]
    assert schema["additionalProperties"] is False
    own = schema["properties"]
    assert own["name"] == {"type": "string", "description": "the name as it was written"}
    assert own["kind"] == {"type": "string", "enum": ["river", "lake"], "description": "river or lake"}
    assert own["near"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert own["count"] == {"type": "integer", "minimum": 0, "default": 3, "description": "how many"}
    assert own["copy"] == {"type": "boolean", "default": False}
    assert own["weights"] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert own["day"] == {"type": "string", "format": "date"}
    assert schema["$defs"]["Unit"]["enum"] == ["km", "mile"]
    assert schema["$defs"]["Place"]["properties"] == {"name": {"type": "string"}, "title": {"type": "string"}}


def test_arguments_arrive_as_the_functions_types():
    given = {"name": "Velna", "kind": "river", "unit": "km", "points": [{"x": 1}], "place": {"name": "a", "title": "b"},
             "query": {"text": "t"}, "day": "2026-03-09", "weights": {"a": 1}}
    expected = ("Velna", "river", Unit.KM, [Point(1.0)], {"name": "a", "title": "b"}, Query(text="t"),
                date(2026, 3, 9), {"a": 1.0}, None, False, 3)
    assert call(everything, given).text == repr(expected)


def test_a_function_without_parameters_and_docstring():
    def now():
        return 3

    (definition,) = FunctionTool(now).definitions
    assert definition.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert definition.description == ""
    assert definition.effects  # nobody said otherwise
    assert call(now, {}).text == "3"


@pytest.mark.parametrize(("value", "text"), [
    ("text", "text"), (3.5, "3.5"), (None, "null"), ({"河": [1]}, '{"河":[1]}'), (Point(1), '{"x":1,"y":0.0}'),
    (Query(text="a"), '{"text":"a","limit":3}'), (Observation("seen"), "seen"),
    (date(2026, 3, 9), '"2026-03-09"')])
def test_what_a_function_returns_is_read_as_text_or_json(value, text):
    assert call(lambda: value, {}, name="f").text == text


def test_a_picture_is_handed_on():
    assert call(lambda: Image(b"png"), {}, name="f").images == (Image(b"png"),)


async def asynchronous(a: int) -> int:
    await asyncio.sleep(0)
    return a + 1


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def add(self, a: int) -> int:
        """Add."""
        return a + self.by

    def __call__(self, a: int) -> int:
        return a + self.by


def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize("function", [asynchronous, Adder(1).add, Adder(1), partial(add, b=1), partial(asynchronous)],
                         ids=["async", "method", "object", "partial", "partial async"])
def test_every_kind_of_function_is_called(function):
    assert call(function, {"a": 2}, name="f").text == "3"


def test_a_plain_function_does_not_hold_the_loop():
    here = threading.get_ident()
    assert call(lambda: threading.get_ident() != here, {}, name="f").text == "true"


def fails(a: int) -> int:
    raise KeyError("no such river")


def test_what_is_raised_is_told_to_the_model():
    with pytest.raises(ToolError, match="'fails' raised KeyError: 'no such river'"):
        call(fails, {"a": 1})
    with pytest.raises(ToolError, match=r"do not fit: query\.limit: Input should be greater than or equal to 1"):
        call(lambda_query, {"query": {"text": "a", "limit": 0}})


def lambda_query(query: Query) -> str:
    return query.text


def no_type(a) -> int:
    return a


def many(*a: int) -> int:
    return sum(a)


def named(**a: int) -> int:
    return sum(a.values())


def positional(a: int, /) -> int:
    return a


def lock(a: threading.Lock) -> None:
    pass


def callback(a: type) -> None:
    pass


def unknown(a: Nowhere) -> None:  # noqa: F821
    pass


@pytest.mark.parametrize(("function", "told"), [
    (no_type, "'a' of 'no_type' has no type"), (many, r"takes '\*a"), (named, r"takes '\*\*a"),
    (positional, "takes 'a"), (lock, "JSON cannot hold"), (callback, "JSON cannot hold"),
    (unknown, "cannot be read: name 'Nowhere'")],
    ids=["no type", "many", "named", "positional", "lock", "type", "unknown"])
def test_parameters_that_no_call_can_give_are_refused(function, told):
    with pytest.raises(InputError, match=told):
        FunctionTool(function)


def test_a_default_that_json_cannot_hold_is_kept():
    def shows(a: Any = asyncio) -> str:
        return a.__name__

    assert call(shows, {}).text == "asyncio"


@given(a=st.integers() | st.none(), words=st.lists(st.text()))
def test_any_values_of_the_types_come_through(a, words):
    def back(a: int | None, words: list[str]) -> dict[str, Any]:
        return {"a": a, "words": words}

    assert json.loads(call(back, {"a": a, "words": words}).text) == {"a": a, "words": words}


def test_a_function_works_in_the_loop(ask):
    pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
    model = Scripted(Call("add", {"a": 1}), Call("add", {"a": 1, "b": 2}), "3")
    heard(agent(model, FunctionTool(add, effects=False)).run(ask))
    assert [read[-1]["content"] for read in model.read[1:]] == [
        'The arguments do not fit: "b" is a required property.', "3"]


def test_openais_definitions_become_ours():
    bare = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert definition_of({"type": "function", "function": bare}) == Definition("f", "d", {"type": "object"})
    assert definition_of({"name": "f"}) == Definition("f", "", {"type": "object", "properties": {}})
    for wrong in ({}, {"function": 3}, {"name": "f", "parameters": [1]}, {"name": "f", "description": 3}):
        with pytest.raises(InputError):
            definition_of(wrong)
