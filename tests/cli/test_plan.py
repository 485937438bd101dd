"""The planner's tables and its counts against models that were really made."""

import pytest

from headwater import plan
from headwater.cli.main import main
from headwater.model import Decoder, KVCache, ModelConfig
from headwater.model.packed import pack_linears

SHAPES = [
    {},
    {"tie_word_embeddings": True, "num_key_value_heads": 2, "attention_bias": True},
    {"activation": "gelu", "norm": "layernorm", "mlp_bias": True, "output_bias": True, "head_dim": 32},
    {"norm_placement": "sandwich"}, {"position": "learned_2d"},
]


@pytest.mark.parametrize("axes", SHAPES)
def test_the_counts_are_what_a_model_really_holds(axes):
    config = ModelConfig(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                         num_attention_heads=4, max_position_embeddings=50, **axes)
    model = Decoder(config)
    assert plan.parameters(config) == sum(one.numel() for one in model.parameters())
    assert plan.count(config).attention == sum(
        one.numel() for name, one in model.named_parameters() if ".attention." in name)
    assert plan.block_parameters(config) == sum(one.numel() for one in model.blocks[0].parameters())
    assert plan.served_bytes(config, "bfloat16") == sum(one.numel() for one in model.parameters()) * 2
    cache = KVCache(config, 2, 50, dtype=model.bfloat16().dtype)
    assert plan.cache_bytes_per_token(config, 2) * 100 == cache.bytes
    pack_linears(model, head=False)
    model.bfloat16()
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *(
        buffer for name, buffer in model.named_buffers() if name.endswith(("weight", "scale"))))}
    matrices = 7 if config.activation == "swiglu" else 6  # of a block; each says its shape on disk
    assert plan.served_bytes(config, "int8") == sum(tensor.nbytes for tensor in tensors.values()) + 3 * matrices * 16


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def test_the_command_takes_a_name_or_a_folder_and_helps_with_a_wrong_one(small_model, capsys):
    assert main(["plan", "Baichuan2-7B", "rows=8", "length=2048"]) == 0
    shown = capsys.readouterr().out
    assert "7,505,973,248" in shown
    assert "cache of 8 x 2048 tokens" in shown
    assert "8.0 GiB" in shown  # 2 x 32 layers x 4096 x 2 bytes x 8 x 2048
    assert "one process" in shown
    assert main(["plan", str(small_model)]) == 0
    assert main(["plan", "baichuan2-7"]) == 2
    assert "did you mean Baichuan2-7B?" in capsys.readouterr().err


def test_zeros_stages_stand_side_by_side_with_what_a_gpu_takes(capsys):
    assert main(["plan", "Llama-2-7B", "processes=1024", "gpu=A100-80G", "tokens=2.0e12", "mfu=0.445", "price=2"]) == 0
    shown = capsys.readouterr().out
    assert all(f"ZeRO {stage}" in shown for stage in range(4))
    assert "80.0 GiB" in shown
    hours = next(line for line in shown.splitlines() if "GPU hours" in line)
    assert int(hours.split("│")[2].replace(",", "")) == pytest.approx(184_320, rel=0.01)  # as LLaMA 2 says of itself
    assert "price" in shown


def test_a_price_is_never_invented(capsys):
    assert main(["plan", "Llama-2-7B", "gpu=A100-80G", "tokens=2.0e12"]) == 0
    assert "price" not in capsys.readouterr().out


def test_a_layout_without_a_stage_does_not_show_it(capsys):
    assert main(["plan", "Llama-2-7B", "processes=8", "tensor=2"]) == 0
    assert "ZeRO 1" not in capsys.readouterr().out
    assert main(["plan", "Llama-2-7B", "processes=8", "replicas=2"]) == 0
    assert "ZeRO 0" not in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [
    (["procesess=4"], "did you mean 'processes'?"), (["gpu=H100"], None), (["gpu=B100"], "did you mean"),
    (["mfu=0.5"], "mfu has no effect without gpu"), (["gpu=H100", "price=2"], "price has no effect without tokens"),
    (["processes=6", "tensor=4"], "no multiple"), (["recompute=ful"], "did you mean 'full'?")])
def test_what_has_no_effect_or_no_meaning_is_refused(words, said, capsys):
    assert main(["plan", "Llama-2-7B", *words]) == (0 if said is None else 2)
    assert (said or "") in capsys.readouterr().err


def test_a_recipe_says_of_its_training_what_is_not_given(capsys):
    assert main(["plan", "recipes/quickstart.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "training on 16 x 256 tokens" in shown
    assert main(["plan", "recipes/quickstart.yaml", "micro_rows=4", "length=512"]) == 0
    assert "training on 4 x 512 tokens" in capsys.readouterr().out


def test_a_shipped_recipe_is_found_by_its_name_and_needs_no_variables(capsys):
    assert main(["plan", "web"]) == 0
    assert "serving" in capsys.readouterr().out


@pytest.mark.parametrize(("model", "said"), [("nowhere/model", "no such folder"), ("nowhere.yaml", "no such file"),
                                             ("Baichuan2-7", "did you mean Baichuan2-7B?")])
def test_what_is_not_there_is_told_as_what_it_was_meant(model, said, capsys):
    assert main(["plan", model]) == 2
    assert said in capsys.readouterr().err


def test_the_leader_needs_room_for_the_whole_model(capsys):
    assert main(["plan", "Baichuan2-7B", "gpu=A800", "processes=8"]) == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if "leader, at start" in line)
    assert shown.count("28.0 GiB") == 4  # 7.5e9 parameters of four bytes


def test_a_variable_of_a_recipe_may_be_given(capsys):
    assert main(["plan", "web", "variables.data=/somewhere"]) == 0
