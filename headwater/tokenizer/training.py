"""Byte-pair encoding trained with the rules of the Baichuan 2 report (2309.10305, section 2.2)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import sentencepiece
from pydantic import Field

from headwater.artifacts import atomic_write
from headwater.errors import InputError
from headwater.progress import bar
from headwater.settings import Settings
from headwater.tokenizer.chat import SPECIALS
from headwater.tokenizer.piece_model import renamed

_TAB = "\ufdd0"
"""Stands for the tab while the vocabulary is learnt: the trainer's interface parts words from weights with one. It is a
noncharacter, which no text should hold."""
_LONGEST_LINE = 4096


class BpeSettings(Settings):
    """What the vocabulary is to be."""

    vocab_size: int = Field(default=4096, ge=260)
    """Pieces, special and byte pieces included (these alone, with the digits, are about 280)."""
    character_coverage: float = Field(default=0.9999, gt=0.9, le=1.0)
    """Share of the characters that have a piece of their own; the rarest fall back to bytes."""
    max_piece_length: int = Field(default=32, ge=1)
    """Longest piece, in characters."""


def train_bpe(words: Sequence[tuple[str, int]], path: Path, settings: BpeSettings, *, threads: int = 1) -> None:
    """Train on (word, weight) pairs and write a SentencePiece model atomically; the same words give the same bytes.

    Every digit is its own piece, rare characters fall back to bytes, nothing is normalised, no dummy prefix is
    added, runs of white space are pieces, "\\n" is a piece. The chat's special tokens are control pieces: text that
    spells them is encoded as text. Takes about 110 bytes per character of the words. Raises `InputError` when the
    vocabulary is too large or too small for the words.
    """
    if not words:
        raise InputError("there is no text to train a tokenizer on", fix="give a corpus with documents")
    model = io.BytesIO()
    try:
        # The library tells nothing of its progress: the bar counts the words it reads and stays while it learns.
        with bar("tokenizer: learning pieces") as shown:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_lines(words), model_writer=model, input_format="tsv", model_type="bpe",
                vocab_size=settings.vocab_size, character_coverage=settings.character_coverage,
                max_sentencepiece_length=settings.max_piece_length, max_sentence_length=_LONGEST_LINE,
                num_threads=threads, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
                add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
                required_chars="0123456789", user_defined_symbols=["\n"], control_symbols=list(SPECIALS),
                unk_id=0, bos_id=1, eos_id=2, pad_id=3, minloglevel=2)
            shown.advance()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2] or "SentencePiece refuses it"
        small = "required_chars" in reason  # the characters alone fill the vocabulary
        raise InputError(f"vocab_size {settings.vocab_size} does not fit this corpus ({reason})",
                         fix="raise vocab_size or lower character_coverage" if small
                         else "lower vocab_size or give more text") from None
    with atomic_write(path) as stream:
        stream.write(renamed(model.getvalue(), lambda piece: piece.replace(_TAB, "\t")))


def _lines(words: Sequence[tuple[str, int]]) -> Iterator[str]:
    for word, weight in words:
        if _TAB not in word:
            yield f"{word.replace(chr(9), _TAB)}\t{weight}"
