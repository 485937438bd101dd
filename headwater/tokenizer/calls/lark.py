"""Pieces of grammars in llguidance's Lark form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

WHITE_SPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as our templates write it, and none of the white space that would let a random model go on for ever."""


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def free(name: str, pattern: str = "(?s:.)*") -> str:
    """A rule for any text.

    No bound in tokens (`max_tokens=`): a matcher cannot go back over those, which ending in time needs.
    """
    return f"{name}: /{pattern}/\n"


def json_of(schema: Mapping[str, Any]) -> str:
    """A rule's right side: one line of JSON that fits the schema, and that every reader of JSON takes."""
    strict = "allOf" not in json.dumps(schema)  # whose parts would forbid each other's properties
    return "%json " + json.dumps({**_narrowed(schema, strict), "x-guidance": WHITE_SPACE}, ensure_ascii=False)


LARGEST = 10**15
"""Of numbers that a schema does not bound: without a bound a number may have any exponent, and be no number here."""
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def _narrowed(schema: Any, strict: bool) -> Any:
    """The schema without what only a random model would write: endless numbers, properties that nobody described."""
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _inner(key, value, strict) for key, value in schema.items()}
    kinds = found.get("type")
    numeric = bool({"number", "integer"}.intersection(kinds if isinstance(kinds, list) else [kinds]))
    if numeric and not any(key in found for key in _BOUNDS):
        found |= {"minimum": -LARGEST, "maximum": LARGEST}
    if strict and "properties" in found and not {"additionalProperties", "patternProperties"}.intersection(found):
        found["additionalProperties"] = False
    return found


def _inner(key: str, value: Any, strict: bool) -> Any:
    if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, Mapping):
        return {name: _narrowed(one, strict) for name, one in value.items()}
    if key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
        return [_narrowed(one, strict) for one in value]
    return _narrowed(value, strict) if key in ("items", "additionalProperties") else value


def sequence(call: str, between: str, several: bool) -> str:
    """One call, or a few with something between."""
    return f"{call} ({between} {call})*" if several else call

