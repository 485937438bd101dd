"""Published figures by the names of models."""

import json
from pathlib import Path

import pytest

from headwater.evaluate.published import names_of, normalised, published


@pytest.mark.parametrize(("name", "benchmark", "value", "grade"), [
    ("Baichuan2-7B-Base", "cmmlu", 0.5707, "paper"), ("baichuan-inc/Baichuan2-13B-Base", "gsm8k", 0.5277, "paper"),
    ("Baichuan2-7B-Chat", "mmlu", 0.5293, "repo"), ("chatglm2-6b", "bbh", 0.3368, "repo"),
    ("chatglm3-6b-base", "ceval", 0.69, "repo"), ("Llama-2-7b-hf", "mmlu", 0.453, "secondary"),
    ("glm-4-9b-chat", "gsm8k", 0.796, "paper"), ("glm-4-9b", "mmlu", 0.747, "paper")])
def test_figures_of_known_models(name: str, benchmark: str, value: float, grade: str) -> None:
    found = published([name])[benchmark]
    assert (found.value, found.grade) == (value, grade)


@pytest.mark.parametrize("name", ["sky", "Llama-2-7b-chat-hf", "chatglm3-6b", "glm-4-9b-chat-1m", "hf"])
def test_a_model_of_another_name_has_none(name: str) -> None:
    assert published([name]) == {}


def test_the_base_of_a_chat_model_is_named() -> None:
    assert published(["chatglm2-6b"])["mmlu"].model == "ChatGLM2-6B (base)"


def test_names_are_compared_without_maker_form_and_marks() -> None:
    assert normalised("/models/meta-llama/Llama-2-7b-hf/") == normalised("llama2_7B") == "llama27b"


def test_a_folder_is_known_by_its_name_and_by_what_its_configuration_remembers(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert names_of(folder) == ("mine",)
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "THUDM/glm-4-9b"}))
    assert names_of(folder) == ("mine", "THUDM/glm-4-9b")
    assert published(names_of(folder))["mmlu"].value == 0.747


def test_figures_are_those_of_the_specification() -> None:
    text = Path(__file__).parents[3] / "shared" / "SPEC.md"
    if not text.is_file():
        pytest.skip("no ../shared/SPEC.md here")
    spec = text.read_text()
    from headwater.evaluate.published import _TABLE

    for model, _, _, _, figures in _TABLE:
        for value in figures.split()[1::2]:
            assert value.removesuffix("0") in spec, f"{model}: {value}"
