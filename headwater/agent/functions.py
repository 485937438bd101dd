"""Python functions as tools: the schema from the signature, the description from the docstring."""

from __future__ import annotations

import asyncio
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import PydanticJsonSchemaWarning

from headwater.agent.tool import Definition, Image, Observation, ToolError
from headwater.errors import InputError


class FunctionTool:
    """One function, plain or async. What it raises becomes an observation.

    A plain function runs in a thread, which nothing can end: where its time is up, the model is told so and the thread
    goes on to its own end. Write what may take long as an async function.
    """

    def __init__(self, function: Callable[..., Any], *, name: str | None = None, description: str | None = None,
                 effects: bool = True, approval: bool = False, untrusted: bool = False) -> None:
        """name, description: the function's own name and docstring where None. effects, approval, untrusted: as in
        `Definition`; what a function does cannot be seen from here, so it has effects unless said otherwise.

        Raises `InputError` for parameters without a type, for `*` and `**`, and for types that JSON cannot hold.
        """
        self._function = function
        self._name = str(name or getattr(function, "__name__", ""))
        text = inspect.getdoc(function) if inspect.isroutine(function) else None
        told, parameters = _described(text or "")
        self._arguments: dict[str, str] = {}
        self._model = self._fields(parameters)
        self.definitions = (Definition(self._name, told if description is None else description, self._schema(),
                                       effects=effects, approval=approval, untrusted=untrusted),)

    def _fields(self, described: Mapping[str, str]) -> type[BaseModel]:
        """A model of the parameters. Its own names are numbers, as pydantic keeps some names for itself."""
        try:
            signature = inspect.signature(self._function, eval_str=True)
        except (NameError, TypeError, ValueError) as error:
            raise InputError(f"the parameters of '{self._name}' cannot be read: {error}",
                             fix="give the function types that are known where it is defined") from None
        fields: dict[str, Any] = {}
        for number, (name, one) in enumerate(signature.parameters.items()):
            if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                raise InputError(f"'{self._name}' takes '{one}', which no JSON object can give",
                                 fix="name every parameter, and let each be given by its name")
            if one.annotation is one.empty:
                raise InputError(f"parameter '{name}' of '{self._name}' has no type", fix="give it one, like "
                                 f"{name}: str")
            default = ... if one.default is one.empty else one.default
            told: dict[str, Any] = {"description": described[name]} if name in described else {}
            fields[f"p{number}"] = (one.annotation, Field(default, alias=name, **told))
            self._arguments[f"p{number}"] = name
        try:
            return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
        except (PydanticUserError, pydantic_core.SchemaError) as error:
            raise self._no_json(error) from None

    def _schema(self) -> dict[str, Any]:
        try:
            with warnings.catch_warnings():
                # A default that JSON cannot hold is not told.
                warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
                schema = self._model.model_json_schema()
        except PydanticUserError as error:
            raise self._no_json(error) from None
        plain: dict[str, Any] = _without_titles(schema)
        return {"properties": {}, **plain}

    def _no_json(self, error: Exception) -> InputError:
        return InputError(f"a parameter of '{self._name}' has a type that JSON cannot hold: "
                          f"{str(error).splitlines()[0]}", fix="use numbers, texts, lists, dicts, dataclasses, models")

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """What the function returns, as text or JSON. Raises `ToolError`."""
        try:
            values = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ToolError(f"The arguments do not fit: {told}.") from None
        given = {parameter: getattr(values, field) for field, parameter in self._arguments.items()}
        try:
            if inspect.iscoroutinefunction(self._function):
                return observation(await self._function(**given))
            found = await asyncio.to_thread(self._function, **given)
            return observation(await found if inspect.isawaitable(found) else found)
        except ToolError:
            raise
        except Exception as error:  # of the user's own code: whatever it is, the model reads it
            raise ToolError(f"'{name}' raised {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """A function holds nothing."""


def observation(value: Any) -> Observation:
    """What a function returned, as the model reads it: text as it is, a picture, anything else as JSON."""
    if isinstance(value, Observation):
        return value
    if isinstance(value, Image):
        return Observation("A picture was made.", (value,))
    return Observation(value if isinstance(value, str) else pydantic_core.to_json(value, fallback=str).decode())


def definition_of(tool: Mapping[str, Any]) -> Definition:
    """A function that the caller carries out itself, in OpenAI's form, bare or in `function`. Raises `InputError`."""
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError("a tool has no name", fix='give {"name": ..., "description": ..., "parameters": ...}')
    name, description = function["name"], function.get("description") or ""
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(description, str) or not isinstance(parameters, Mapping):
        raise InputError(f"tool '{name}' has a description that is no text, or parameters that are no object",
                         fix="give a text and a JSON Schema")
    return Definition(name, description, parameters)


_SECTION = re.compile(r"^(Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n?|[ \t]*\n)*)", re.MULTILINE)
_OTHER = re.compile(r"^(Returns|Raises|Yields|Examples?):[ \t]*\n((?:[ \t]+.*\n?|[ \t]*\n)*)", re.MULTILINE)
_PARAMETER = re.compile(r"^[ \t]+(\w+)(?: *\([^)]*\))?:[ \t]*(.+(?:\n[ \t]{8,}.+)*)", re.MULTILINE)


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter in a section like "Args:"."""
    section = _SECTION.search(docstring)
    parameters = {name: " ".join(text.split()) for name, text in _PARAMETER.findall(section[2])} if section else {}
    rest = _OTHER.sub("", _SECTION.sub("", docstring))
    return "\n".join(line.rstrip() for line in rest.strip().splitlines()), parameters


_VALUES = ("default", "const", "enum", "examples")


def _without_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names: tokens that tell nothing."""
    if isinstance(schema, list):
        return [_without_titles(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: value if key in _VALUES else _without_titles(value) for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))}
