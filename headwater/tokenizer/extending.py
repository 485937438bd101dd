"""A SentencePiece vocabulary with the pieces of another one added behind its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from headwater.errors import InputError
from headwater.tokenizer.piece_model import NORMAL, Piece, read_pieces, with_pieces

Wanted = Literal["chinese", "all"]
_CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
"""Han, and the punctuation and full-width forms that only Chinese text has."""


_UNLEARNT = -1e8
"""Below it are scores that were set and not learnt: LLaMA's runs of spaces have -1e9, where a 32-bit number no longer
tells one rank from the next."""


class Extended(NamedTuple):
    """The larger model, and the added pieces' texts in id order (from the first id after the old ones)."""

    model: bytes
    added: list[str]


def extended(base: bytes, other: bytes, wanted: Wanted = "chinese") -> Extended:
    """`base` with the plain pieces of `other` that it lacks: those with a Chinese character or sign, or all. A piece
    that no two others make is left out.

    Old pieces keep their ids and their rank; new ones are joined after all that were learnt, in their own order. So a
    text without a new piece is encoded as before. Raises `InputError` where nothing is new.
    """
    pieces = read_pieces(base)
    known = {piece.text for piece in pieces}
    new = [piece for piece in _ranked(read_pieces(other)) if piece.text not in known
           and (wanted == "all" or _CHINESE.search(piece.text))]
    if not new:
        raise InputError("the other vocabulary has no piece that this one lacks", fix="give another one, or pieces=all")
    lowest = min(piece.score for piece in pieces if piece.score > _UNLEARNT)
    added = [Piece(piece.text, lowest - 1 - rank, NORMAL) for rank, piece in enumerate(_joinable(new, known))]
    return Extended(with_pieces(base, added), [piece.text for piece in added])


def _joinable(new: list[Piece], known: set[str]) -> Iterator[Piece]:
    """Those of one character, and those that two pieces make."""
    known = known | {piece.text for piece in new if len(piece.text) == 1}
    for piece in new:
        if len(piece.text) == 1 or any(piece.text[:cut] in known and piece.text[cut:] in known
                                       for cut in range(1, len(piece.text))):
            known.add(piece.text)
            yield piece


def _ranked(pieces: list[Piece]) -> list[Piece]:
    return sorted((piece for piece in pieces if piece.kind == NORMAL), key=lambda piece: -piece.score)
