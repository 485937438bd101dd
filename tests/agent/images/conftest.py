"""A CogView 3 of random weights, small enough for a test, saved as diffusers saves one."""

from __future__ import annotations

import io

import pytest
import torch

SIZE, SCALE, PATCH = 32, 4, 2
"""Pixels of a side; how much smaller the transformer's input is, and its patches."""
TEXTS = ["a river runs to the sea under a red sky", "a small boat on a wide lake", "a valley below white mountains"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder; its tokenizer is a SentencePiece model alone, as in the published checkpoint."""
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from diffusers import AutoencoderKL, CogVideoXDDIMScheduler, CogView3PlusPipeline, CogView3PlusTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    folder = tmp_path_factory.mktemp("cogview")
    pieces = folder / "spiece.model"
    pieces.write_bytes(_sentence_pieces())
    tokenizer = T5Tokenizer.from_pretrained(str(folder))
    torch.manual_seed(0)
    text_encoder = T5EncoderModel(T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=1,
                                           num_heads=4))
    transformer = CogView3PlusTransformer2DModel(
        patch_size=PATCH, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=2,
        text_embed_dim=32, time_embed_dim=8, condition_dim=2, pos_embed_max_size=8, sample_size=SIZE // SCALE)
    vae = AutoencoderKL(block_out_channels=[16, 16, 16], down_block_types=["DownEncoderBlock2D"] * 3,
                        up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=4, norm_num_groups=4, sample_size=SIZE)
    CogView3PlusPipeline(tokenizer, text_encoder, vae, transformer, CogVideoXDDIMScheduler()).save_pretrained(
        folder / "whole")
    (folder / "whole" / "tokenizer" / "tokenizer.json").unlink()
    pieces.rename(folder / "whole" / "tokenizer" / "spiece.model")
    return folder / "whole"


def _sentence_pieces() -> bytes:
    """With T5's ids of padding, end and the unknown."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type="unigram", vocab_size=60, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    return model.getvalue()
