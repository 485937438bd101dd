"""The tokenizer: one interface to every family's pieces, special ids and chat format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from headwater.errors import InputError
from headwater.folders import model_folder
from headwater.tokenizer.chat import ChatTemplate
from headwater.tokenizer.frame import Frame
from headwater.tokenizer.identity import Vocabulary, read_vocabulary
from headwater.tokenizer.packed import Packed


class Tokenizer:
    """Text to ids and back. Encoding adds no special id and text never gives one.

    `decode(encode(text)) == text` for every text that is valid Unicode, except where a family normalises: U+2581
    reads as a space in official SentencePiece models, Qwen and GPT-NeoX apply NFC, Baichuan-7B/13B and ChatGLM-6B NFKC
    (and make spaces of other line breaks), ChatGLM-6B drops a space at either end and reads "<n>", "<|tab|>" and
    "<|blank_2|>" as the white space they stand for, and Falcon has no piece for some control characters.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._codec = vocabulary, vocabulary.codec
        self.bos, self.eos, self.pad = vocabulary.bos, vocabulary.eos, vocabulary.pad
        self.specials = dict(vocabulary.specials)
        self.vocab_size = max(self._codec.size, *(index + 1 for index in (0, *self.specials.values())))
        """Ids in use; a model's own vocabulary may be padded beyond it."""
        self.pieces = self._codec.size
        """Ids of the file of pieces; a family's special ids may follow them."""

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """From a tokenizer or model folder of any supported family, an adapter's too, or from one file of it
        (tokenizer.model, tokenizer.json, qwen.tiktoken): then that file holds the pieces, and the JSON files beside it
        tell the rest.

        Raises `InputError`.
        """
        return cls(read_vocabulary(model_folder(path)))

    def to_bytes(self) -> bytes:
        """The file of pieces, as it was read (where they are two, one after the other); of a GGUF file its pieces."""
        return self._vocabulary.file

    def piece(self, index: int) -> str:
        return self._names.get(index) or self._codec.piece(index)

    @cached_property
    def _names(self) -> dict[int, str]:
        return {index: name for name, index in self.specials.items()}

    @cached_property
    def chat(self) -> ChatTemplate:
        """The family's chat format. Raises `InputError` where none is known."""
        template = self._vocabulary.template
        if isinstance(template, str):
            raise InputError(template, fix="use a chat model's folder; a base model continues texts through "
                             "headwater.generate.Engine")
        return template(self)

    @property
    def chat_or_none(self) -> ChatTemplate | None:
        return None if isinstance(self._vocabulary.template, str) else self.chat

    @cached_property
    def frame(self) -> Frame:
        """Ids that the family's own tokenizer puts before and behind a text to be continued. Raises `InputError`."""
        return self._vocabulary.frame()

    def framed(self, text: str) -> list[int]:
        """Ids of a text to be continued, in its frame."""
        return [*self.frame.before, *self.encode(text), *self.frame.after]

    @cached_property
    def marks(self) -> frozenset[int]:
        """Ids that no text gives: special ones, the beginning and the end of a text."""
        return frozenset((self.bos, self.eos, *self.specials.values()))

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end what a model says: the end of text, the chat format's own, and every special id but those that
        the assistant writes itself."""
        ends = frozenset((self.eos, *self.specials.values()))
        chat = self.chat_or_none
        return ends.difference(chat.spoken_ids).union(chat.stop_ids) if chat else ends

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Raises `InputError` for lone surrogates, which no Unicode text holds."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        """The ids of each text. threads above one let the quick encoder take every core."""
        return self._codec.encode_batch(_checked(texts), threads)

    def encode_packed(self, texts: Sequence[str], *, threads: int = 1) -> Packed:
        """The ids of all texts in one array of numpy; the quickest way for many. threads as in `encode_batch`."""
        return self._codec.encode_packed(_checked(texts), threads)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact bytes of the ids, one after the other: specials, and ids past the vocabulary, give nothing.

        The space that some families put before a text is still there; `decode` takes it off.
        """
        table = self._codec.table
        return b"".join(table[index] for index in ids if 0 <= index < len(table))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        data = self.decode_bytes(ids)[self._codec.opening_spaces(list(ids)) :]
        return data.decode("utf-8", errors="replace")

    def spell(self, ids: Sequence[int]) -> str:
        """The text of the ids with special ones by their names, as it is shown to a person."""
        parts = [self.piece(index).encode() if index in self.marks else self.decode_bytes([index]) for index in ids]
        return b"".join(parts).decode("utf-8", errors="replace")


def _checked(texts: Sequence[str]) -> list[str]:
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"not valid Unicode: {error}",
                             fix="decode the text properly, or replace the lone surrogate") from None
    return list(texts)
