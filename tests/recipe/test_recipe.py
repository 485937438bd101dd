import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from headwater.errors import InputError, SettingsError
from headwater.recipe.recipe import find_recipe, load_recipe, load_stage, shipped_recipes
from headwater.recipe.stages import STAGES as REAL
from headwater.settings import input_paths
from tests.recipe.tiny_stages import STAGES

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def settings(recipe, stage: str):
    return next(step.settings for step in recipe.steps if step.stage.name == stage)


def test_defaults_stand_for_the_folders_of_earlier_stages(recipe):
    step = load_recipe(recipe, stages=STAGES).steps[1]
    assert str(step.settings.pages) == "${source}/pages"
    assert step.below(Path("runs/x"), ["source"]).pages == Path("runs/x/source/pages")


def test_the_seed_reaches_every_stage_that_sets_none(recipe):
    assert settings(load_recipe(recipe, stages=STAGES), "source").seed == 7
    assert settings(load_recipe(recipe, ["seed=3"], stages=STAGES), "source").seed == 3
    assert settings(load_recipe(recipe, ["seed=3", "source.seed=9"], stages=STAGES), "source").seed == 9


def test_a_path_in_the_recipe_counts_from_the_recipe_and_in_an_override_from_here(recipe, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert settings(load_recipe(recipe, stages=STAGES), "source").text == recipe.parent / "input.txt"
    given = load_recipe(recipe, ["source.text=input.txt"], stages=STAGES)
    assert settings(given, "source").text == tmp_path / "here" / "input.txt"


def test_a_path_that_begins_with_a_variable_counts_from_where_the_variable_was_given(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "here").mkdir()
    path = write(tmp_path / "recipes", "name: v\nvariables: {data: d}\nstages: {source: {text: '${data}/in.txt'}}\n")
    monkeypatch.chdir(tmp_path / "here")
    assert settings(load_recipe(path, stages=STAGES), "source").text == tmp_path / "recipes" / "d" / "in.txt"
    given = load_recipe(path, ["variables.data=../x"], stages=STAGES)
    assert settings(given, "source").text == tmp_path / "x" / "in.txt"


def test_a_variable_without_a_value_says_how_to_give_it(tmp_path):
    path = write(tmp_path, "name: v\nvariables: {data: null}\nstages: {source: {text: '${data}/in.txt'}}\n")
    with pytest.raises(SettingsError, match=r"'data' has no value(.|\n)*variables\.data="):
        load_recipe(path, stages=STAGES)


@pytest.mark.parametrize(("text", "message"), [
    ("name: x\nstages: {sorce: {}}", "did you mean 'source'"),
    ("name: x\nstages: {source: {text: a, sede: 1}}", "did you mean 'seed'"),
    ("name: x\nstages: {source: {text: a, repeat: many}}", "setting 'repeat'"),
    ("name: x\nstages: {source: {}}", "setting 'text' is required"),
    ("name: x\nstages: {source: 5}", "setting 'stages.source' is a group of settings"),
    ("name: x\nstages: {}", "stages"),
    ("name: x\nstage: {}\nstages: {source: {text: a}}", "did you mean 'stages'"),
    ("name: x\nstages: {train: {}}", r"\$\{source\} names no earlier stage"),
    ("name: x\nstages: {train: {pages: '${source}'}, source: {text: a}}", r"\$\{source\} names no earlier stage"),
    ("name: x\nstages: {source: {text: '${soruce}/x'}}", r"did you mean \$\{source\}"),
    ("name: x\nstages: {source: {text: a}}\nname: y", "'name' is given twice"),
    ("name: x\n  stages: y", "line 2"),
    ("- a\n- b", "expected a mapping"),
    ("", "expected a mapping"),
])
def test_a_wrong_recipe_is_one_clear_message(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load_recipe(write(tmp_path, text), stages=STAGES)


@pytest.mark.parametrize(("override", "message"), [
    ("source.sede=1", "did you mean 'seed'"), ("sorce.seed=1", "did you mean 'source'"),
    ("train.steps.deep=1", "steps"), ("=1", "not an override"), ("train..steps=1", "not an override"),
    ("train.steps=[", "override 'stages.train.steps=\\['"), ("stages.nothing.x=1", "unknown stage 'nothing'"),
])
def test_a_wrong_override_is_one_clear_message(recipe, override, message):
    with pytest.raises(SettingsError, match=message):
        load_recipe(recipe, [override], stages=STAGES)


def test_bytes_that_are_not_text_are_the_users_mistake(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match="not UTF-8 text"):
        load_recipe(tmp_path / "recipe.yaml", stages=STAGES)


def test_the_written_out_recipe_resolves_to_the_same_settings(recipe, tmp_path):
    first = load_recipe(recipe, ["train.steps=12"], stages=STAGES)
    (tmp_path / "other").mkdir()
    again = load_recipe(write(tmp_path / "other", first.as_yaml()), stages=STAGES)
    assert [step.settings for step in again.steps] == [step.settings for step in first.steps]
    assert yaml.safe_load(again.as_yaml()) == yaml.safe_load(first.as_yaml())


def test_a_stage_alone_takes_its_neighbours_folders():
    step = load_stage(STAGES["train"], ["steps=3"])
    assert step.resolved({"source": Path("a/source")}).pages == Path("a/source/pages")
    with pytest.raises(SettingsError, match=r"'pages'.*source(.|\n)*or run that stage"):
        step.resolved({})


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_resolves(name):
    data = ["variables.data=/data"]
    recipe = load_recipe(name, {"web": data, "long": data, "cpu": ["variables.corpus=/corpus"],
                                "tuning": [*data, "variables.model=/model", "variables.corpus=/corpus"],
                                "tools": ["variables.model=/model", "variables.corpus=/corpus"]}.get(name, []))
    assert all(step.settings for step in recipe.steps)


def test_the_quickstart_names_only_inputs_that_earlier_stages_make():
    for step in load_recipe("quickstart").steps:
        assert all(str(path).startswith("${") for path in input_paths(step.settings).values())


def test_a_mistyped_recipe_name_finds_the_nearest():
    with pytest.raises(InputError, match="did you mean 'quickstart'"):
        find_recipe("quickstrat")


def test_a_stage_names_every_room_its_code_comes_from():
    """A change of any of them must make the stage's old result old."""
    import grimp

    graph = grimp.build_graph("headwater", exclude_type_checking_imports=True, cache_dir=None)
    rooms = {path.parent.name for path in (ROOT / "headwater").glob("*/__init__.py")} | {"presets"}
    for stage in REAL.values():
        module = stage.run_path.partition(":")[0]
        imported = {name.split(".")[1] for name in graph.find_upstream_modules(module) if "." in name}
        assert (imported & rooms) | {module.split(".")[1]} == set(stage.rooms), stage.name


@pytest.mark.slow
def test_the_wheel_carries_the_recipes_and_the_report(tmp_path):
    pytest.importorskip("setuptools", "77", reason="the build backend is not installed here")
    for name in ("headwater", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", "wheels", "."]
    made = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("wheels/*.whl"))).namelist()
    assert any(name.endswith("share/headwater/recipes/quickstart.yaml") for name in names)
    assert "headwater/recipe/report.html.jinja" in names
    assert "headwater/py.typed" in names
