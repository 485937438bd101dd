"""Encoding through gigatoken where it gives the very ids of the library that a vocabulary was made for."""

from __future__ import annotations

import sys
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.tokenizer.packed import Packed, pack, replaced
from headwater.tokenizer.piece_model import CONTROL, NORMAL, Piece, read_pieces, renamed

MANY = 20_000
"""Characters from which the quick encoder, whose start takes up to a second, is asked."""
Reference = Callable[[Sequence[str]], list[list[int]]]
_VEIL = "\ufdd0"
"""Around the names of control pieces, which gigatoken would find in a text; a noncharacter."""
_UNKNOWN = 2
_SAMPLES = ("", " ", "  a", "a  b ", "\n\n \t\t x\r\n", "Hello, world! it's 3.14", "河水流过，2024年。",
            "臺灣 𠮷野家 👩‍👩‍👧 \u2028\ufeff", "ﬁ e\u0301 é １２３ Ａ \u3000", "\x01\x7f\u00ad\u200b",
            "aaaaaaa ------- =====", "    def f(x):\n        return x", "▁a ▁▁ b▁")
_CUT_SAMPLES = (
    "I'm we'LL they'Re x'd Y'D it'ſ 'sound 'ſ ''ve't’s", "١٢٣٤٥ १२३४ 1234567 ²³½ Ⅷ三四", "a\r\n\r\n\n\r b\r\r\n \n ",
    f"x{' ' * 90}y{' ' * 300}\n{' ' * 17}", "\t\t \u3000\u3000\xa0\x85\x0b\x0c\x1c \u2003 z \u200a", "\0 a\0\0",
    "e\u0301\u0302\u0327 ก็ำ कि\u093c \u0301a ʰaª ǅa", "人工智能AI模型v2用Python写AaBbCC", "🇨🇳👍🏽 ❤️‍🔥1️⃣ 👩‍👩‍👧'S",
    "https://a.b/c//d!?\n/\n//\r\n$$...\r\n-_-", "HTTPServer camelCase ÉTÉété ßẞ İıIi", "<|endoftext|><|im_start|>")


class Fast:
    """A vocabulary in gigatoken, for the texts that it `takes`."""

    def __init__(self, tokenizer: Any, takes: Callable[[str], bool]) -> None:
        self._tokenizer, self.takes = tokenizer, takes

    def encode(self, texts: list[str], *, parallel: bool) -> Packed:
        """The ids of many texts. Identical whether or not all cores work on them."""
        layout = self._tokenizer.encode_batch(texts, parallel=parallel).layout
        ids: NDArray[np.uint32] = np.asarray(layout.content.data, np.uint32)
        return Packed(ids, np.asarray(layout.offsets.data, np.int64))


class TwoSpeeds(ABC):
    """Encodes few texts with the library that the vocabulary was made for, and many with gigatoken."""

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        if sum(map(len, texts)) >= MANY:
            return [row.tolist() for row in self.encode_packed(texts, threads).rows()]
        return self._encode_slowly([self._prepared(text) for text in texts], threads)

    def encode_packed(self, texts: Sequence[str], threads: int) -> Packed:
        wanted = [self._prepared(text) for text in texts]
        fast = self._fast
        if fast is None:
            return pack(self._encode_slowly(wanted, threads))
        slow = {place: text for place, text in enumerate(wanted) if not fast.takes(text)}
        if not slow:
            return fast.encode(wanted, parallel=threads > 1)
        for place in slow:
            wanted[place] = ""
        rows = pack(self._encode_slowly(list(slow.values()), threads)).rows()
        return replaced(fast.encode(wanted, parallel=threads > 1), slow, rows)

    @cached_property
    def _fast(self) -> Fast | None:
        return self._open_fast()

    def _prepared(self, text: str) -> str:
        """What both libraries are given of a text."""
        return text

    @abstractmethod
    def _encode_slowly(self, texts: Sequence[str], threads: int) -> list[list[int]]: ...

    @abstractmethod
    def _open_fast(self) -> Fast | None:
        """The quick encoder; None where there is none that gives the same ids."""


def fast_pieces(model: bytes, takes: Callable[[str], bool], reference: Reference) -> Fast | None:
    """A SentencePiece byte-pair model in gigatoken. None without gigatoken, for a model that it does not read, for one
    whose pieces leave open what is joined first, and for one on which it differs from `reference` in a text of a sample
    (every piece that is no plain text among them)."""
    pieces = read_pieces(model)
    if not _is_ordered(pieces):
        return None
    hidden = {piece.text for piece in pieces if piece.kind in (CONTROL, _UNKNOWN)}

    def open_model(library: Any) -> Any:
        return library.from_sentencepiece(renamed(model, lambda text: f"{_VEIL}{text}{_VEIL}" if text in hidden
                                                  else text))

    return _checked(open_model, lambda text: _VEIL not in text and takes(text), _pieces_sample(pieces), reference)


def _is_ordered(pieces: list[Piece]) -> bool:
    """Whether joined pieces of one score have no character in common, and each has two halves that are pieces. Of equal
    scores the libraries join different ones first; SentencePiece joins characters that are no pieces, gigatoken only
    pieces. Runs of one sign are the same whichever of them is joined first."""
    known = {piece.text for piece in pieces}
    joined = [piece for piece in pieces if piece.kind == NORMAL and len(set(piece.text)) > 1]
    alike: dict[float, list[set[str]]] = {}
    for piece in joined:
        alike.setdefault(piece.score, []).append(set(piece.text))
    return all(sum(map(len, letters)) == len(set().union(*letters)) for letters in alike.values()) and all(
        any(piece.text[:cut] in known and piece.text[cut:] in known for cut in range(1, len(piece.text)))
        for piece in joined)


def fast_bytes(library_json: str, texts: Iterable[str], reference: Reference) -> Fast | None:
    """A `tokenizer.json` without special tokens in gigatoken. None as above; the sample here holds nearly every
    character there is, as those between which a text is cut are told apart by Unicode's tables."""
    return _checked(lambda library: library.from_json(library_json), _is_known,
                    [*_SAMPLES, *_CUT_SAMPLES, *texts, *_characters()], reference)


def _checked(opened: Callable[[Any], Any], takes: Callable[[str], bool], sample: Iterable[str],
             reference: Reference) -> Fast | None:
    try:
        import awkward  # noqa: F401 - gigatoken takes a stop while it imports this for its absence, and answers in lists
        import gigatoken
    except ImportError:
        return None
    try:
        found = Fast(opened(gigatoken.Tokenizer), takes)
        texts = [text for text in sample if takes(text)]
        same = [row.tolist() for row in found.encode(texts, parallel=False).rows()] == reference(texts)
    except (ValueError, RuntimeError, NotImplementedError, AssertionError):  # what gigatoken raises
        return None
    return found if same else None


def _pieces_sample(pieces: list[Piece]) -> Iterator[str]:
    yield from _SAMPLES
    odd = [piece.text for piece in pieces if piece.kind != NORMAL and not piece.text.startswith("<0x")]
    yield from (f"a{text} {text}b" for text in odd)
    yield from (piece.text.replace("▁", " ") for piece in pieces[::97])


def _characters() -> Iterator[str]:
    """Every character that has its own place in Unicode's tables and some of the large uniform blocks, where letters,
    numbers, marks and capitals are cut in different ways."""
    for start in range(0, sys.maxunicode + 1, 256):
        kinds = [(chr(code), unicodedata.category(chr(code))) for code in range(start, start + 256)]
        kept = [letter for letter, kind in kinds if kind not in ("Cn", "Cs", "Lo", "Co")
                or (kind in ("Lo", "Co") and ord(letter) % 64 == 0)]
        if kept:
            yield "".join(f"{letter}'s {letter}1234 ab{letter}ab" for letter in kept)


def _is_known(text: str) -> bool:
    """Whether Python's Unicode knows every character. Libraries follow Unicode at their own pace, and what is a letter
    to one is none to the other: gigatoken 0.10 has the tables of Unicode 17, tokenizers 0.23 and tiktoken 0.14 those
    of 16."""
    return text.isascii() or not _unassigned()[np.frombuffer(text.encode("utf-32-le"), np.uint32)].any()


@lru_cache(maxsize=1)
def _unassigned() -> NDArray[np.bool_]:
    return np.array([unicodedata.category(chr(code)) == "Cn" for code in range(sys.maxunicode + 1)])
