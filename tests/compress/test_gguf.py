"""The command that writes a model as a GGUF file."""

import json

import numpy as np
import pytest
import torch

from headwater.cli.main import main
from headwater.compress.gguf import GgufSettings, export
from headwater.errors import InputError
from headwater.model.adapters import LoraSettings, attach, save_adapter
from headwater.model.checkpoint import load_model, save_model
from headwater.model.packed import pack_linears
from headwater.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def gguf():
    return pytest.importorskip("gguf", reason="the package gguf is not installed")


def test_the_command_writes_weights_and_tokenizer(gguf, small_model, tmp_path, capsys):
    assert main(["gguf", str(small_model), str(tmp_path / "m.gguf"), "type=Q8_0"]) == 0
    assert "llama, " in capsys.readouterr().out
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert reader.fields["general.name"].contents() == small_model.name
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == 512
    kinds = {one.name: one.tensor_type.name for one in reader.tensors}
    assert kinds["token_embd.weight"] == kinds["blk.1.ffn_gate.weight"] == "Q8_0"
    assert kinds["output_norm.weight"] == "F32"


def test_the_last_model_of_a_run_is_taken(gguf, small_model, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "finetune").symlink_to(small_model)
    export(tmp_path / "run", tmp_path / "m.gguf")
    assert {one.tensor_type.name for one in gguf.GGUFReader(tmp_path / "m.gguf").tensors} == {"F16", "F32"}


def test_a_folder_that_is_made_for_the_file_is_said(gguf, small_model, tmp_path, capsys):
    export(small_model, tmp_path / "new" / "m.gguf")
    assert f"{tmp_path / 'new'} is not there yet" in capsys.readouterr().err


def test_ids_alone_are_written_where_there_is_no_tokenizer(gguf, shared, tmp_path, capsys):
    export(shared / "vectors" / "llama_mha", tmp_path / "m.gguf", GgufSettings(type="F32"))
    assert "has no tokenizer" in capsys.readouterr().err
    assert gguf.GGUFReader(tmp_path / "m.gguf").fields["tokenizer.ggml.model"].contents() == "none"


def test_a_packed_model_is_refused(small_model, tmp_path):
    model = load_model(small_model)
    pack_linears(model, head=False)
    save_model(model, tmp_path / "run" / "quantize", tokenizer_from=small_model)
    with pytest.raises(InputError, match="RUN/finetune"):
        export(tmp_path / "run", tmp_path / "m.gguf")


def test_an_adapter_is_merged(gguf, small_model, tmp_path):
    model = attach(load_model(small_model), LoraSettings(rank=2), seed=0)
    for name, one in model.named_parameters():
        if ".adapters." in name:
            one.data.normal_(0, 0.1)
    save_adapter(model, tmp_path / "adapter", small_model)
    export(tmp_path / "adapter", tmp_path / "m.gguf", GgufSettings(type="F32"))
    merged = load_model(tmp_path / "adapter").blocks[1].feedforward.down.weight.detach().numpy()
    plain = load_model(small_model).blocks[1].feedforward.down.weight.detach().numpy()
    written = {one.name: one.data for one in gguf.GGUFReader(tmp_path / "m.gguf").tensors}["blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(written, merged)
    assert not np.array_equal(written, plain)


@pytest.mark.parametrize(("name", "reason"), [("m.gguf", "there already"), ("m.bin", "not a name of a GGUF file")])
def test_another_target_is_asked_for(small_model, tmp_path, name, reason):
    (tmp_path / "m.gguf").touch()
    with pytest.raises(InputError, match=reason):
        export(small_model, tmp_path / name)


def test_a_story_goes_on_there_as_in_its_reference(shared, tmp_path):
    """A trained model, its tokenizer and greedy continuations that its checkpoint records."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = shared / "checkpoints" / "stories260K-hf"
    export(folder, tmp_path / "m.gguf", GgufSettings(type="F32"))
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=256, n_threads=1, verbose=False, type_k=0, type_v=0,
                            flash_attn=False)
    tokenizer = Tokenizer.load(folder)
    for case in json.loads((folder / "reference.json").read_text())["greedy"]:
        assert model.tokenize(case["prompt"].encode()) == case["prompt_ids"]
        said = model.create_completion(case["prompt"], max_tokens=32, temperature=0)["choices"][0]["text"]
        assert said.strip() == tokenizer.decode(case["new_ids"][:32]).strip()


def test_eight_bits_cost_little(shared, tmp_path):
    """By the mean loss of the text that llama.cpp's float32 model writes itself."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = shared / "checkpoints" / "stories260K-hf"
    ids = json.loads((folder / "reference.json").read_text())["greedy"][0]
    ids = [*ids["prompt_ids"], *ids["new_ids"]]
    with torch.inference_mode():
        ours = torch.nn.functional.cross_entropy(load_model(folder)(torch.tensor([ids]))[0, :-1], torch.tensor(ids[1:]))
    export(folder, tmp_path / "m.gguf", GgufSettings(type="Q8_0"))
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=256, n_threads=1, verbose=False, logits_all=True)
    model.eval(ids)
    there = torch.nn.functional.cross_entropy(torch.tensor(model.scores[: len(ids) - 1]), torch.tensor(ids[1:]))
    assert abs(float(there - ours)) < 0.01
