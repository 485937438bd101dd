"""Breaks when arguments that do not fit pass, or when a schema could make this machine fetch something."""

import pytest

from headwater.errors import InputError
from headwater.tokenizer.calls.schema import Checker

pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "array", "items": {"maximum": 3}}},
          "required": ["q"], "additionalProperties": False}


@pytest.mark.parametrize(("arguments", "told"), [
    ({"q": "a", "n": [1, 2]}, []), ({}, ['"q" is a required property']), ({"q": 1}, ['q: 1 is not of type "string"']),
    ({"q": "a", "n": [1, 9]}, ["n.1: 9 is greater than the maximum of 3"]),
    ({"q": "a", "x": 1}, ["Additional properties are not allowed ('x' was unexpected)"])])
def test_what_does_not_fit_is_told_with_its_place(arguments, told):
    assert Checker(SCHEMA, where="search").mistakes(arguments) == told


def test_a_long_mistake_is_told_short():
    (told,) = Checker(SCHEMA, where="search").mistakes({"q": ["a" * 5000]})
    assert len(told) < 220


def test_what_is_no_schema_is_refused():
    with pytest.raises(InputError, match="search: the parameters are no JSON Schema"):
        Checker({"type": "list"}, where="search")


@pytest.mark.parametrize("pointer", ["http://127.0.0.1:1/schema", "file:///etc/passwd", "#/$defs/missing"])
def test_a_schema_is_never_fetched(pointer):
    with pytest.raises(InputError, match=r"(?s)search: the parameters are no JSON Schema.*refer to nothing elsewhere"):
        Checker({"properties": {"q": {"$ref": pointer}}}, where="search")


def test_patterns_take_time_in_proportion_to_the_text():
    checker = Checker({"properties": {"q": {"pattern": "^(a+)+$"}}, "patternProperties": {"^(b+)+$": False}}, where="f")
    (told,) = checker.mistakes({"q": "a" * 5000 + "!", "b" * 5000 + "!": 1})
    assert told.startswith("q: ")


def test_patterns_that_look_back_are_given_up_in_time():
    (told,) = Checker({"properties": {"q": {"pattern": r"^(a*)*\1$"}}}, where="search").mistakes({"q": "a" * 90 + "!"})
    assert "backtracking" in told


def deep(levels, schema=None):
    return deep(levels - 1, {"properties": {"a": schema or {}}}) if levels else schema


def test_a_schema_of_a_thousand_levels_is_refused():
    with pytest.raises(InputError, match="Recursion limit"):
        Checker(deep(400), where="search")


def test_a_schema_may_refer_to_itself():
    tree = Checker({"$ref": "#/$defs/node", "$defs": {"node": {"additionalProperties": {"$ref": "#/$defs/node"}}}},
                   where="search")
    assert tree.mistakes({"a": {"b": {}}}) == []


def test_half_a_character_is_a_mistake():
    (told,) = Checker({"properties": {"q": {"pattern": "a"}}}, where="search").mistakes({"q": "\ud800"})
    assert told.startswith("not valid text")
