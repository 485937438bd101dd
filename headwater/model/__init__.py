"""One decoder, its parts, its checkpoints."""

from headwater.model.cache import KVCache
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder, initialise

__all__ = ["Decoder", "KVCache", "ModelConfig", "initialise"]
