import json

import pytest
import torch

from headwater.compress.stage import QuantizeSettings, run
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.model.checkpoint import load_model


def test_the_int8_model_is_smaller_and_agrees(small_model, tmp_path):
    figures = run(QuantizeSettings(model=small_model), tmp_path / "out")
    assert figures["bytes_after"] < 0.6 * figures["bytes_before"]
    assert figures["largest_relative_error"] < 0.02
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] == 8
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        before, after = load_model(small_model)(tokens).float(), load_model(tmp_path / "out")(tokens).float()
    agreement = torch.cosine_similarity(before, after, dim=-1)
    assert float(agreement.min()) > 0.99


def test_the_int8_model_generates(small_model, tmp_path):
    run(QuantizeSettings(model=small_model), tmp_path / "out")
    engine = Engine.load(tmp_path / "out")
    assert engine.log_likelihoods([([1, 5, 6], [7, 8])])[0].logprob < 0


def test_quantizing_twice_is_refused(small_model, tmp_path):
    run(QuantizeSettings(model=small_model), tmp_path / "once")
    with pytest.raises(InputError, match="quantized already"):
        run(QuantizeSettings(model=tmp_path / "once"), tmp_path / "twice")


def test_a_tied_head_cannot_be_quantized(small_model, tmp_path):
    with pytest.raises(InputError, match="tied"):
        run(QuantizeSettings(model=small_model, head=True), tmp_path / "out")
