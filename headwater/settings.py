"""Typed settings: unknown keys are refused with the nearest known name; YAML and `a.b=c` are views of them."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from headwater.errors import InputError, SettingsError
from headwater.progress import say

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


class _InputMark:
    """Marks a path whose content, not its name, is an input of the stage (see `input_paths`)."""


InputPath = Annotated[Path, _InputMark()]


class Change(Enum):
    """Marks a setting, or a group of them, that may change between two starts of a stage: half-done work goes on."""

    HOW = "how the work is done and watched; what it makes is the same, to rounding: a finished result stays"
    MIDWAY = "from then on the work follows it; a finished result is of the old value"


class FieldsOf(NamedTuple):
    """Marks a mapping that holds fields of that model, some of them; the help lists them all."""

    model: type[BaseModel]


class OwnDefaults(NamedTuple):
    """Marks a group of settings with defaults of its own where it stands, a tree of some; the help shows them."""

    values: Mapping[str, Any]
    without: Collection[str] = ()
    """Settings that are refused there, or can have one value alone; the help leaves them out."""


Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What every generator of random numbers takes."""
LARGEST_YAML = 100_000
"""Values a recipe may hold, aliases followed."""


def _each_once(values: list[Any]) -> list[Any]:
    if twice := [value for number, value in enumerate(values) if value in values[:number]]:
        raise ValueError(f"{twice[0]!r} is given twice")
    return values


Distinct = AfterValidator(_each_once)
"""Marks a list whose values differ."""


class Settings(BaseModel):
    """Base of every settings class: frozen, strict about unknown keys, errors people can act on.

    The string below a field is that field's help, shown by `headwater STAGE --help`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True,
                              allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keep_what_a_group_holds_by_default(cls, values: Any) -> Any:
        """A group given in part changes that part of the default, not the rest of it."""
        if not isinstance(values, Mapping):
            return values
        return {**values, **{name: laid_over(held_by_default(field), values[name])
                             for name, field in cls.model_fields.items() if isinstance(values.get(name), Mapping)}}

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: object = None) -> Self:
        """Build from plain values. Raises `SettingsError` naming the key, what it got and the nearest known name."""
        if not isinstance(values, Mapping):
            raise SettingsError(f"expected a group of settings, got {values!r}", where=where, fix="write 'key: value'")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _settings_error(cls, error, where) from None


def held_by_default(field: FieldInfo) -> Mapping[str, Any]:
    """Of a group: the tree of what is not as its class says."""
    own = next((mark.values for mark in field.metadata if isinstance(mark, OwnDefaults)), {})
    return field.default.model_dump(exclude_unset=True) if isinstance(field.default, Settings) else own


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of mappings as one; where both have a value the upper one counts."""
    return {**below, **{key: laid_over(below[key], value) if isinstance(value, Mapping)
                        and isinstance(below.get(key), Mapping) else value for key, value in above.items()}}


def _settings_error(cls: type[BaseModel], error: ValidationError, where: object) -> SettingsError:
    lines, fixes = [], []
    for item in error.errors():
        line, fix = _explain(cls, item)
        lines.append(line)
        fixes += [fix] if fix not in fixes else []
    return SettingsError("; ".join(lines), where=where, fix="; ".join(fixes))


def _explain(cls: type[BaseModel], item: ErrorDetails) -> tuple[str, str]:
    tagged = item["loc"]
    location = _without_tags(cls, tagged)
    path = ".".join(str(part) for part in location)
    if item["type"].startswith("union_tag"):
        name, known = item["ctx"]["discriminator"].strip("'"), item["ctx"].get("expected_tags")
        kinds = known or ", ".join(repr(tag) for tag in sorted(_tags(cls, tagged)))
        found = f"is {_short(item['input'][name])}" if name in item["input"] else "is required"
        return f"setting '{path}.{name}' {found}", f"write {path}.{name}=... with {kinds}"
    if item["type"] == "extra_forbidden":
        names = sorted(known_names(cls, tagged[:-1]))
        nearest = nearest_name(str(location[-1]), names)
        meant = ".".join(map(str, (*location[:-1], nearest)))
        return f"unknown setting '{path}'", f"did you mean '{meant}'?" if nearest else f"known: {', '.join(names)}"
    if item["type"] == "missing":
        inner = known_names(cls, tagged)
        return f"setting '{path}' is required", (f"set {path}=..." if not inner else
                                                 f"set {path}.NAME=... with some of {', '.join(sorted(inner))}")
    if item["type"] in {"model_type", "model_attributes_type", "dict_type", "mapping_type"}:
        known = sorted(known_names(cls, tagged)) if item["type"].startswith("model") else []
        off = f"write {path}=null to turn it off, or " if item["input"] is False else "write "
        return (f"setting '{path}' is a group of settings, got {_short(item['input'])}",
                f"{off}{path}.NAME=..." + (f" with one of {', '.join(known)}" if known else ""))
    message = item["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    if not location:
        return message, "correct the settings"
    if item["type"] == "value_error" and isinstance(item["input"], Mapping):
        return f"'{path}': {message}", f"correct '{path}'"
    return f"setting '{path}': {message} (got {_short(item['input'])})", _fix(path, item)


def _fix(path: str, item: ErrorDetails) -> str:
    kind, bounds = item["type"], item.get("ctx", {})
    if kind in ("tuple_type", "list_type"):
        return f"write {path}=[{item['input']}]"
    if kind == "literal_error":
        given, known = str(item["input"]), re.findall("'([^']*)'", bounds["expected"])
        nearest = nearest_name(given, known, at_least=0.6)
        mistyped = nearest and re.sub(r"\d", "", nearest) != re.sub(r"\d", "", given)  # another number is no slip
        return f"did you mean '{nearest}'?" if mistyped else f"write {path}=... with {bounds['expected']}"
    for name, words in _BOUNDS.items():
        if name in bounds:
            return f"give '{path}' a value {words} {bounds[name]}"
    return _FIXES.get(kind, "correct '{path}'").format(path=path)


_BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
_FIXES = {"bool_parsing": "write {path}=true or {path}=false", "bool_type": "write {path}=true or {path}=false",
          "int_parsing": "give '{path}' a whole number", "int_from_float": "give '{path}' a whole number",
          "float_parsing": "give '{path}' a number", "string_type": "give '{path}' a text"}


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def nearest_name(name: str, known: Iterable[str], *, at_least: float = 0.5) -> str | None:
    """The known name a mistyped one most likely means, if any is close: 1 is the same, 0 another altogether."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=at_least)), None)


def known_names(cls: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """The setting names known at `path` below `cls` (list indices and mapping keys are stepped over)."""
    return {name for model in _models_at(cls, path) for name in model.model_fields}


def _models_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The classes that what stands at `path` may be of. A part that names one of several kinds chooses it."""
    models: list[type[BaseModel]] = [cls]
    for part in path:
        fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        if fields:
            models = [found for annotation in fields for found in models_in(annotation)]
        elif len(models) > 1:
            models = [model for model in models if part in kinds_of(model)] or models
    return models


def _without_tags(cls: type[BaseModel], path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A place as the user wrote it: pydantic puts the kind of a group of several kinds into it."""
    kept: list[int | str] = []
    for number, part in enumerate(path):
        models = _models_at(cls, path[:number])
        if len(models) < 2 or not any(part in kinds_of(model) for model in models):
            kept.append(part)
    return tuple(kept)


def _tags(cls: type[BaseModel], path: tuple[int | str, ...]) -> set[Any]:
    return {tag for model in _models_at(cls, path) for tag in kinds_of(model)}


def kinds_of(model: type[BaseModel]) -> tuple[Any, ...]:
    """What a class allows in its field `kind`, which tells the classes of one union apart."""
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field is not None else ()


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes that an annotation names, of a union all."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


class PathSetting(NamedTuple):
    """One path among the settings: where it stands, and whether its content is an input of the stage."""

    location: tuple[str | int, ...]
    path: Path
    is_input: bool


def path_settings(settings: BaseModel) -> Iterator[PathSetting]:
    """Every path of the settings, through nested models, lists and mappings."""
    for name, field in type(settings).model_fields.items():
        marked = any(isinstance(mark, _InputMark) for mark in field.metadata) or _is_marked(field.annotation)
        yield from _paths_in(getattr(settings, name), (name,), marked)


def input_paths(settings: BaseModel) -> dict[str, Path]:
    """Every `InputPath` of the settings, nested ones too, by dotted name."""
    return {".".join(map(str, found.location)): found.path for found in path_settings(settings) if found.is_input}


def changeable(settings: BaseModel) -> Iterator[tuple[Change, tuple[str, ...]]]:
    """The places of all settings that a `Change` marks."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        mark = next((mark for mark in field.metadata if isinstance(mark, Change)), None)
        if mark is not None:
            yield mark, (name,)
        elif isinstance(value, BaseModel):
            yield from ((inner, (name, *place)) for inner, place in changeable(value))


def _is_marked(annotation: Any) -> bool:
    return isinstance(annotation, _InputMark) or any(_is_marked(argument) for argument in (
        *get_args(annotation), *getattr(annotation, "__metadata__", ())))


def _paths_in(value: Any, location: tuple[str | int, ...], marked: bool) -> Iterator[PathSetting]:
    if isinstance(value, BaseModel):
        for inner in path_settings(value):
            yield inner._replace(location=location + inner.location)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _paths_in(item, (*location, key), marked)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _paths_in(item, (*location, index), marked)
    elif isinstance(value, Path):
        yield PathSetting(location, value, marked)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error (the second would silently win) and, as in YAML 1.2, only
    true and false are booleans: on, off, yes and no (Norwegian) are words; 1e6 is a number."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' is given twice",
                                                        key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
                                    list("-+0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises `InputError`/`SettingsError` with the line of the mistake."""
    try:
        values = _plain_values(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path, fix="give the path of an existing YAML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text ({error})", where=path, fix="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, fix="give a YAML file") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"not valid YAML: {error}", where=path, fix="correct the line named above") from None
    except ValueError as error:
        raise SettingsError(str(error), where=path, fix="write the values out") from None
    except RecursionError:
        raise SettingsError("nested too deeply", where=path, fix="write a plain recipe") from None
    if not isinstance(values, dict):
        raise SettingsError("expected a mapping of settings", where=path, fix="write 'key: value' lines")
    return values


def _plain_values(text: str) -> Any:
    """YAML as plain values. Raises `ValueError` where aliases make it endless or enormous (an alias names the object
    itself, so a few lines can stand for any number of values)."""
    values = yaml.load(text, _StrictLoader)
    left, count = [values], 0
    while left:
        one = left.pop()
        count += 1
        if count > LARGEST_YAML:
            raise ValueError(f"its aliases expand to more than {LARGEST_YAML} values")
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple | set) else ()
    return values


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with dotted `a.b=c` overrides applied; each value is read as YAML, list items by index. Of two for the
    same setting the last one counts, so that a script's own can stand before its user's; that is said."""
    merged: dict[str, Any] = copy.deepcopy(dict(values))
    given: list[str] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not all(path.split(".")):
            raise SettingsError(f"'{override}' is not an override", fix="write overrides as a.b=value")
        if path in given:
            say(f"note: override {_short(path)} is given twice, the last one counts")
        dropped = next((one for one in given if one.startswith(f"{path}.")), None)
        if dropped is not None:
            raise SettingsError(f"override {_short(path)} would drop {_short(dropped)}, which is given before it",
                                fix=f"give {_short(path)} first")
        given.append(path)
        try:
            _set(merged, path.split("."), _plain_values(text))
        except yaml.YAMLError as error:
            raise SettingsError(f"override {_short(override)}: {error}", fix="write the value as YAML") from None
        except ValueError as error:
            raise SettingsError(f"override {_short(override)}: {error}", fix=f"correct {_short(path)}") from None
        except RecursionError:
            raise SettingsError(f"override {_short(path)}: nested too deeply", fix="write a plain value") from None
    return merged


def _set(target: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if isinstance(target, list):
            target = target[_index(target, key)]
        elif isinstance(target, dict):
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
        else:
            raise ValueError(f"'{key}' is below a plain value")
    if isinstance(target, list):
        target[_index(target, keys[-1])] = value
    elif isinstance(target, dict):
        target[keys[-1]] = value
    else:
        raise ValueError(f"'{keys[-1]}' is below a plain value")


def _index(items: list[Any], key: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        raise ValueError(f"'{key}' is no place in a list of {len(items)}, counted from 0")
    return int(key)


REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""`${name}`: a stage's folder or a variable of the recipe."""
KNOWN = 6
"""Names that a message lists."""


def substitute(value: Any, names: Mapping[str, object], *, where: object = None) -> Any:
    """Replace `${name}` in every string and path below `value` by what `names` holds for it.

    Raises `SettingsError` for a name that is not there.
    """
    if isinstance(value, Mapping):
        return {key: substitute(item, names, where=where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, names, where=where) for item in value]
    if isinstance(value, Path):
        return Path(substitute(str(value), names, where=where))
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        if match[1] not in names:
            nearest, known = nearest_name(match[1], names), [*names]
            listed = ", ".join(known[:KNOWN]) + f" and {len(known) - KNOWN} more" * (len(known) > KNOWN)
            raise SettingsError(f"${{{match[1]}}} names no earlier stage (known: {listed or 'none'})",
                                where=where, fix=f"did you mean ${{{nearest}}}?" if nearest else
                                "name an earlier stage of the recipe or give a path")
        return str(names[match[1]])

    return REFERENCE.sub(replacement, value)
