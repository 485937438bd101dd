"""BPE training with Baichuan's rules, the tokenizers and chat templates of every family, token shards."""

from headwater.tokenizer.chat import ChatTemplate, Message, Rendered
from headwater.tokenizer.vocabulary import Tokenizer

__all__ = ["ChatTemplate", "Message", "Rendered", "Tokenizer"]
