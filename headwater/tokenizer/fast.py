"""Encoding through gigatoken where it gives the very ids of the library that a model was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.tokenizer.packed import Packed
from headwater.tokenizer.piece_model import CONTROL, NORMAL, Piece, read_pieces, renamed

_VEIL = "\ufdd0"
"""Around the names of control pieces, which gigatoken would find in a text; a noncharacter."""
_UNKNOWN = 2
_SAMPLES = ("", " ", "  a", "a  b ", "\n\n \t\t x\r\n", "Hello, world! it's 3.14", "河水流过，2024年。",
            "臺灣 𠮷野家 👩‍👩‍👧 \u2028\ufeff", "ﬁ e\u0301 é １２３ Ａ \u3000", "\x01\x7f\u00ad\u200b",
            "aaaaaaa ------- =====", "    def f(x):\n        return x")


class FastPieces:
    """A SentencePiece byte-pair model in gigatoken: `encode(texts, parallel)` gives their ids."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, model: bytes, reference: Callable[[list[str]], list[list[int]]]) -> FastPieces | None:
        """None without gigatoken, for a model that it does not read, and for one on which it differs from `reference`
        in a text of the sample (every piece that is no plain text among them)."""
        try:
            import gigatoken
        except ImportError:
            return None
        pieces = read_pieces(model)
        hidden = {piece.text for piece in pieces if piece.kind in (CONTROL, _UNKNOWN)}
        try:
            veiled = renamed(model, lambda text: f"{_VEIL}{text}{_VEIL}" if text in hidden else text)
            found = cls(gigatoken.Tokenizer.from_sentencepiece(veiled))
            texts = list(_sample(pieces))
            same = [list(row) for row in found.encode(texts, parallel=False).rows()] == reference(texts)
        except (ValueError, RuntimeError, NotImplementedError):
            return None
        return found if same else None

    @staticmethod
    def takes(text: str) -> bool:
        """Whether a text holds nothing that only the other library knows about."""
        return _VEIL not in text

    def encode(self, texts: list[str], *, parallel: bool) -> Packed:
        """The ids of many texts. Identical whether or not all cores work on them."""
        layout = self._tokenizer.encode_batch(texts, parallel=parallel).layout
        ids: NDArray[np.uint32] = np.asarray(layout.content.data, np.uint32)
        return Packed(ids, np.asarray(layout.offsets.data, np.int64))


def _sample(pieces: list[Piece]) -> Iterable[str]:
    yield from _SAMPLES
    odd = [piece.text for piece in pieces if piece.kind != NORMAL and not piece.text.startswith("<0x")]
    yield from (f"a{text} {text}b" for text in odd)
    yield from (piece.text.replace("▁", " ") for piece in pieces[::97])
