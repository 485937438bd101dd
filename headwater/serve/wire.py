"""OpenAI's wire format: how a request's body is read, and what is told where it cannot be."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.serve.errors import RequestError

HARMLESS = frozenset(("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"))
"""Parameters that do not change an answer; accepted and not used."""

T = TypeVar("T")
Many = Annotated[list[T], Field(fail_fast=True)]
"""A request's list: of a million entries that are wrong, the first is told, and no time goes into the others."""


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Asked(Wire):
    """A request's body."""

    harmless: ClassVar[frozenset[str]] = HARMLESS
    neutral: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    """Parameters this server does not have, and the values that ask for nothing; null always does."""
    nested: ClassVar[Mapping[str, Collection[str]]] = {}
    """Names inside of a parameter's objects, for hints."""
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """For the OpenAPI document, without `model`."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises `RequestError` (400) that names the parameter."""
        try:
            values = json.loads(body)
        except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits is one too
            raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None
        if not isinstance(values, dict):
            raise RequestError("the body must be a JSON object", code="invalid_json")
        kept = {name: value for name, value in values.items() if not cls._asks_for_nothing(name, value)}
        try:
            request = cls.model_validate(kept)
        except ValidationError as error:
            raise _request_error(error, cls) from None
        request.check()
        return request

    @classmethod
    def _asks_for_nothing(cls, name: str, value: object) -> bool:
        if name in cls.harmless:
            return True
        if name not in cls.neutral:
            return False
        if value is None or value in cls.neutral[name]:
            return True
        raise RequestError(f"'{name}' is not supported by this server", param=name, code="unsupported_parameter")

    def check(self) -> None:
        """What pydantic cannot say of a single field. Raises `RequestError`."""


_BRANCH = re.compile(r"str|int|(list|literal)\[.*|NamedTool")
"""What pydantic puts into a place for the branch of a union that it tried."""


def _request_error(error: ValidationError, request: type[Asked]) -> RequestError:
    # A union reports every branch it tried; the one that got furthest into the request says most.
    first = max(error.errors(), key=lambda item: len(item["loc"]))
    path = [str(part) for part in first["loc"] if not _BRANCH.fullmatch(str(part))]
    param = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        known = request.model_fields if len(path) == 1 else request.nested.get(path[0], ())
        nearest = difflib.get_close_matches(path[-1], sorted(known), n=1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        return RequestError(f"unknown parameter '{param}'{hint}", param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return RequestError(f"'{param}' is required", param=param, code="missing_required_parameter")
    return RequestError(f"'{param}': {first['msg']}" if param else first["msg"], param=param, code="invalid_value")


Several = str | Many[str] | Many[int] | Many[Many[int]]
"""A text or the ids of one, or a list of either."""


def each(given: Several, param: str) -> Sequence[str | list[int]]:
    """The texts, one or many. Raises `RequestError` for one that is empty."""
    single = isinstance(given, str) or (bool(given) and isinstance(given[0], int))
    found: list[Any] = [given] if single else list(given)
    if not found or not all(found):
        raise RequestError(f"'{param}' is empty" if not found or single else f"one of the texts in '{param}' is empty",
                           param=param, code="invalid_value")
    return found


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """cached_tokens: of the prompts', those that had been read for an earlier request."""
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens}}
