"""Engines whose models say anything."""

from __future__ import annotations

from headwater.generate import Engine
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer import Tokenizer


def random_engine(tokenizer: Tokenizer, rows: int = 10) -> Engine:
    config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=512,
                         initializer_range=0.3)
    return Engine(initialise(Decoder(config), seed=5).eval(), tokenizer, max_batch=rows)
