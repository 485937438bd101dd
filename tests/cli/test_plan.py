"""The planner's account against models that were really made."""

import pytest

from headwater import plan
from headwater.cli.main import main
from headwater.model import Decoder, KVCache, ModelConfig
from headwater.model.checkpoint import pack_linears

SHAPES = [
    {},
    {"tie_word_embeddings": True, "num_key_value_heads": 2, "attention_bias": True},
    {"activation": "gelu", "norm": "layernorm", "mlp_bias": True, "output_bias": True, "head_dim": 32},
    {"norm_placement": "sandwich"},
]


@pytest.mark.parametrize("axes", SHAPES)
def test_the_account_is_what_a_model_really_holds(axes):
    config = ModelConfig(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                         num_attention_heads=4, max_position_embeddings=50, **axes)
    account = plan.account(config, 2, 50)
    model = Decoder(config)
    assert account["parameters"] == sum(one.numel() for one in model.parameters())
    assert account["weights, bfloat16"] == sum(one.numel() for one in model.parameters()) * 2
    cache = KVCache(config, 2, 50, dtype=model.bfloat16().dtype)
    assert account["cache of 2 x 50 tokens"] == cache.bytes
    pack_linears(model, head=False)
    model.bfloat16()
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *(
        buffer for name, buffer in model.named_buffers() if name.endswith(("weight", "scale"))))}
    assert account["weights, INT8"] == sum(tensor.nbytes for tensor in tensors.values())


def test_the_command_takes_a_name_or_a_folder_and_helps_with_a_wrong_one(small_model, capsys):
    assert main(["plan", "Baichuan2-7B", "rows=8", "length=2048"]) == 0
    shown = capsys.readouterr().out
    assert "7,505,973,248" in shown
    assert "cache of 8 x 2048 tokens" in shown
    assert "8.0 GiB" in shown  # 2 x 32 layers x 4096 x 2 bytes x 8 x 2048
    assert main(["plan", str(small_model)]) == 0
    assert main(["plan", "baichuan2-7"]) == 2
    assert "did you mean Baichuan2-7B?" in capsys.readouterr().err
