"""Whether arguments fit a tool's JSON Schema, and what does not, said to the model that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwater.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MOST = 5
"""Mistakes that are told at once."""


class Checker:
    """One schema, read once."""

    def __init__(self, schema: Mapping[str, Any], *, where: str) -> None:
        """where: the tool's name, for messages. Raises `InputError` for what is no schema, or one that refers to
        something outside of it, `MissingExtraError` without jsonschema."""
        self._where = where
        self._validator = _validator(schema, where)

    def mistakes(self, arguments: Mapping[str, Any]) -> list[str]:
        """What does not fit, the first few; none: all does. Raises `InputError` for a schema that cannot be followed
        to its end."""
        from referencing.exceptions import Unresolvable

        try:
            found = sorted(self._validator.iter_errors(arguments), key=lambda error: [*map(str, error.absolute_path)])
        except (Unresolvable, RecursionError) as error:
            raise InputError(f"the schema cannot be followed: {type(error).__name__}", where=self._where,
                             fix="let it refer only to its own definitions") from None
        return [_told(error) for error in found[:MOST]]


def _validator(schema: Mapping[str, Any], where: str) -> Validator:
    try:
        from jsonschema import Draft202012Validator, SchemaError
        from referencing import Registry
    except ImportError:
        raise MissingExtraError("checking a call's arguments needs jsonschema, which is not installed",
                                fix="pip install 'headwater[agent]'") from None
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise InputError(f"the parameters are no JSON Schema: {error.message[:200]}", where=where,
                         fix="correct the tool's parameters") from None
    # An empty registry: what a schema refers to is never fetched.
    return Draft202012Validator(dict(schema), registry=Registry())


def _told(error: Any) -> str:
    place = ".".join(str(step) for step in error.absolute_path)
    message = error.message if len(error.message) <= 200 else error.message[:197] + "..."
    return f"{place}: {message}" if place else message
