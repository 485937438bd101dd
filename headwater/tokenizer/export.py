"""A SentencePiece byte-pair model as the `tokenizer.json` of the tokenizers library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from headwater.errors import InputError
from headwater.tokenizer.piece_model import BYTE, CONTROL, NORMAL, USER_DEFINED, read_pieces

_SPACE_MARK, _START = "▁", "<s>"
_UNKNOWN = 2


def tokenizer_json(model: bytes) -> str:
    """The same ids for every text that holds no U+2581 (which both files read as a space, and `Tokenizer` does not) and
    spells no special token (which the library finds in a text unless `encode_special_tokens` is set).

    For models that normalise nothing and put no space before a text. Both libraries join, of all neighbours whose union
    is a piece, those that make the piece learnt first, the leftmost of equal ones; here that order stands as a list of
    merges, one for every way to cut a piece in two. Raises `InputError` for a model without byte fallback.
    """
    pieces = read_pieces(model)
    kinds = [piece.kind for piece in pieces]
    if kinds.count(BYTE) != 256:
        raise InputError("the model has no byte pieces", fix="train it with byte fallback")
    unknown = next(piece.text for piece in pieces if piece.kind == _UNKNOWN)
    special = {CONTROL: True, USER_DEFINED: False, _UNKNOWN: True}
    added = [{"id": index, "content": piece.text, "special": special[piece.kind], "normalized": False,
              "single_word": False, "lstrip": False, "rstrip": False}
             for index, piece in enumerate(pieces) if piece.kind in special]
    ranked = [piece.text for piece in sorted((piece for piece in pieces if piece.kind == NORMAL),
                                             key=lambda piece: -piece.score)]
    values: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE_MARK},
        "pre_tokenizer": None, "post_processor": _opened_by(added),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": _SPACE_MARK}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {piece.text: index for index, piece in enumerate(pieces)},
                  "merges": list(_merges(ranked))}}
    return json.dumps(values, ensure_ascii=False, indent=1)


def _opened_by(added: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Puts `<s>` before a text where special tokens are asked for."""
    start = next((token["id"] for token in added if token["content"] == _START), None)
    if start is None:
        return None
    mark = {"SpecialToken": {"id": _START, "type_id": 0}}
    one, other = ({"Sequence": {"id": which, "type_id": 0}} for which in "AB")
    return {"type": "TemplateProcessing", "single": [mark, one], "pair": [mark, one, mark, other],
            "special_tokens": {_START: {"id": _START, "ids": [start], "tokens": [_START]}}}


def _merges(ranked: list[str]) -> Iterator[list[str]]:
    known = set(ranked)
    for piece in ranked:
        for cut in range(len(piece) - 1, 0, -1):
            if piece[:cut] in known and piece[cut:] in known:
                yield [piece[:cut], piece[cut:]]
