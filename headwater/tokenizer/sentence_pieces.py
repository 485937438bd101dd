"""SentencePiece models: our own, LLaMA's, Baichuan's, ChatGLM2/3's and ChatGLM-6B's, as one class with a few rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sentencepiece

from headwater.errors import InputError
from headwater.tokenizer.fast import Fast, TwoSpeeds, fast_pieces

SPACE_MARK = "▁"  # U+2581, SentencePiece's own sign for a space
NEWLINE, TAB = "<n>", "<|tab|>"
LONGEST_BLANK = 80
_APART = re.compile(f"([{SPACE_MARK}\0])")
_WHITESPACE = re.compile(rf"\n|\t| {{2,{LONGEST_BLANK}}}")


@dataclass(frozen=True)
class Rules:
    """What a family adds around its model."""

    exact: bool = False
    """U+2581 and NUL go through their bytes, so that every text comes back; official tokenizers read the former as
    a space."""
    whitespace_pieces: bool = False
    """ChatGLM-6B: newline, tab and runs of 2 to 80 spaces are pieces of their own."""
    first_id: int = 0
    """The id of the first piece: ChatGLM-6B's first release has 20,000 ids of image tokens before it."""


class SentencePieces(TwoSpeeds):
    """Text to ids and back through a SentencePiece model. Raises `InputError` for bytes that are none."""

    def __init__(self, model: bytes, rules: Rules, *, where: object = None) -> None:
        self.rules, self.model = rules, model
        sentencepiece.set_min_log_level(2)  # it warns of what official models hold (a piece that is NUL)
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
            self._pieces.IdToPiece(list(range(self.count)))  # each is UTF-8
        except (RuntimeError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"not a SentencePiece model, or a truncated one ({error})", where=where,
                             fix="copy the file again, or train the tokenizer again") from None
        if self.count == 0:
            raise InputError("a SentencePiece model without pieces", where=where, fix="copy the file again")
        if rules.whitespace_pieces and self.id_of(NEWLINE) is None:
            raise InputError(f"the model lacks the piece {NEWLINE} of ChatGLM-6B", where=where,
                             fix="take ice_text.model from a release of 2023-04 or later")
        # What is put before a text and taken off again; found by asking, the model's file says it nowhere readable.
        self._dummy_prefix = self._pieces.Normalize("a").startswith(SPACE_MARK)
        self._squeezes = self._pieces.Normalize("a  a").count(SPACE_MARK) == 1 + self._dummy_prefix

    @property
    def count(self) -> int:
        """Pieces in the model."""
        return int(self._pieces.GetPieceSize())

    @property
    def size(self) -> int:
        """Ids, those before the first piece included."""
        return self.rules.first_id + self.count

    @property
    def dummy_prefix(self) -> bool:
        return self._dummy_prefix

    @property
    def normalises(self) -> bool:
        """Whether it changes texts beyond a space before them: NFKC, runs of spaces made one."""
        return self._squeezes or self._pieces.Normalize("Ａ①") != SPACE_MARK * self._dummy_prefix + "Ａ①"

    def id_of(self, piece: str) -> int | None:
        """The id of a piece, None where the model has none of that text."""
        index = self._pieces.PieceToId(piece)
        return self.rules.first_id + int(index) if self._pieces.IdToPiece(index) == piece else None

    def controls(self) -> dict[str, int]:
        """The pieces that no text encodes to."""
        return {self._pieces.IdToPiece(i): self.rules.first_id + i for i in range(self.count)
                if self._pieces.IsControl(i)}

    def named(self, name: str) -> int | None:
        """The id the model itself gives "unk", "bos", "eos" or "pad"."""
        index = int({"unk": self._pieces.unk_id, "bos": self._pieces.bos_id, "eos": self._pieces.eos_id,
                     "pad": self._pieces.pad_id}[name]())
        return None if index < 0 else self.rules.first_id + index

    def piece(self, index: int) -> str:
        index -= self.rules.first_id
        return str(self._pieces.IdToPiece(index)) if 0 <= index < self.count else ""

    def _open_fast(self) -> Fast | None:
        if self.rules.whitespace_pieces or self.rules.first_id:
            return None
        # gigatoken uses a piece that is NUL (InternLM2's), the library never does.
        return fast_pieces(self.model, lambda text: "\0" not in text and self._is_plain(text),
                           lambda texts: self._encode_slowly(texts, 1))

    def _is_plain(self, text: str) -> bool:
        return not self.rules.exact or (SPACE_MARK not in text and "\0" not in text)

    def _prepared(self, text: str) -> str:
        return _WHITESPACE.sub(_as_piece, text) if self.rules.whitespace_pieces else text

    def _encode_slowly(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        if not all(map(self._is_plain, texts)):
            return [self._encode_exactly(text) for text in texts]
        ids: list[list[int]] = self._pieces.Encode(list(texts), num_threads=threads)
        first = self.rules.first_id
        return ids if first == 0 else [[index + first for index in row] for row in ids]

    def _encode_exactly(self, text: str) -> list[int]:
        """SentencePiece reads U+2581 as a space and stops at NUL; both go through their bytes instead."""
        ids: list[int] = []
        for stretch in _APART.split(text):
            if stretch in (SPACE_MARK, "\0"):
                ids += [self._byte_ids[byte] for byte in stretch.encode()]
            elif stretch:
                ids += self._pieces.Encode(stretch)
        return ids

    @cached_property
    def _byte_ids(self) -> list[int]:
        return [self._pieces.PieceToId(f"<0x{byte:02X}>") for byte in range(256)]

    @cached_property
    def table(self) -> list[bytes]:
        """What each id stands for in a text; control pieces stand for nothing."""
        pieces = self._pieces
        table = [b"" if pieces.IsControl(i) or pieces.IsUnknown(i) or pieces.IsUnused(i)
                 else pieces.IdToPiece(i).replace(SPACE_MARK, " ").encode() for i in range(self.count)]
        for byte, index in enumerate(self._byte_ids):
            if pieces.IsByte(index):
                table[index] = bytes([byte])
        if self.rules.whitespace_pieces:
            spelled = {NEWLINE: b"\n", TAB: b"\t", **{_blank(n): b" " * n for n in range(2, LONGEST_BLANK + 1)}}
            for piece, text in spelled.items():
                index = pieces.PieceToId(piece)
                if pieces.IdToPiece(index) == piece:
                    table[index] = text
        return [b""] * self.rules.first_id + table

    def opening_spaces(self, ids: Sequence[int]) -> int:
        """Spaces at the start of the ids' text that encoding put there, or squeezes, as the library's decoder does."""
        if not self._dummy_prefix and not self._squeezes:
            return 0
        spaces = 0
        for index in ids:
            text = self.table[index] if 0 <= index < self.size else b""
            if not text:
                continue
            if not self.piece(index).startswith(SPACE_MARK):
                break
            spaces += 1
            if text != b" " or not self._squeezes:
                break
        return spaces


def _blank(length: int) -> str:
    return f"<|blank_{length}|>"


def _as_piece(match: re.Match[str]) -> str:
    run = match.group()
    return {"\n": NEWLINE, "\t": TAB}.get(run) or _blank(len(run))
