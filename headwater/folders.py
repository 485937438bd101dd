"""What belongs to which part of a model folder."""

from __future__ import annotations

import os
from pathlib import Path

from headwater.artifacts import read_json
from headwater.errors import CheckpointError, InputError

SENTENCEPIECE = "tokenizer.model"
ICE_TEXT = "ice_text.model"
TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
CONFIG = "config.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

MOST_ADAPTERS = 16
"""That may have been learned one beside the other: more are a circle."""

RANKS, GGUF = ".tiktoken", ".gguf"
MERGES = {"encoder.json": "vocab.bpe", "vocab.json": "merges.txt"}
"""Ids of pieces and their merges, under GPT-2's own names and those of the transformers library."""

VOCABULARIES = (SENTENCEPIECE, ICE_TEXT, TOKENIZER_JSON)
"""Files that hold pieces: a SentencePiece model or tiktoken ranks, ChatGLM-6B's model, the `tokenizers` library's."""

# generation_config.json holds the role ids of Baichuan's chat models, and what ends an answer of others.
_BESIDE = (*(name for pair in MERGES.items() for name in pair), TOKENIZER_CONFIG, "special_tokens_map.json",
           "added_tokens.json", CHAT_TEMPLATE, GENERATION_CONFIG)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds what was learned beside a model, and not a model."""
    return (Path(folder) / ADAPTER_CONFIG).is_file() and not (Path(folder) / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter was learned beside, which its configuration names by the way from the
    adapter to it. Raises `CheckpointError` where it is not there."""
    path = Path(folder) / ADAPTER_CONFIG
    values, fix = read_json(path), "write the model's folder into base_model_name_or_path"
    if not isinstance(values, dict):
        raise CheckpointError(f"expected an object, found {type(values).__name__}", where=path,
                              fix="copy the adapter again")
    said = values.get("base_model_name_or_path")
    if said is None or said == "":
        raise CheckpointError("the adapter does not name its model", where=path, fix=fix)
    if not isinstance(said, str):
        raise CheckpointError(f"base_model_name_or_path is {said!r}, not the adapter's model", where=path, fix=fix)
    tried = [Path(os.path.normpath(base)) for base in (path.parent / said, Path(said))]
    for base in tried:
        if (base / CONFIG).is_file() or is_adapter(base):
            return base
    places = " or ".join(dict.fromkeys(os.path.abspath(base) for base in tried))
    raise CheckpointError(f"the adapter's model is not at {said!r}: no model in {places}", where=path,
                          fix="write the way to it into base_model_name_or_path; or give the model's folder as MODEL "
                              f"and this one beside it: chat MODEL adapter={folder} or serve MODEL adapters.X={folder}")


def model_folder(folder: Path) -> Path:
    """The folder with the configuration and the tokenizer of a model: of an adapter's folder its model's. Raises
    `CheckpointError`."""
    found = Path(folder)
    for _ in range(MOST_ADAPTERS):
        if not is_adapter(found):
            return found
        found = base_of(found)
    raise CheckpointError(f"more than {MOST_ADAPTERS} adapters, each beside another", where=folder,
                          fix="correct base_model_name_or_path in its adapter_config.json")


def rank_files(folder: Path) -> list[Path]:
    """Files of tiktoken ranks under their own names (qwen.tiktoken)."""
    return sorted(path for path in Path(folder).glob(f"*{RANKS}") if path.is_file())


def tokenizer_files(path: Path) -> list[Path]:
    """The files of a folder that make its tokenizer, or one file and what belongs to it; never code. None where a
    folder has no tokenizer. Raises `InputError` for a file that would not be found again by its name."""
    path = model_folder(path)
    folder = path if path.is_dir() else path.parent
    beside = [folder / name for name in _BESIDE if (folder / name).is_file()]
    if not path.is_file():
        return [folder / name for name in VOCABULARIES if (folder / name).is_file()] + rank_files(folder) + beside
    if path.name not in (*VOCABULARIES, *_BESIDE) and path.suffix != RANKS:
        raise InputError("a tokenizer of this name would not be found in a model folder", where=path,
                         fix=f"name it {' or '.join(VOCABULARIES)}, whichever it is")
    return [path, *(other for other in beside if other != path)]


def code_files(folder: Path) -> list[Path]:
    """The modelling code that official remote-code folders carry; copied for others, never run here."""
    return sorted(Path(folder).glob("*.py"))
