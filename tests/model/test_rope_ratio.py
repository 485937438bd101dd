"""`rope_ratio`: two meanings under one key, told by the model's generation."""

import pytest

from headwater.model.families import chatglm2

PLAIN = {"padded_vocab_size": 64, "hidden_size": 32, "ffn_hidden_size": 64, "num_layers": 1, "num_attention_heads": 2,
         "kv_channels": 16, "multi_query_group_num": 1, "seq_length": 64, "rope_ratio": 16}
SECOND = {"auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"}}
THIRD = {"auto_map": {**SECOND["auto_map"], "AutoModelForSequenceClassification":
                      "modeling_chatglm.ChatGLMForSequenceClassification"}}


@pytest.mark.parametrize(("values", "divides"), [
    ({"_name_or_path": "THUDM/chatglm2-6b-32k"}, True), ({"_name_or_path": "/models/chatglm3-6b-32k/"}, False),
    ({"_name_or_path": "THUDM/glm-4-9b-chat"}, False), ({"_name_or_path": "/chatglm2_env/m", **THIRD}, False),
    ({"_name_or_path": "/glm-4/checkpoint", **SECOND}, True), (SECOND, True), (THIRD, False),
    ({**SECOND, "classifier_dropout": None}, False), ({**SECOND, "num_hidden_layers": 1}, False),
    ({"layernorm_epsilon": 1.5625e-07}, False), ({"rope_ratio_applies_to": "positions", **THIRD}, True),
    ({"rope_ratio_applies_to": "base", **SECOND}, False)], ids=str)
def test_the_generation_tells_what_it_applies_to(values, divides):
    config = chatglm2.config_from({**PLAIN, **values})
    assert (config.rope_scaling is not None) == divides
    assert config.rope_theta == (10000 if divides else 160000)
    assert chatglm2.config_from(chatglm2.config_to(config)) == config


def test_a_configuration_that_does_not_tell_is_refused():
    with pytest.raises(ValueError, match="nothing here tells which"):
        chatglm2.config_from(PLAIN)
    assert chatglm2.config_from({**PLAIN, "rope_ratio": 1}).rope_theta == 10000
