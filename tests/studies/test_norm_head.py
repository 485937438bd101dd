"""Breaks when NormHead's rows are not of length one, or rare and frequent tokens are taken for each other."""

from __future__ import annotations

import numpy as np
import torch

from headwater.model import Decoder, ModelConfig, initialise
from headwater.studies.norm_head import NormHeadSettings, run
from headwater.studies.norm_head import _rows as rows


def test_rare_rows_are_compared_with_those_of_the_most_frequent_tokens_that_were_read():
    config = ModelConfig(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=1)
    model, counts = initialise(Decoder(config), 0), np.zeros(64, dtype=np.int64)
    counts[:20] = np.arange(20, 0, -1)  # of 20 tokens read 2 are frequent and 10 rare; 44 were never read
    with torch.no_grad():
        model.head.weight.copy_(torch.nn.functional.normalize(model.head.weight, dim=1))
        model.head.weight[:2] *= 4
        model.head.weight[20:] *= 100
    assert abs(rows(model, counts)["rarity"] - 0.25) < 1e-6


def test_the_study_trains_both_heads_at_both_rates(tmp_path, small, capsys):
    settings = NormHeadSettings(**{**small, "steps": 8})
    found = run(tmp_path, settings)
    assert len(found) == 2 * 2 * 2
    assert all((one.off_one < 1e-5 and one.rarity == 1) or one.head == "linear" for one in found) or all(
        abs(one.rarity - 1) < 1e-5 for one in found if one.head == "normalized")
    assert max(one.converted for one in found) < 1e-4
    assert "<svg" in (tmp_path / "normhead.svg").read_text()
    assert "have length one" in capsys.readouterr().out
    assert run(tmp_path, settings) == found
