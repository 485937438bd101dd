"""The OpenAPI document of what is served, out of the same table and the same models that serve it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from headwater import __version__
from headwater.serve import replies
from headwater.serve.wire import Asked

REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Endpoint:
    """An address of the API."""

    path: str
    """As Starlette has it."""
    answer: Callable[[Request], Awaitable[Response]]
    does: str
    replies: type[BaseModel] | None
    """None: text."""
    asked: type[Asked] | None = None
    """What is posted; None: the address is read."""
    streams: bool = False
    """Whether it answers in server-sent events where it is asked to."""
    examples: Sequence[Mapping[str, Any]] = ()
    """Of what is posted to this server, beside those of all."""

    @property
    def method(self) -> str:
        return "get" if self.asked is None else "post"


def document(endpoints: Sequence[Endpoint], models: Sequence[str], tools: Sequence[str]) -> dict[str, Any]:
    """models: names that requests may give; tools: types of the server's own that they may ask for."""
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(re.sub(r":\w+}", "}", one.path), {})[one.method] = _operation(one, models[0])
    return {"openapi": "3.1.0",
            "info": {"title": "headwater", "version": __version__, "description": "OpenAI's API over a model of one's "
                     "own. Parameters beside OpenAI's are named as vLLM names them."},
            "paths": paths,
            "security": [{}, {"key": []}],
            "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
                           "schemas": _schemas(endpoints, models, tools)}}


def _operation(one: Endpoint, model: str) -> dict[str, Any]:
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}} if one.replies is None else \
        {"application/json": {"schema": _reference(one.replies)}}
    if one.streams:
        content["text/event-stream"] = {}  # each event is JSON, the last one "[DONE]"
    error = {"description": "refused, and why", "content": {"application/json": {"schema": _reference(replies.Error)}}}
    unready = {replies.Ready, replies.Live} & {one.replies}
    answers = {"200": {"description": "answered", "content": content}, "4XX": error,
               "503": {"description": "not ready", "content": content} if unready else error}
    found: dict[str, Any] = {"summary": one.does, "operationId": re.sub(r"\W+", "_", one.path).strip("_"),
                             "responses": answers}
    if one.asked is not None:
        examples = {f"example{number}": {"value": {"model": model, **example}}
                    for number, example in enumerate((*one.asked.examples, *one.examples), 1)}
        found["requestBody"] = {"required": True, "content": {"application/json": {
            "schema": _reference(one.asked), "examples": examples}}}
    names = re.findall(r"{(\w+)", one.path)
    if names:
        found["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                               for name in names]
    return found


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _schemas(endpoints: Sequence[Endpoint], models: Sequence[str], tools: Sequence[str]) -> dict[str, Any]:
    asked = {one.asked for one in endpoints if one.asked is not None}
    told = {one.replies for one in endpoints if one.replies is not None} | {replies.Error}
    _, found = models_json_schema([*((one, "validation") for one in sorted(asked, key=_name)),
                                   *((one, "serialization") for one in sorted(told, key=_name))],
                                  ref_template=REFERENCE)
    schemas: dict[str, Any] = found["$defs"]
    for request in asked:
        properties = schemas[request.__name__]["properties"]
        properties["model"] = {"enum": [*models, *([None] if "model" not in schemas[request.__name__].get(
            "required", ()) else [])]}
        properties.update({name: {"description": "accepted and not used"} for name in request.harmless})
        properties.update({name: {"enum": [*values, None], "description": "asks for nothing"}
                           for name, values in request.neutral.items()})
    schemas["Tool"]["properties"]["type"] = {"enum": ["function", *tools]}
    return schemas


def _name(model: type[BaseModel]) -> str:
    return model.__name__
