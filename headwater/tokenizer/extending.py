"""A SentencePiece vocabulary with the pieces of another one added behind its own."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from headwater.errors import InputError
from headwater.tokenizer.piece_model import NORMAL, Piece, read_pieces, with_pieces

Wanted = Literal["chinese", "all"]
_CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
"""Han, and the punctuation and full-width forms that only Chinese text has."""


class Extended(NamedTuple):
    """The larger model, and the added pieces' texts in id order (from the first id after the old ones)."""

    model: bytes
    added: list[str]


def extended(base: bytes, other: bytes, wanted: Wanted = "chinese") -> Extended:
    """`base` with the plain pieces of `other` that it lacks: those with a Chinese character or sign, or all.

    Old pieces keep their ids and their rank; new ones are joined after all old ones, in their own order. So a text
    without a new piece is encoded as before. Raises `InputError` where nothing is new.
    """
    pieces = read_pieces(base)
    known = {piece.text for piece in pieces}
    new = [piece for piece in _ranked(read_pieces(other)) if piece.text not in known
           and (wanted == "all" or _CHINESE.search(piece.text))]
    if not new:
        raise InputError("the other vocabulary has no piece that this one lacks", fix="give another one, or pieces=all")
    lowest = min(piece.score for piece in pieces)
    added = [Piece(piece.text, lowest - 1 - rank, NORMAL) for rank, piece in enumerate(new)]
    return Extended(with_pieces(base, added), [piece.text for piece in added])


def _ranked(pieces: list[Piece]) -> list[Piece]:
    return sorted((piece for piece in pieces if piece.kind == NORMAL), key=lambda piece: -piece.score)
