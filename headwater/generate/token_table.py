"""A tokenizer's pieces as the grammar engine wants them: the exact bytes of every id, special ids marked as such."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from headwater.errors import MissingExtraError
from headwater.tokenizer.vocabulary import Tokenizer

SPECIAL = b"\xff"
"""Before the name of a special id; no UTF-8 text holds it."""
_BEFORE = "\n"
"""Encoded before a text that stands in the middle of another, so that no family puts a space before it."""


class TokenTable:
    """The ids below `size`, and one more, `end`, which stands for "the text may end here": so that the ids that end a
    model's turn can be words of a grammar."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.size, self.end = size, size
        self.pieces = [tokenizer.decode_bytes([index]) for index in range(size)]
        """The bytes of each id; specials have none."""
        self.marks = frozenset(index for index in tokenizer.marks if 0 <= index < size)
        self._tokenizer = tokenizer
        # Of ids with the same bytes the later: byte pieces come first, and what a model writes is the other.
        self._by_bytes = {piece: index for index, piece in enumerate(self.pieces) if piece}

    @cached_property
    def native(self) -> Any:
        """An `llguidance.LLTokenizer`; a third of a second for 150,000 ids. Raises `MissingExtraError`."""
        llguidance = library()

        class Table:
            eos_token_id, bos_token_id, special_token_ids = self.end, None, [*self.marks, self.end]
            tokens = [*(SPECIAL + self._tokenizer.piece(index).encode() if index in self.marks else piece
                        for index, piece in enumerate(self.pieces)), SPECIAL + b"<|end|>"]

            def __call__(self, text: bytes | str) -> list[int]:
                return encode(text if isinstance(text, bytes) else text.encode())

        encode = self.encode
        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(Table()), n_vocab=self.size + 1,
                                      eos_token=self.end)

    def encode(self, data: bytes) -> list[int]:
        """Ids whose bytes are exactly these, as the tokenizer would give them behind other text; where it normalises,
        the longest pieces that fit, from the left. A byte that no piece holds is left out."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return self._longest_pieces(data)
        ids = self._tokenizer.encode(_BEFORE + text)
        for cut in range(len(ids) + 1):
            if self._tokenizer.decode_bytes(ids[:cut]).endswith(_BEFORE.encode()):
                ids = ids[cut:]
                break
        whole = max(ids, default=0) < self.size and b"".join(self.pieces[index] for index in ids) == data
        return ids if whole else self._longest_pieces(data)

    def bytewise(self, data: bytes) -> list[int]:
        """An id for every byte, or where one has none the ids of `encode`."""
        ids = [self._by_bytes.get(data[at : at + 1]) for at in range(len(data))]
        known = [index for index in ids if index is not None]
        return known if len(known) == len(data) else self.encode(data)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes), default=1)

    def _longest_pieces(self, data: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(data):
            for length in range(min(self._longest, len(data) - at), 0, -1):
                index = self._by_bytes.get(data[at : at + length])
                if index is not None:
                    ids.append(index)
                    break
            at += max(1, length)
        return ids


def library() -> Any:
    """llguidance. Raises `MissingExtraError`."""
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtraError(f"constrained answers need llguidance ({error})",
                                fix="pip install 'headwater[serve]'") from None
    return llguidance
