"""What a GGUF file says of its tokenizer: the ids, how a text is cut, what ends it, the chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headwater.errors import InputError
from headwater.folders import SENTENCEPIECE, TOKENIZER_JSON, model_folder
from headwater.progress import say
from headwater.tokenizer.byte_pairs import BytePairs
from headwater.tokenizer.facts import Facts
from headwater.tokenizer.identity import Codec, read_vocabulary
from headwater.tokenizer.piece_model import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, is_unigram, read_pieces
from headwater.tokenizer.ranks import CL100K_SPLIT, GPT2_SPLIT, O200K_SPLIT, QWEN_SPLIT
from headwater.tokenizer.sentence_pieces import SPACE_MARK, Rules, SentencePieces
from headwater.tokenizer.vocabulary import Tokenizer

_PREFIX = "tokenizer.ggml."
_CUTS = {(GPT2_SPLIT, False): "gpt-2", (QWEN_SPLIT, False): "qwen2", (QWEN_SPLIT, True): "qwen2",
         (CL100K_SPLIT, False): "chatglm-bpe", (CL100K_SPLIT, True): "glm4", (O200K_SPLIT, False): "gpt-4o",
         (O200K_SPLIT, True): "gpt-4o"}
"""llama.cpp's names of the ways to cut a text, by the pattern and whether a word that is a piece stays whole."""

Row = tuple[str, float, int]
"""A token's text, score and type, which GGUF numbers as SentencePiece does."""


def gguf_fields(folder: Path, size: int) -> dict[str, Any]:
    """The fields for a model of `size` ids. Raises `InputError` for a tokenizer that llama.cpp has no form for."""
    folder = model_folder(folder)
    vocabulary, facts = read_vocabulary(folder), Facts.of(folder)
    tokenizer, codec = Tokenizer(vocabulary), _pieces_beside(vocabulary.codec, folder)
    if isinstance(codec, SentencePieces):
        rows, fields = _sentence_pieces(codec, folder)
    elif isinstance(codec, BytePairs):
        rows, fields = _byte_pairs(codec, folder)
    else:
        raise InputError(f"llama.cpp has no form for a tokenizer of kind {type(codec).__name__}", where=folder)
    for name, index in tokenizer.specials.items():
        rows[index] = (name, rows.get(index, ("", 0.0, CONTROL))[1], CONTROL)
    # Ids that no text gives: gaps, and rows that only fill the embedding up.
    filled = [rows.get(index, (f"[PAD{index}]", 0.0, UNUSED)) for index in range(size)]
    texts, scores, kinds = (list(column) for column in zip(*filled, strict=True))
    twice = len(texts) - len(set(texts))
    if twice:
        raise InputError(f"{twice} of the tokens spelled as another, which llama.cpp does not take", where=folder,
                         fix="give the official tokenizer files of the model")
    fields |= {"tokens": texts, "token_type": kinds, **_roles(tokenizer, facts)}
    if isinstance(codec, SentencePieces):
        fields["scores"] = scores
    template = facts.chat_template or ("" if isinstance(vocabulary.template, str) else tokenizer.chat.jinja)
    return {**{_PREFIX + name: value for name, value in fields.items()},
            **({"tokenizer.chat_template": template} if template else {})}


def _pieces_beside(codec: Codec, folder: Path) -> Codec:
    """Where a tokenizer.json spells a SentencePiece model that stands beside it, that model."""
    path = folder / SENTENCEPIECE
    if not (isinstance(codec, BytePairs) and path.is_file() and codec.as_json()["model"].get("byte_fallback")):
        return codec
    pieces = SentencePieces(path.read_bytes(), Rules(), where=path)
    if any(codec.piece(index) != pieces.piece(index) for index in range(pieces.size)):
        raise InputError(f"{SENTENCEPIECE} and {TOKENIZER_JSON} hold different pieces", where=folder,
                         fix="put the tokenizer's files of one model together")
    return pieces


def _sentence_pieces(codec: SentencePieces, folder: Path) -> tuple[dict[int, Row], dict[str, Any]]:
    pieces = read_pieces(codec.model)
    lacks = ("the bytes that stand for rare characters" if sum(piece.kind == BYTE for piece in pieces) != 256 else
             "" if not is_unigram(codec.model) else "a byte-pair model: it is a unigram one")
    if lacks or codec.rules.whitespace_pieces or codec.rules.first_id:
        raise InputError(f"llama.cpp has no form for this SentencePiece model: it lacks {lacks or 'plain ids'}",
                         where=folder, fix="serve the model with 'headwater serve'")
    if codec.normalises:
        say("the tokenizer rewrites texts before it cuts them (full-width letters, runs of spaces), llama.cpp does "
            "not: such texts get other ids there")
    # Words found before a text is cut are looked for with their spaces.
    rows = {index: (piece.text.replace(SPACE_MARK, " ") if piece.kind == USER_DEFINED else piece.text, piece.score,
                    piece.kind) for index, piece in enumerate(pieces)}
    return rows, {"model": "llama", "pre": "default", "add_space_prefix": codec.dummy_prefix}


def _byte_pairs(codec: BytePairs, folder: Path) -> tuple[dict[int, Row], dict[str, Any]]:
    values = codec.as_json()
    model = values["model"]
    cut = _CUTS.get((_split(values["pre_tokenizer"]) or "", bool(model.get("ignore_merges"))))
    if cut is None or model.get("byte_fallback"):
        raise InputError("llama.cpp has no name for how this tokenizer cuts a text", where=folder,
                         fix="known are the ways of GPT-2, cl100k (GLM-4, LLaMA 3), Qwen and o200k; of a LLaMA give "
                             "tokenizer.model beside tokenizer.json")
    if values["normalizer"] is not None or codec.composed:
        say("the tokenizer rewrites texts before it cuts them (Unicode's NFC), llama.cpp does not: texts with "
            "combining marks get other ids there")
    rows = {index: (piece, 0.0, NORMAL) for piece, index in model["vocab"].items()}
    rows |= {token["id"]: (token["content"], 0.0, CONTROL if token["special"] else USER_DEFINED)
             for token in values["added_tokens"]}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return rows, {"model": "gpt2", "pre": cut, "merges": merges}


def _split(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The pattern by which words are cut, of the forms in which byte-level tokenizers say it."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return GPT2_SPLIT
        case {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}:
            return str(pattern)
    return None


def _roles(tokenizer: Tokenizer, facts: Facts) -> dict[str, Any]:
    """Which ids begin, end and fill up; what ends a turn is "eot", what asks for a function's answer "eom"."""
    ids = {"bos": tokenizer.bos, "eos": tokenizer.eos, "padding": tokenizer.pad}
    try:
        chat = tokenizer.chat
    except InputError:
        opens = tokenizer.bos != tokenizer.eos
    else:
        ends = [index for index in chat.stop_ids if index != tokenizer.eos]
        ids |= dict(zip(("eot", "eom"), ends))
        opens = chat.render([{"role": "user", "content": "a"}], add_generation_prompt=True).ids[0] == tokenizer.bos
    said = facts.tokenizer.get("add_bos_token")
    return {**{f"{role}_token_id": index for role, index in ids.items()}, "add_eos_token": False,
            "add_bos_token": said if isinstance(said, bool) else opens}
