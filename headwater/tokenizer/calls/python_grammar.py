"""From a JSON Schema to a grammar of `tool_call(name=literal, ...)`, for ChatGLM3, whose calls are Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headwater.errors import InputError
from headwater.tokenizer.calls.arguments import is_name
from headwater.tokenizer.calls.lark import json_of, literal

_ANNOTATIONS = frozenset(("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
                          "$defs", "definitions", "$schema", "$id", "$comment"))
"""Keywords that allow or forbid nothing by themselves."""
_BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_BY_TYPE = {"object": frozenset(("properties", "required", "additionalProperties")),
            "array": frozenset(("items", "minItems", "maxItems")), "string": frozenset(("minLength", "maxLength")),
            "integer": _BOUNDS, "number": _BOUNDS, "boolean": frozenset[str](),
            "null": frozenset[str]()}
_WORDS = {"boolean": '("True" | "False")', "null": '"None"'}
_ESCAPED = r"\x00-\x1f\x7f]|\\['\"\\nrt]|\\x[0-9a-f]{2})"
_QUOTED = {quote: f"([^{quote}\\\\{_ESCAPED}" for quote in "'\""}
"""A letter of a text between such quotes."""


def keywords(schema: Mapping[str, Any], prefix: str, tool: str) -> tuple[str, str]:
    """The right side of a rule for one call, and the rules that it names, each beginning with `prefix`.

    Properties come in the schema's order, and no others. Raises `InputError` naming a keyword that the grammar could
    not promise to hold, and a property that is no name in Python.
    """
    writer = _Writer(schema, prefix, tool)
    return f'"tool_call(" {writer.fields(schema, _as_keyword)} ")"', "".join(writer.rules)


def _as_keyword(name: str) -> str:
    return f"{name}="


def _as_key(name: str) -> str:
    return f"{name!r}: "


class _Writer:
    """Writes rules as they are needed; a definition that others refer to has one of its own."""

    def __init__(self, root: Mapping[str, Any], prefix: str, tool: str) -> None:
        self._root, self._prefix, self._tool = root, prefix, tool
        self._named: dict[str, str] = {}
        self._count = 0
        self.rules: list[str] = []

    def _rule(self, right: str) -> str:
        name = self._next()
        self.rules.append(f"{name}: {right}\n")
        return name

    def _next(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def fields(self, schema: Mapping[str, Any], written: Callable[[str], str]) -> str:
        """The properties, those that may be missing too, with commas between those that are there."""
        required = frozenset(schema.get("required", ()))
        properties = schema.get("properties", {})
        if unknown := required.difference(properties):
            raise self._refused(f"requires '{min(unknown)}', which it does not describe")
        behind = first = '""'
        for name in reversed(properties):
            if written is _as_keyword and not is_name(name):
                raise self._refused(f"has a property '{name}', which is no plain name in Python")
            pair = self._rule(f"{literal(written(name))} {self.value(properties[name])}")
            first_pair, next_pair = f"{pair} {behind}", f'", " {pair} {behind}'
            if name not in required:
                first_pair, next_pair = f"{first_pair} | {first}", f"{next_pair} | {behind}"
            first, behind = self._rule(first_pair), self._rule(next_pair)
        return first

    def value(self, schema: Any) -> str:
        """What a literal that fits the schema looks like."""
        if schema is True or schema == {}:
            raise self._refused("has a value of any type")
        if not isinstance(schema, Mapping):
            raise self._refused(f"has {schema!r} where a schema should stand")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]))
        for key in ("const", "enum"):
            if key in schema:
                values = [schema[key]] if key == "const" else schema[key]
                return "(" + " | ".join(literal(repr(value)) for value in values) + ")"
        for key in ("anyOf", "oneOf"):
            if key in schema:
                self._check(schema, frozenset((key,)))
                return "(" + " | ".join(self.value(one) for one in schema[key]) + ")"
        kinds = schema.get("type")
        if isinstance(kinds, list):
            own = [{key: value for key, value in schema.items() if key not in _foreign(kind)} for kind in kinds]
            return "(" + " | ".join(self._typed(kind, one) for kind, one in zip(kinds, own)) + ")"
        return self._typed(kinds, schema)

    def _typed(self, kind: Any, schema: Mapping[str, Any]) -> str:
        if kind not in _BY_TYPE:
            raise self._refused("has a value of any type" if kind is None else f"has the type {kind!r}")
        self._check(schema, _BY_TYPE[kind] | {"type"})
        if kind == "object":
            if not schema.get("properties") and schema.get("additionalProperties") not in (False, None):
                raise self._refused("has an object of any keys")
            return f'"{{" {self.fields(schema, _as_key)} "}}"'
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            least, most = schema.get("minLength", 0), schema.get("maxLength", "")
            return "(" + " | ".join(f"/{quote}{letter}{{{least},{most}}}{quote}/"
                                    for quote, letter in _QUOTED.items()) + ")"
        # Numbers are written alike in both languages.
        return _WORDS[kind] if kind in _WORDS else self._rule(json_of({**schema, "type": kind}))

    def _array(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        item = self._rule(self.value(schema.get("items", True)))
        if most == 0:
            return '"[]"'
        rest = f'(", " {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        return f'"[" {item} {rest} "]"' if least else f'"[" ({item} {rest})? "]"'

    def _reference(self, pointer: str) -> str:
        """A rule for what `#/$defs/Name` points to; it may hold itself."""
        if pointer not in self._named:
            target: Any = self._root
            for step in pointer.removeprefix("#/").split("/"):
                target = target.get(step) if isinstance(target, Mapping) else None
            if target is None or not pointer.startswith("#/"):
                raise self._refused(f"refers to '{pointer}', which it does not hold")
            self._named[pointer] = self._next()
            self.rules.append(f"{self._named[pointer]}: {self.value(target)}\n")
        return self._named[pointer]

    def _check(self, schema: Mapping[str, Any], known: frozenset[str]) -> None:
        if unknown := [key for key in schema if key not in known and key not in _ANNOTATIONS]:
            raise self._refused(f"has '{unknown[0]}'")

    def _refused(self, what: str) -> InputError:
        return InputError(f"the schema of '{self._tool}' {what}: a grammar of ChatGLM3's calls cannot promise that",
                          fix="leave it out of the schema, or let the model call without constraint")


def _foreign(kind: str) -> frozenset[str]:
    """Keywords that speak of other types."""
    return frozenset().union(*(keys for other, keys in _BY_TYPE.items() if other != kind)) - _BY_TYPE.get(
        kind, frozenset())
