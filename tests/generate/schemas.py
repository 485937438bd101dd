"""Schemas of tools as people write them, and what else JSON schemas say."""

from __future__ import annotations

from typing import Any

TEXT, WHOLE, NUMBER, YES = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))


def tool(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


PLACE = tool(("lat", "lon"), lat={"type": "number", "minimum": -90, "maximum": 90},
             lon={"type": "number", "minimum": -180, "maximum": 180}, label=TEXT)
TREE = {"$defs": {"node": tool(("name",), name=TEXT, children={"type": "array", "items": {"$ref": "#/$defs/node"}})},
        "$ref": "#/$defs/node"}

SCHEMAS: dict[str, Any] = {
    "weather": tool(("location", "unit"), location=TEXT, unit={"enum": ["celsius", "fahrenheit"]}, days=WHOLE),
    "天气": tool(("城市",), 城市={"type": "string", "minLength": 1},
               天数={"type": "integer", "minimum": 1, "maximum": 7}),
    "search": tool(("query",), query={"type": "string", "minLength": 2, "maxLength": 60}, top={"type": "integer"},
                   recency_days={"type": ["integer", "null"]}),
    "mail": tool(("to", "subject", "body"), to={"type": "array", "items": {"type": "string", "format": "email"},
                                               "minItems": 1}, subject=TEXT, body=TEXT, urgent=YES),
    "flight": tool(("origin", "destination", "date"), origin={"type": "string", "pattern": "^[A-Z]{3}$"},
                   destination={"type": "string", "pattern": "^[A-Z]{3}$"}, date={"type": "string", "format": "date"},
                   passengers={"type": "array", "items": tool(("name", "age"), name=TEXT, age=WHOLE), "maxItems": 4}),
    "route": tool(("stops",), stops={"type": "array", "items": PLACE, "minItems": 2}, avoid_tolls=YES),
    "transfer": tool(("from", "to", "amount"), **{"from": {"type": "string", "pattern": "^[0-9]{8,12}$"}, "to": TEXT,
                                                  "amount": {"type": "number", "exclusiveMinimum": 0}}),
    "calendar": tool(("title", "start"), title=TEXT, start={"type": "string", "format": "date-time"},
                     attendees={"type": "array", "items": TEXT}, repeat={"enum": ["none", "daily", "weekly", None]}),
    "filters": tool(("where",), where={"type": "array", "items": tool(
        ("field", "op", "value"), field=TEXT, op={"enum": ["=", "<", ">", "in"]},
        value={"anyOf": [TEXT, NUMBER, YES, {"type": "array", "items": TEXT}]})}),
    "constants": tool(("version", "kind"), version={"const": 2}, kind={"const": "tool_call"}, note=TEXT),
    "tree": TREE,
    "list": {"type": "array", "items": WHOLE, "minItems": 3},
    "some of each": {"type": "array", "minItems": 1, "items": {"anyOf": [
        {"type": "string", "pattern": "^[a-z]{3,8}$"}, {"type": "null"}, {"type": "boolean"}]}},
    "pair": {"type": "array", "prefixItems": [TEXT, WHOLE], "items": False, "minItems": 2},
    "map": {"type": "object", "additionalProperties": WHOLE},
    "anything": {},
    "union": {"anyOf": [tool(("a",), a=WHOLE), tool(("b",), b=TEXT), {"type": "null"}]},
    "identifier": tool(("id", "tags"), id={"type": "string", "format": "uuid"},
                       tags={"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3}),
    "deep": tool(("a",), a=tool(("b",), b=tool(("c",), c=tool(("d",), d={"type": "array", "items": YES})))),
    "percent": tool(("share",), share={"type": "integer", "minimum": 0, "maximum": 100},
                    exact={"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 1000}),
    "all of": {"allOf": [tool(("x",), x=WHOLE, y=TEXT) | {"additionalProperties": True},
                         {"type": "object", "properties": {"y": {"maxLength": 3}}, "required": ["y"]}]},
}
REFUSED: dict[str, Any] = {
    "uniqueItems": {"type": "array", "items": WHOLE, "uniqueItems": True},
    "not": {"type": "object", "properties": {"a": {"not": TEXT}}},
    "if": {"if": TEXT, "then": {"minLength": 2}},
    "contains": {"type": "array", "contains": TEXT},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "oneOf": {"oneOf": [TEXT, {"type": "string", "maxLength": 3}]},
    "look-ahead": {"type": "string", "pattern": "(?=a)b"},
    "format": {"type": "string", "format": "postcode"},
}
"""By the word that the refusal names."""
