"""A recipe: which stages run, in which order, with which settings."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from headwater.errors import InputError, SettingsError
from headwater.recipe.stages import STAGES, Stage, Stages, find
from headwater.settings import (
    REFERENCE,
    Seed,
    Settings,
    nearest_name,
    path_settings,
    read_yaml,
    substitute,
    with_overrides,
)

RESOLVED = "recipe.yaml"
"""Where a run keeps its recipe with every setting written out."""
Scalar = str | int | float | bool


class Recipe(Settings):
    """What a recipe file holds."""

    name: str
    """Shown as the title of the report."""
    description: str = ""
    seed: Seed = 0
    """Given to every stage that has a seed and sets none itself."""
    variables: dict[str, Scalar | None] = Field(default_factory=dict)
    """`${NAME}` stands for a variable's value; one without a value must be given as variables.NAME=..."""
    stages: dict[str, dict[str, Any] | None] = Field(min_length=1)
    """Stage by stage, in the order in which they run, the settings that differ from the stage's own defaults. Several
    of one kind have names of their own: finetune_lora, finetune_prefix."""


@dataclass(frozen=True)
class Step:
    """One stage of a resolved recipe; `${stage}` still stands in its settings for an earlier stage's folder."""

    stage: Stage
    settings: Settings
    where: str
    """The recipe and the stage, for messages."""

    def below(self, run: Path, earlier: Sequence[str]) -> Settings:
        """The settings with every `${stage}` replaced by its folder below `run`."""
        return self.resolved({name: run / name for name in earlier})

    def resolved(self, folders: Mapping[str, Path]) -> Settings:
        """The settings with every `${stage}` replaced. Raises `SettingsError` for one that is not in `folders`."""
        values = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        dumped = self.settings.model_dump()
        for name, value in dumped.items():
            try:
                replaced = substitute(value, folders, where=self.where)
            except SettingsError as error:
                told = "" if name in self.settings.model_fields_set else " is not given, and its default"
                raise SettingsError(f"'{name}'{told}: {error.what}", where=self.where,
                                    fix=f"give {name}=... with a path, or run that stage into a folder beside this one"
                                    ) from None
            if replaced != value:
                values[name] = replaced
        return type(self.settings).parse(values, where=self.where)


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe whose every stage has its complete, checked settings."""

    recipe: Recipe
    steps: tuple[Step, ...]

    def as_yaml(self) -> str:
        """The recipe with every default written out; `headwater run` takes it as it takes the original."""
        stages = {step.stage.name: step.settings.model_dump(mode="json") for step in self.steps}
        values = {**self.recipe.model_dump(mode="json", exclude={"variables"}), "stages": stages}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def load_recipe(name: str | Path, overrides: Sequence[str] = (), *, stages: Stages = STAGES) -> ResolvedRecipe:
    """Read a recipe file, or a shipped recipe by name, and apply `a.b=c` overrides.

    `pretrain.steps=10` is short for `stages.pretrain.steps=10`. A relative path counts from the recipe's folder
    where the recipe gives it and from the working directory where an override gives it.
    Raises `InputError` or `SettingsError`.
    """
    path = find_recipe(name)
    overrides = [_lengthened(override, stages) for override in overrides]
    written = read_yaml(path)
    recipe = Recipe.parse(with_overrides(written, overrides), where=path)
    _check_variables(recipe, written, path)
    found = {name: find(stages, name) for name in recipe.stages}
    unknown = [name for name, stage in found.items() if stage is None]
    if unknown:
        nearest = nearest_name(unknown[0], stages)
        raise SettingsError(f"unknown stage '{unknown[0]}'", where=path,
                            fix=f"did you mean '{nearest}'?" if nearest else f"known stages: {', '.join(stages)}")
    bases = _Bases(path.parent, [tuple(override.partition("=")[0].split(".")) for override in overrides])
    return ResolvedRecipe(recipe, tuple(_step(recipe, stage, bases, path) for stage in found.values() if stage))


def _check_variables(recipe: Recipe, written: Mapping[str, Any], path: Path) -> None:
    """An override may set a variable, not make one."""
    known = list(written.get("variables") or {})
    for name in recipe.variables:
        if name not in known:
            nearest = nearest_name(name, known)
            raise SettingsError(f"unknown variable '{name}'", where=path, fix=f"did you mean '{nearest}'?" if nearest
                                else f"variables of this recipe: {', '.join(known) or 'none'}")


def load_stage(stage: Stage, overrides: Sequence[str]) -> Step:
    """One stage's settings from `key=value` overrides alone. Raises `SettingsError`."""
    where = f"headwater {stage.name}"
    return Step(stage, stage.settings.parse(with_overrides({}, overrides), where=where), where)


def _lengthened(override: str, stages: Stages) -> str:
    first = override.partition("=")[0].partition(".")[0]
    if find(stages, first):
        return f"stages.{override}"
    if first and first not in Recipe.model_fields:
        known = [*Recipe.model_fields, *stages]
        nearest = nearest_name(first, known)
        raise SettingsError(f"override '{override}': '{first}' is neither a stage nor a setting of a recipe",
                            fix=f"did you mean '{nearest}'?" if nearest else f"known: {', '.join(known)}")
    return override


def _step(recipe: Recipe, stage: Stage, bases: _Bases, path: Path) -> Step:
    where = f"{path}, stage {stage.name}"
    raw = recipe.stages[stage.name] or {}
    settings = stage.settings.parse(_with_seed(_expand(raw, recipe, where), stage, recipe.seed), where=where)
    values = _expand(raw, recipe, where)
    for found in path_settings(settings):
        text = _at(raw, found.location)
        if isinstance(text, str):
            base = bases.base(("stages", stage.name, *map(str, found.location)), text, recipe.variables)
            _put(values, found.location, _anchored(found.path, base))
    settings = stage.settings.parse(_with_seed(values, stage, recipe.seed), where=where)
    step = Step(stage, settings, where)
    earlier = list(recipe.stages)[: list(recipe.stages).index(stage.name)]
    step.below(Path(), earlier)
    return step


def _with_seed(values: dict[str, Any], stage: Stage, seed: int) -> dict[str, Any]:
    return {"seed": seed, **values} if "seed" in stage.settings.model_fields else values


def _expand(raw: Any, recipe: Recipe, where: str) -> Any:
    """`raw` with the recipe's variables in place; `${stage}` stays for the walk."""
    unset = [name for name, value in recipe.variables.items() if value is None and f"${{{name}}}" in str(raw)]
    if unset:
        raise SettingsError(f"the variable '{unset[0]}' has no value", where=where,
                            fix=f"give variables.{unset[0]}=... on the command line")
    names = {**{stage: f"${{{stage}}}" for stage in recipe.stages}, **recipe.variables}
    try:
        return substitute(raw, names, where=where)
    except SettingsError as error:
        raise SettingsError(error.what.replace("no earlier stage", "no stage and no variable of this recipe"),
                            where=where, fix=error.fix) from None


@dataclass(frozen=True)
class _Bases:
    """Where relative paths count from."""

    folder: Path
    overridden: list[tuple[str, ...]]

    def base(self, location: tuple[str, ...], text: str, variables: Mapping[str, object]) -> Path:
        leading = REFERENCE.match(text)
        if leading and leading[1] in variables:
            location = ("variables", leading[1])
        given_here = any(location[: len(prefix)] == prefix for prefix in self.overridden)
        return Path() if given_here else self.folder


def _anchored(path: Path, base: Path) -> str:
    return str(path) if REFERENCE.match(str(path)) else os.path.abspath(base / path.expanduser())


def _at(values: Any, location: Sequence[str | int]) -> Any:
    for key in location:
        if isinstance(values, Mapping):
            values = values.get(key)
        elif isinstance(values, list) and isinstance(key, int) and key < len(values):
            values = values[key]
        else:
            return None
    return values


def _put(values: Any, location: Sequence[str | int], value: str) -> None:
    for key in location[:-1]:
        values = values[key]
    values[location[-1]] = value


def find_recipe(name: str | Path) -> Path:
    """The path itself when there is such a file, else the shipped recipe of that name. Raises `InputError`."""
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    nearest = nearest_name(str(name), shipped)
    raise InputError(f"no recipe '{name}'", fix=f"did you mean '{nearest}'?" if nearest else
                     f"give a YAML file or one of: {', '.join(shipped)}")


def shipped_recipes() -> dict[str, Path]:
    """Name to path of the recipes beside the package's source, or where the installed wheel put them."""
    beside = Path(__file__).parents[2] / "recipes"
    if beside.is_dir():
        return {path.stem: path for path in sorted(beside.glob("*.yaml"))}
    files = importlib.metadata.files("headwater") or []
    installed = [Path(str(file.locate())) for file in files if file.match("share/headwater/recipes/*.yaml")]
    return {path.stem: path for path in sorted(installed)}
