"""Bits per byte of a model that fills blanks, against the samples it is trained on."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer.shards import Loaded
from headwater.train.batches import IGNORE, lay
from headwater.train.blanks import BlankInfilling, Blanks, GlmIds, GlmSettings
from headwater.train.layouts import Piece
from headwater.train.validation import bits_per_byte

IDS = GlmIds(mask=59, smask=60, gmask=61, sop=62, eop=63)


@pytest.mark.parametrize(("changes", "positions"), [
    ({"position": "learned_2d"}, "auto"), ({}, "running"), ({}, "blank")])
def test_bits_per_byte_are_those_of_a_long_blank_after_the_first_token(changes, positions):
    """Documents of several lengths, read in windows and in rows together, say what single samples say."""
    config = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, **changes)
    model = initialise(Decoder(config), 0).eval()
    layout = BlankInfilling(GlmSettings(positions=positions, sentence_share=0, token_share=0.8), IDS,
                            axes=config.position_axes)
    generator, sizes = np.random.default_rng(0), [5, 31, 2, 17]
    documents = [generator.integers(4, 59, size) for size in sizes]
    shards = Loaded(np.concatenate(documents).astype("<u4"), np.cumsum([0, *sizes]), ["en"] * 4, np.array([7] * 4))
    nats = 0.0
    for document in documents:
        for start in range(0, len(document) - 1, 12):
            ids = document[start:start + 13]
            blank = Blanks(np.array([1]), np.array([len(ids) - 1]), IDS.gmask, IGNORE)
            sample = layout._sample(Piece(ids, IGNORE, 0, True), blank)
            batch = lay([[sample]], len(sample.tokens), pad=0, axes=layout.axes)
            with torch.no_grad():
                logits = model(batch.tokens, batch.intervals.dense(), batch.positions)
            nats += float(torch.nn.functional.cross_entropy(logits[0], batch.targets[0], reduction="sum"))
    found = bits_per_byte(model, shards, 12, layout)
    assert found == {"en": pytest.approx(nats / math.log(2) / 28, rel=1e-5)}


def test_a_normalised_head_is_validated_as_it_is_and_not_as_it_was():
    """Fused AdamW changes weights without raising their version."""
    config = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, head="normalized", max_position_embeddings=32)
    head = initialise(Decoder(config), 0).head
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, fused=True)
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        head.train()
        head(hidden).square().sum().backward()
        optimizer.step()
        head.eval()
        with torch.no_grad():
            torch.testing.assert_close(head(hidden), hidden @ F.normalize(head.weight, dim=1).t())
