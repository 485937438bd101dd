"""Breaks when arguments that do not fit pass, or when a schema could make this machine fetch something."""

import pytest

from headwater.errors import InputError
from headwater.tokenizer.calls.schema import Checker

pytest.importorskip("jsonschema", reason="jsonschema is not installed")
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "array", "items": {"maximum": 3}}},
          "required": ["q"], "additionalProperties": False}


@pytest.mark.parametrize(("arguments", "told"), [
    ({"q": "a", "n": [1, 2]}, []), ({}, ["'q' is a required property"]), ({"q": 1}, ["q: 1 is not of type 'string'"]),
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
    with pytest.raises(InputError, match="cannot be followed"):
        Checker({"properties": {"q": {"$ref": pointer}}}, where="search").mistakes({"q": 1})


def test_a_schema_that_refers_to_itself_without_end_is_refused():
    with pytest.raises(InputError, match="cannot be followed"):
        Checker({"$ref": "#"}, where="search").mistakes({})
