from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwater.generate import Engine
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def make_model(trained: Tokenizer) -> Callable[..., Decoder]:
    """Random models far enough from uniform that no two tokens nearly tie."""
    def make(*, position: str = "rope", padding: int = 12, prefix_ids: tuple[int, ...] = ()) -> Decoder:
        config = ModelConfig(vocab_size=trained.vocab_size + padding, hidden_size=32, intermediate_size=64,
                             num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                             max_position_embeddings=96, position=position, prefix_ids=prefix_ids,
                             initializer_range=0.3)
        return initialise(Decoder(config), seed=3).eval()

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., Decoder]) -> Decoder:
    return make_model()


@pytest.fixture
def engine(model: Decoder, trained: Tokenizer) -> Engine:
    return Engine(model, trained, max_batch=4)


@pytest.fixture(scope="session")
def prompts(trained: Tokenizer) -> list[list[int]]:
    """Eleven prompts of different lengths, more than an engine here has slots."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(8, trained.vocab_size, (length,), generator=generator).tolist()
            for length in (1, 2, 3, 5, 8, 13, 21, 34, 4, 7, 30)]
