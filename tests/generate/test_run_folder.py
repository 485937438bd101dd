from __future__ import annotations

from pathlib import Path

import pytest

from headwater.errors import InputError
from headwater.generate import find_model


def write(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")


def test_the_last_finished_model_of_a_run_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "pretrain", "config.json", "model.safetensors")
    assert find_model(tmp_path) == tmp_path / "pretrain"
    write(tmp_path / "extend", "config.json", "manifest.json")
    assert find_model(tmp_path) == tmp_path / "extend"
    write(tmp_path / "finetune", "config.json", "manifest.json")
    assert find_model(tmp_path) == tmp_path / "finetune"
    write(tmp_path / "quantize", "config.json")  # still being written
    assert find_model(tmp_path) == tmp_path / "finetune"
    write(tmp_path / "quantize", "model.safetensors")
    assert find_model(tmp_path) == tmp_path / "quantize"


def test_a_model_folder_is_itself(tmp_path: Path) -> None:
    write(tmp_path, "config.json")
    assert find_model(tmp_path) == tmp_path


def test_a_folder_without_a_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model here"):
        find_model(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_model(tmp_path / "absent")


def test_of_several_models_none_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "finetune_lora", "adapter_config.json", "manifest.json")
    assert find_model(tmp_path) == tmp_path / "finetune_lora"
    write(tmp_path / "finetune_prefix", "adapter_config.json", "adapter_model.safetensors")
    with pytest.raises(InputError, match="several models: finetune_lora, finetune_prefix"):
        find_model(tmp_path)
    write(tmp_path / "finetune", "config.json", "manifest.json")
    assert find_model(tmp_path) == tmp_path / "finetune"


def test_a_head_is_nothing_to_talk_to(tmp_path: Path) -> None:
    write(tmp_path, "config.json", "task.json")
    with pytest.raises(InputError, match="headwater task predict"):
        find_model(tmp_path)
