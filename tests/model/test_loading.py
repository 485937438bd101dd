"""What a damaged or contradictory model folder says, and that nothing is ever executed."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.convert import ConvertSettings, convert
from headwater.model.tensors import grouped, read_tensors, write_tensors
from headwater.presets import preset

TINY = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "head_dim": 0, "rope_dims": 0, "num_key_value_heads": 0}
IDS = torch.arange(12)[None] % 31


def folder_of(path: Path, name: str = "Llama-2-7B", **changes: object) -> Path:
    save_model(initialise(Decoder(preset(name, **{**TINY, **changes})), 3), path)
    return path


def set_config(folder: Path, **changes: object) -> None:
    values = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(("changes", "words"), [
    ({"model_type": "mamba"}, "unknown family: model_type 'mamba'(.|\n)*supported one: llama, baichuan, chatglm, glm"),
    ({"model_type": ["llama"]}, "unknown family"),
    ({"rope_theta": float("inf")}, "finite number"),
    ({"rope_scaling": {"factor": 2.0}}, "a factor and no type"),
    ({"rope_scaling": "linear"}, "not an object"),
    ({"rope_scaling": {"type": "yarn", "factor": 2.0, "spread": 0.7}}, "option 'spread' of yarn is not supported"),
    ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}, "not a multiple of 3 heads"),
    ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
    ({"hidden_act": "relu"}, "hidden_act 'relu'"),
    ({"rope_scaling": {"type": "longrope", "factor": 2}}, "rope scaling 'longrope'"),
    ({"rope_scaling": {"type": "linear"}}, "'factor' is required"),
    ({"num_hidden_layers": 10**6}, "less than or equal"),
    ({"torch_dtype": "int4", "dtype": "int4"}, "dtype 'int4' is not a float type")])
def test_a_configuration_is_refused_before_any_weight_is_read(tmp_path, changes, words):
    folder = folder_of(tmp_path)
    set_config(folder, **changes)
    if "dtype" not in changes:
        (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


def test_every_tensor_that_does_not_fit_is_named_and_grouped(tmp_path):
    folder = folder_of(tmp_path)
    tensors = read_tensors(folder / "model.safetensors")
    for layer in range(3):
        tensors.pop(f"model.layers.{layer}.mlp.up_proj.weight")
    tensors |= {"model.layers.0.extra": torch.zeros(2), "model.layers.2.extra": torch.zeros(2)}
    tensors["model.norm.weight"] = torch.zeros(17)
    write_tensors(folder / "model.safetensors", tensors)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    said = str(caught.value)
    assert "3 missing: model.layers.{0-2}.mlp.up_proj.weight" in said
    assert "2 unexpected: model.layers.{0,2}.extra" in said
    assert "model.norm.weight is [17], config.json asks for [16]" in said


def test_float8_weights_are_refused(tmp_path):
    folder = folder_of(tmp_path)
    tensors = read_tensors(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.float8_e4m3fn)
    write_tensors(folder / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"1 tensors are float8.*model\.norm\.weight"):
        load_model(folder)


def test_names_are_grouped_by_their_first_number():
    assert grouped(["a.0.x", "a.1.x", "a.3.x", "b", "a.1.y"]) == "a.{0-1,3}.x, b, a.1.y"


def header(values: object) -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(("content", "words"), [
    (b"", "it has no header"), (struct.pack("<Q", 10**12), "it has no header"), (header(b"{]"), "not JSON"),
    (header(b"[" * 100_000), "not JSON"), (header({"a": F32}) + bytes(9), "written behind its end"),
    (header([1]), "not an object"), (header({"a": F32}), "its header promises"),
    (header({"a": {**F32, "dtype": "Q4"}}), "tensor a is described"), (header({"a": 3}), "tensor a is described"),
    (header({"a": {**F32, "shape": [3]}}) + bytes(8), "claims 8 bytes"),
    (header({"a": {**F32, "shape": [-2]}}) + bytes(8), "claims 8 bytes"),
    (header({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}) + bytes(12), "a and b overlap"),
    (header(b'{"a": 1, "a": 2}'), "a is in its header twice")])
def test_a_damaged_file_says_how(tmp_path, content, words):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_tensors(tmp_path / "model.safetensors")


@pytest.mark.parametrize(("change", "words"), [
    (lambda names: names.update({"model.norm.weight": "../model.safetensors"}), "leaves the folder"),
    (lambda names: names.update({"model.norm.weight": "absent.safetensors"}), "file is missing"),
    (lambda names: names.update({"model.norm.weight": "a\0b"}), "leaves the folder"),
    (lambda names: names.pop("model.norm.weight"), "the index does not name: model.norm.weight"),
    (lambda names: names.update({"ghost": min(names.values())}), "tensors that are not in their files: ghost"),
    (lambda names: names.clear(), "no weight_map")])
def test_a_wrong_index_is_refused(tmp_path, change, words):
    save_model(initialise(Decoder(preset("Llama-2-7B", **TINY)), 3), tmp_path, shard_bytes=8000)
    index = tmp_path / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    change(values["weight_map"])
    index.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    for name in ("model.safetensors", "config.json"):
        folder = folder_of(tmp_path / name)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(CheckpointError, match="not a regular file"):
            load_model(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    save_model(initialise(Decoder(preset("Llama-2-7B", **TINY)), 3), tmp_path, shard_bytes=8000)
    first, second, *_ = sorted(tmp_path.glob("model-*.safetensors"))
    name, tensor = next(iter(read_tensors(first).items()))
    write_tensors(second, {**read_tensors(second), name: tensor})
    with pytest.raises(CheckpointError, match="is also in"):
        load_model(tmp_path)


def test_old_bin_files_are_read_when_they_hold_tensors_alone(tmp_path):
    folder = folder_of(tmp_path)
    wanted = load_model(folder)
    tensors = read_tensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for zipped in (True, False):
        tensors = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        with torch.inference_mode():
            assert torch.equal(load_model(folder)(IDS), wanted(IDS))


class Trap:
    """A pickle that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("write", [
    lambda value, path: torch.save(value, path), lambda value, path: path.write_bytes(pickle.dumps(value)),
    lambda value, path: torch.save({"a": 1}, path), lambda value, path: torch.save({1: torch.zeros(2)}, path),
    lambda value, path: torch.save({"a": torch.zeros(2, device="meta")}, path),
    lambda value, path: torch.save({"a": torch.eye(2).to_sparse()}, path),
    lambda value, path: path.write_bytes(b"junk")])
def test_a_bin_file_that_holds_more_is_refused_and_not_run(tmp_path, write):
    folder = folder_of(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    write({"weight": Trap(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="refused"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_a_type_may_be_asked_for_and_is_otherwise_the_configurations(tmp_path):
    folder = folder_of(tmp_path)
    assert load_model(folder, dtype=torch.bfloat16).dtype == torch.bfloat16
    set_config(folder, dtype="float16")
    assert load_model(folder).dtype == torch.float16


def test_mapped_weights_change_no_file(tmp_path):
    folder = folder_of(tmp_path, "ChatGLM2-6B", head_dim=4, rope_dims=2, num_key_value_heads=2)
    before = (folder / "model.safetensors").read_bytes()
    model, plain = load_model(folder, mmap=True), load_model(folder)
    with torch.no_grad():
        assert torch.equal(model(IDS), plain(IDS))
        for parameter in model.parameters():
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_seven_b_baichuan_2_becomes_a_llama_with_the_same_logits(tmp_path):
    folder = folder_of(tmp_path / "baichuan", "Baichuan2-7B")
    convert(folder, tmp_path / "llama", ConvertSettings(layout="llama"))
    assert json.loads((tmp_path / "llama" / "config.json").read_text())["model_type"] == "llama"
    with torch.inference_mode():
        torch.testing.assert_close(load_model(tmp_path / "llama")(IDS), load_model(folder)(IDS), atol=1e-5, rtol=1e-4)


def test_a_form_that_cannot_say_it_is_refused(tmp_path):
    folder = folder_of(tmp_path / "m", "Baichuan2-13B")
    with pytest.raises(InputError, match="the llama form cannot express this model"):
        convert(folder, tmp_path / "out", ConvertSettings(layout="llama"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="the target is there already"):
        convert(folder, folder)


MEASURED = """
import re, sys, torch
from headwater.model.checkpoint import load_model
model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
with torch.inference_mode():
    model(torch.tensor([[1, 2, 3]]))
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024,
      sum(parameter.nbytes for parameter in model.parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_loading_needs_the_models_memory_and_no_more(tmp_path, dtype):
    large = {**TINY, "vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12}
    config = preset("Llama-2-7B", **large)
    save_model(Decoder(config).half(), tmp_path, shard_bytes=100_000_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) == 5
    done = subprocess.run([sys.executable, "-c", MEASURED, tmp_path, dtype], capture_output=True, text=True, check=True)
    peak, size = map(int, done.stdout.split())
    assert size > 400_000_000
    assert peak <= 1.1 * size + 300_000_000


def test_modelling_code_is_copied_for_others_and_never_run(tmp_path):
    folder = folder_of(tmp_path / "m", "Baichuan2-7B")
    set_config(folder, auto_map={"AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM"})
    (folder / "modeling_baichuan.py").write_text("raise SystemExit('run')\n")
    convert(folder, tmp_path / "with")
    assert "auto_map" in json.loads((tmp_path / "with" / "config.json").read_text())
    assert (tmp_path / "with" / "modeling_baichuan.py").read_text() == "raise SystemExit('run')\n"
    convert(folder, tmp_path / "llama", ConvertSettings(layout="llama"))
    assert not list((tmp_path / "llama").glob("*.py"))
