"""A settings class as help text: every setting's dotted name, type, default, bounds and its docstring."""

from __future__ import annotations

import json
import shutil
import textwrap
import types
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from headwater.settings import FieldsOf, OwnDefaults, held_by_default, kinds_of, laid_over, models_in

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}


def describe(settings: type[BaseModel]) -> str:
    """One paragraph per setting, groups of settings flattened to dotted names."""
    width = min(shutil.get_terminal_size().columns, 110)
    parts = ["settings (NAME=VALUE, values as in YAML):"]
    for name, facts, text in _settings(settings, ""):
        parts.append(f"  {name}  ({facts})")
        if text:
            parts.append(textwrap.indent(textwrap.fill(" ".join(text.split()), width - 6), " " * 6))
    return "\n".join(parts)


def _settings(settings: type[BaseModel], prefix: str, held: Mapping[str, Any] | None = None,
              without: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
    """held: defaults where the group stands, in place of the class's own; without: settings that it does not have
    there."""
    own, held = set(settings.__annotations__), held or {}  # what a class adds before what it inherits
    for name, field in sorted(settings.model_fields.items(), key=lambda item: item[0] not in own):
        if name in without:
            continue
        group = _group(field.annotation) or next((mark.model for mark in field.metadata if isinstance(mark, FieldsOf)),
                                                 None)
        several = list(models_in(field.annotation)) if _is_union(field.annotation) else []
        if len(several) > 1:
            yield f"{prefix}{name}", f"group{_or_null(field)}, {_default(field)}", field.description or ""
            yield from _of_kinds(several, f"{prefix}{name}.")
            continue
        if group is None:
            default = _shown(held[name]) if name in held else _default(field)
            facts = [_type_name(field.annotation), *_bounds(field), default]
            yield f"{prefix}{name}", ", ".join(facts), field.description or ""
        elif type(None) in get_args(field.annotation):
            default = "null" if field.default is None else "as below"
            yield f"{prefix}{name}", f"group or null, default {default}", field.description or ""
        if group is not None:
            absent = next((mark.without for mark in field.metadata if isinstance(mark, OwnDefaults)), ())
            yield from _settings(group, f"{prefix}{name}.", laid_over(held_by_default(field), held.get(name) or {}),
                                 absent)
        elif item := next(filter(None, map(_group, get_args(field.annotation))), None):
            each = "NAME" if get_origin(field.annotation) is dict else "N"
            yield from _settings(item, f"{prefix}{name}.{each}.")


def _of_kinds(several: list[type[BaseModel]], prefix: str) -> Iterator[tuple[str, str, str]]:
    """The settings of groups that `kind` tells apart: each once, with the kinds that have it."""
    kinds = {kind: model for model in several for kind in kinds_of(model)}
    yield f"{prefix}kind", f"{' | '.join(kinds)}, required", ""
    lines = {kind: list(_settings(model, prefix)) for kind, model in kinds.items()}
    for line in dict.fromkeys(line for found in lines.values() for line in found):
        having = [kind for kind, found in lines.items() if line in found]
        name, facts, text = line
        if name != f"{prefix}kind":
            yield name, facts if len(having) == len(kinds) else f"{facts}; of {', '.join(having)}", text


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Annotated, Union, types.UnionType)


def _or_null(field: FieldInfo) -> str:
    return " or null" if type(None) in get_args(field.annotation) else ""


def _group(annotation: Any) -> type[BaseModel] | None:
    found = [one for one in (get_args(annotation) or [annotation]) if one is not type(None)]
    plain = get_origin(annotation) in (None, Union, types.UnionType)
    if plain and len(found) == 1 and isinstance(found[0], type) and issubclass(found[0], BaseModel):
        return found[0]
    return None


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(one) for one in arguments)
    if origin in (list, tuple):
        return f"list of {_type_name(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"mapping to {_type_name(arguments[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Path):
        return "path"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(one.value) for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "groups"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(field: FieldInfo) -> Iterator[str]:
    """Of the field, or of what it may be beside null."""
    either = get_args(field.annotation) if _is_union(field.annotation) else ()
    inside = [bound for one in either for mark in getattr(one, "__metadata__", ()) if isinstance(mark, FieldInfo)
              for bound in mark.metadata]
    for mark in (*field.metadata, *inside):
        for key, sign in _BOUNDS.items():
            if getattr(mark, key, None) is not None:
                yield f"{sign} {getattr(mark, key)}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "default computed"
    return _shown(value)


def _shown(value: Any) -> str:
    return f"default {value if isinstance(value, str | Path) and str(value) else json.dumps(_plain(value))}"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
