"""Whether arguments fit a tool's JSON Schema, and what does not, said to the model that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from headwater.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

MOST = 5
"""Mistakes that are told at once."""
_BACKTRACKS = 10_000
"""Of a pattern that looks around or back; others are matched in time linear in the text. Python's own engine needs
centuries for `^(a+)+$` and 60 letters."""


class Checker:
    """One schema, read once."""

    def __init__(self, schema: Mapping[str, Any], *, where: str) -> None:
        """where: the tool's name, for messages. Raises `InputError` for what is no schema, or one that refers to
        something outside of it, `MissingExtraError` without jsonschema-rs."""
        self._validator = _validator(schema, where)

    def mistakes(self, arguments: Mapping[str, Any]) -> list[str]:
        """What does not fit, the first few; none: all does."""
        try:
            found = sorted(self._validator.iter_errors(dict(arguments)),
                           key=lambda error: [*map(str, error.instance_path)])
        except ValueError as error:  # half a surrogate pair, which JSON can spell
            return [f"not valid text: {error}"[:200]]
        return [_told(error) for error in found[:MOST]]


def _validator(schema: Mapping[str, Any], where: str) -> Draft202012Validator:
    try:
        from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ReferencingError, ValidationError
    except ImportError:
        raise MissingExtraError("checking a call's arguments needs jsonschema-rs, which is not installed",
                                fix="pip install 'headwater[agent]'") from None
    try:
        return Draft202012Validator(dict(schema), retriever=_fetch_nothing,
                                    pattern_options=FancyRegexOptions(backtrack_limit=_BACKTRACKS))
    except (ValidationError, ReferencingError, ValueError) as error:
        what = getattr(error, "message", None) or str(error)
        raise InputError(f"the parameters are no JSON Schema: {what[:200]}", where=where,
                         fix="correct the tool's parameters, and let them refer to nothing elsewhere") from None


def _fetch_nothing(url: str) -> NoReturn:
    raise ValueError("a schema refers only to its own definitions")


def _told(error: ValidationError) -> str:
    place = ".".join(str(step) for step in error.instance_path)
    message = error.message if len(error.message) <= 200 else error.message[:197] + "..."
    return f"{place}: {message}" if place else message
