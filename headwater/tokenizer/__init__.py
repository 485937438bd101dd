"""BPE training with Baichuan's rules, the tokenizer, the chat template, token shards."""

from headwater.tokenizer.chat import ChatTemplate, Message, Rendered
from headwater.tokenizer.vocabulary import Tokenizer

__all__ = ["ChatTemplate", "Message", "Rendered", "Tokenizer"]
