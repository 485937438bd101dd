"""What belongs to which part of a model folder."""

from __future__ import annotations

from pathlib import Path

SENTENCEPIECE = "tokenizer.model"
ICE_TEXT = "ice_text.model"
TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"

VOCABULARIES = (SENTENCEPIECE, ICE_TEXT, TOKENIZER_JSON)
"""Files that hold pieces: a SentencePiece model or tiktoken ranks, ChatGLM-6B's model, the `tokenizers` library's."""

# generation_config.json holds the role ids of Baichuan's chat models.
_BESIDE = ("vocab.json", "merges.txt", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json",
           "chat_template.jinja", GENERATION_CONFIG)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a folder that make its tokenizer; never code. None where it has no tokenizer."""
    return [path for name in (*VOCABULARIES, *_BESIDE) if (path := Path(folder) / name).is_file()]


def code_files(folder: Path) -> list[Path]:
    """The modelling code that official remote-code folders carry; copied for others, never run here."""
    return sorted(Path(folder).glob("*.py"))
