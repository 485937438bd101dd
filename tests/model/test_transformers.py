"""transformers opens what we write, with the same logits."""

from __future__ import annotations

import pytest
import torch

from headwater.model import Decoder, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.removal import remove_blocks
from headwater.presets import preset

transformers = pytest.importorskip("transformers", reason="transformers, the reference here, is not installed")

SMALL = {"vocab_size": 71, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
INTERLEAVED = {"head_dim": 16, "rope_dims": 8}
YARN = {"kind": "yarn", "factor": 4.0, "original_length": 16}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "original_length": 16}


@pytest.mark.parametrize(("name", "changes"), [
    ("Llama-2-70B", {"head_dim": 0, "rope_dims": 0}), ("Llama-2-7B", {"head_dim": 16, "rope_dims": 0}),
    ("Llama-2-7B", {"head_dim": 0, "rope_dims": 0, "rope_scaling": YARN}),
    ("Llama-2-7B", {"head_dim": 0, "rope_dims": 0, "rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    ("GLM-4-9B", INTERLEAVED), ("GLM-4-9B-Chat", INTERLEAVED), ("GLM-4-9B-0414", INTERLEAVED)], ids=str)
def test_transformers_reads_our_export_with_equal_logits(tmp_path, name, changes):
    model = initialise(Decoder(preset(name, **{**SMALL, **changes, "initializer_range": 0.2})), 1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    save_model(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, dtype=torch.float32)
    ids = torch.randint(0, 71, (2, 40), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted, found = theirs(ids).logits, model(ids)
    assert (wanted - found).abs().max() <= 1e-4 * wanted.std()


@pytest.mark.parametrize("name", ["Llama-2-7B", "GLM-4-9B-Chat", "GLM-4-9B-0414"])
def test_transformers_reads_a_model_that_lost_blocks(tmp_path, name):
    """Beside the whole one's files, whose configuration is gone on from."""
    shape = {"head_dim": 0, "rope_dims": 0} if name.startswith("Llama") else INTERLEAVED
    config = preset(name, **{**SMALL, **shape, "num_hidden_layers": 4, "initializer_range": 0.2})
    model = initialise(Decoder(config), 1).eval()
    save_model(model, tmp_path / "whole")
    save_model(remove_blocks(model, [1, 2]), tmp_path / "less", tokenizer_from=tmp_path / "whole")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "less", local_files_only=True,
                                                               dtype=torch.float32)
    ids = torch.randint(0, 71, (2, 40), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted, found = theirs(ids).logits, load_model(tmp_path / "less")(ids)
    assert theirs.config.num_hidden_layers == 2
    assert (wanted - found).abs().max() <= 1e-4 * wanted.std()


@pytest.mark.parametrize("scaling", [
    {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.8},
    {"rope_type": "yarn", "factor": 8.0, "truncate": False, "original_max_position_embeddings": 32},
    {"rope_type": "yarn", "factor": 8.0, "attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0},
    {"rope_type": "yarn", "factor": 1.5, "original_max_position_embeddings": 4096},
    {"rope_type": "linear", "factor": 4.0}, {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 32, "low_freq_factor": 1.0,
     "high_freq_factor": 4.0}], ids=str)
def test_we_read_their_models_under_every_scaling(tmp_path, scaling):
    config = transformers.LlamaConfig(
        vocab_size=71, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, head_dim=12, max_position_embeddings=48, attention_bias=True,
        rope_parameters={"rope_theta": 5000.0, **scaling}, initializer_range=0.3)
    torch.manual_seed(4)
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    ids = torch.randint(0, 71, (2, 100), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted, found = theirs(ids).logits, load_model(tmp_path)(ids)
    assert (wanted - found).abs().max() <= 1e-4 * wanted.std()
