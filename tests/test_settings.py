from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from headwater.errors import InputError, SettingsError
from headwater.settings import (
    Distinct,
    InputPath,
    Settings,
    input_paths,
    known_names,
    path_settings,
    read_yaml,
    substitute,
    with_overrides,
)


class Inner(Settings):
    path: InputPath
    """Where it lies."""
    weight: float = Field(default=1.0, gt=0)


class Outer(Settings):
    inner: Inner
    more: list[Inner] = []
    named: dict[str, InputPath] = {}
    several: list[InputPath] = []
    nested: dict[str, dict[str, InputPath]] = {}
    maybe: InputPath | None = None
    log: Path = Path("log")
    mode: Literal["fast", "precise"] = "fast"
    flag: bool = False


FULL = {"inner": {"path": "a"}, "more": [{"path": "b"}, {"path": "c"}], "named": {"x": "d"}, "several": ["e", "f"],
        "nested": {"y": {"en": "g"}}, "maybe": "h"}


def test_every_input_path_is_found_wherever_it_stands():
    assert input_paths(Outer.parse(FULL)) == {
        "inner.path": Path("a"), "more.0.path": Path("b"), "more.1.path": Path("c"), "named.x": Path("d"),
        "several.0": Path("e"), "several.1": Path("f"), "nested.y.en": Path("g"), "maybe": Path("h")}


def test_a_path_that_is_no_input_is_still_a_path_setting():
    found = {".".join(map(str, one.location)): one.is_input for one in path_settings(Outer.parse(FULL))}
    assert found["log"] is False
    assert found["several.1"] is True


@pytest.mark.parametrize(("values", "message"), [
    ({"inner": {"path": "a", "wieght": 2}}, r"unknown setting 'inner\.wieght'(.|\n)*did you mean 'inner.weight'"),
    ({"inner": {"path": "a"}, "more": [{"pth": "a"}]}, r"did you mean 'more.0.path'"),
    ({"inner": 5}, r"setting 'inner' is a group of settings, got 5(.|\n)*inner\.NAME=(.|\n)*path, weight"),
    ({}, "setting 'inner' is required"),
    ({"inner": {"path": "a", "weight": -1}}, "greater than 0"),
    ({"inner": {"path": "a", "weight": "heavy"}}, r"setting 'inner\.weight'(.|\n)*'heavy'"),
    ({"inner": {"path": "a", "weight": 0}}, "give 'inner.weight' a value above 0"),
    ({"inner": {"path": "a"}, "more": "b"}, r"should be a(.|\n)*list(.|\n)*write more=\[b\]"),
    ({"inner": {"path": "a"}, "mode": "fasst"}, "did you mean 'fast'"),
    ({"inner": {"path": "a"}, "flag": "maybe"}, "write flag=true or flag=false"),
    ({"inner": False}, "write inner=null to turn it off"),
    ({"inner": {"path": "a"}, "zzzzzz": 1}, "known: flag, inner, log"),
    (["inner"], "expected a group of settings"),
])
def test_a_wrong_setting_is_named_with_what_it_got(values, message):
    with pytest.raises(SettingsError, match=message):
        Outer.parse(values, where="recipe.yaml")


def test_a_long_wrong_value_is_cut():
    with pytest.raises(SettingsError) as caught:
        Outer.parse({"inner": {"path": "a", "weight": "x" * 5000}})
    assert len(str(caught.value)) < 400


def test_the_string_below_a_field_is_its_help():
    assert Inner.model_fields["path"].description == "Where it lies."


def test_a_group_given_in_part_keeps_the_rest_of_its_default():
    class Deeper(Settings):
        inner: Inner = Inner(path="a", weight=2.0)
        steps: int = 1

    class Deepest(Settings):
        deeper: Deeper = Deeper(inner=Inner(path="b", weight=3.0))

    assert Deeper.parse({"inner": {"path": "c"}}).inner == Inner(path="c", weight=2.0)
    assert Deepest.parse({"deeper": {"steps": 4, "inner": {"weight": 5.0}}}).deeper == Deeper(
        inner=Inner(path="b", weight=5.0), steps=4)
    assert Deeper.parse({}).inner.weight == 2.0
    with pytest.raises(SettingsError, match=r"'inner\.weights'"):
        Deeper.parse({"inner": {"weights": 1}})


def test_known_names_step_over_lists_and_mappings():
    assert known_names(Outer, ("more", 0)) == {"path", "weight"}
    assert "inner" in known_names(Outer, ())


def test_overrides_reach_into_lists_and_leave_the_original_alone():
    values = {"a": {"b": [1, 2]}}
    assert with_overrides(values, ["a.b.1=5", "a.c.d=[x, 1.5]", "e=null"]) == {
        "a": {"b": [1, 5], "c": {"d": ["x", 1.5]}}, "e": None}
    assert values == {"a": {"b": [1, 2]}}


def test_a_number_with_an_exponent_is_one_and_whole_where_it_can_be():
    class Numbers(Settings):
        steps: int
        rate: float
        name: str = ""

    found = Numbers.parse(with_overrides({}, ["steps=1.5e6", "rate=2E-3", "name=a1e6"]))
    assert (found.steps, found.rate, found.name) == (1_500_000, 0.002, "a1e6")
    with pytest.raises(SettingsError, match="fractional"):
        Numbers.parse(with_overrides({}, ["steps=15e-1", "rate=1"]))


def test_a_list_of_distinct_values_names_the_one_that_comes_again():
    class Chosen(Settings):
        sizes: Annotated[list[int], Distinct] = [1, 2]

    assert Chosen.parse({"sizes": [3, 2, 1]}).sizes == [3, 2, 1]
    with pytest.raises(SettingsError, match="setting 'sizes': 3 is given twice"):
        Chosen.parse({"sizes": [3, 1, 3]})


def test_on_off_yes_and_no_are_words_and_true_is_not(tmp_path):
    (tmp_path / "f.yaml").write_text("compile: off\nlanguage: no\nlarge: true\nrate: 1.0e-3\n")
    assert read_yaml(tmp_path / "f.yaml") == {"compile": "off", "language": "no", "large": True, "rate": 0.001}
    assert with_overrides({}, ["a=off", "b=false"]) == {"a": "off", "b": False}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", ".a=1", "a.b.7=1", "a.b.x=1", "a.b.0.c=1", "a=[1"])
def test_a_wrong_override_is_a_settings_error(override):
    with pytest.raises(SettingsError, match="override"):
        with_overrides({"a": {"b": [1, 2]}}, [override])


def test_of_two_overrides_for_one_setting_the_last_counts_and_it_is_said(capsys):
    assert with_overrides({}, ["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}
    assert "'a.b' is given twice, the last one counts" in " ".join(capsys.readouterr().err.split())


PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | st.text("abc ${}._", max_size=8),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner))


@given(PLAIN)
def test_substitution_leaves_everything_without_references_alone(value):
    names = {"a": "x", "b": "x", "c": "x", "aa": "x", "_": "x"}
    try:
        replaced = substitute(value, names)
    except SettingsError:
        return  # a reference to another name
    if "${" not in str(value):
        assert replaced == value


def test_substitution_reaches_strings_and_paths_everywhere():
    value = {"a": ["${corpus}/x", Path("${corpus}"), 3, None], "b": ("${corpus}",)}
    assert substitute(value, {"corpus": Path("runs/c")}) == {
        "a": ["runs/c/x", Path("runs/c"), 3, None], "b": ["runs/c"]}


def test_an_unknown_reference_names_the_nearest():
    with pytest.raises(SettingsError, match=r"did you mean \$\{corpus\}"):
        substitute("${corpsu}", {"corpus": "x"})


def test_of_another_number_the_known_ones_are_listed():
    class Typed(Settings):
        type: Literal["F16", "Q8_0", "Q4_0"] = "F16"

    with pytest.raises(SettingsError, match=r"write type=\.\.\. with 'F16', 'Q8_0' or 'Q4_0'"):
        Typed.parse({"type": "Q5_0"})
    with pytest.raises(SettingsError, match="did you mean 'Q8_0'"):
        Typed.parse({"type": "Q8-0"})


def test_of_many_names_a_handful_is_listed():
    with pytest.raises(SettingsError, match=r"known: n0, n1, n2, n3, n4, n5 and 14 more\)"):
        substitute("${corpus}", {f"n{number}": "x" for number in range(20)})


@pytest.mark.parametrize("text", ["a: &x {b: 1}\nc: {<<: *x}", "a: 1\nb: {a: 2}"])
def test_yaml_keys_may_repeat_at_other_places(tmp_path, text):
    (tmp_path / "f.yaml").write_text(text)
    assert read_yaml(tmp_path / "f.yaml")["a"]


@pytest.mark.parametrize("text", ["a: 1\na: 2", "x: {a: 1, a: 2}", "a: !!python/object/apply:os.system [ls]", "[1"])
def test_yaml_that_repeats_or_runs_something_is_refused(tmp_path, text):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(SettingsError, match="not valid YAML"):
        read_yaml(tmp_path / "f.yaml")


def test_a_folder_in_place_of_a_file_is_the_users_mistake(tmp_path):
    with pytest.raises(InputError):
        read_yaml(tmp_path)


def test_aliases_that_never_end_or_grow_without_bound_are_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stages: {atlas: &a {x: *a}}\n")
    with pytest.raises(SettingsError, match="aliases expand to more than"):
        read_yaml(path)
    path.write_text("a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)))
    with pytest.raises(SettingsError, match="aliases expand to more than"):
        read_yaml(path)
    path.write_text("base: &base {steps: 3}\nother: *base\n")
    assert read_yaml(path)["other"] == {"steps": 3}


@pytest.mark.parametrize("override", ["a.-1=x", "a.2=x", "a.b=x"])
def test_an_override_of_a_list_names_a_place_that_is_there(override):
    with pytest.raises(SettingsError, match="no place in a list of 2"):
        with_overrides({"a": [1, 2]}, [override])
