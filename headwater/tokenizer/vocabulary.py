"""The tokenizer: text to ids and back, without loss, specials kept apart from text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import sentencepiece

from headwater.errors import InputError
from headwater.tokenizer.chat import SPECIALS, ChatTemplate

_SPACE_MARK = "▁"  # U+2581, SentencePiece's own sign for a space
_MODEL = "tokenizer.model"


class Tokenizer:
    """A SentencePiece BPE model with the chat's special tokens as control pieces.

    Encoding never gives a special id and `decode(encode(text)) == text` for every text that is valid Unicode.
    """

    def __init__(self, model: bytes, *, where: object = None) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except (RuntimeError, OSError) as error:
            raise InputError(f"not a SentencePiece model ({error})", where=where,
                             fix="train the tokenizer again") from None
        self.specials = {name: self._pieces.PieceToId(name) for name in SPECIALS}
        absent = [name for name, index in self.specials.items() if not self._pieces.IsControl(index)]
        if absent:
            raise InputError(f"the model lacks the control pieces {', '.join(absent)}", where=where,
                             fix="use a tokenizer trained by this package")
        self.bos, self.eos, self.pad = self._pieces.bos_id(), self._pieces.eos_id(), self._pieces.pad_id()

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """From a tokenizer or model folder. Raises `InputError`."""
        path = Path(folder) / _MODEL
        try:
            return cls(path.read_bytes(), where=path)
        except FileNotFoundError:
            raise InputError("no tokenizer here: tokenizer.model is missing", where=folder,
                             fix="give a tokenizer or model folder") from None

    def to_bytes(self) -> bytes:
        """The SentencePiece model, as `tokenizer.model` holds it."""
        return bytes(self._pieces.serialized_model_proto())

    @property
    def vocab_size(self) -> int:
        return int(self._pieces.GetPieceSize())

    def piece(self, index: int) -> str:
        return str(self._pieces.IdToPiece(index))

    @cached_property
    def chat(self) -> ChatTemplate:
        return ChatTemplate(self)

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Raises `InputError` for lone surrogates, which no Unicode text holds."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InputError(f"not valid Unicode: {error}",
                                 fix="decode the text properly, or replace the lone surrogate") from None
        if not any(_SPACE_MARK in text or "\0" in text for text in texts):
            return self._pieces.Encode(list(texts), num_threads=threads)
        return [self._encode_exactly(text) for text in texts]

    def _encode_exactly(self, text: str) -> list[int]:
        """SentencePiece reads U+2581 as a space and stops at NUL; both go through their bytes instead."""
        ids: list[int] = []
        plain = ""
        for character in [*text, None]:
            if character is not None and character not in (_SPACE_MARK, "\0"):
                plain += character
                continue
            ids += self._pieces.Encode(plain) if plain else []
            plain = ""
            ids += [self._byte_ids[byte] for byte in (character or "").encode()]
        return ids

    @cached_property
    def _byte_ids(self) -> list[int]:
        return [self._pieces.PieceToId(f"<0x{byte:02X}>") for byte in range(256)]

    @cached_property
    def _bytes(self) -> list[bytes]:
        """What each id stands for; control pieces stand for nothing."""
        table = [b"" if self._pieces.IsControl(i) or self._pieces.IsUnknown(i)
                 else self.piece(i).replace(_SPACE_MARK, " ").encode() for i in range(self.vocab_size)]
        for byte, index in enumerate(self._byte_ids):
            table[index] = bytes([byte])
        return table

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of the ids; specials, and ids past the vocabulary (padding rows), give nothing."""
        return b"".join(self._bytes[index] for index in ids if 0 <= index < self.vocab_size)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")
