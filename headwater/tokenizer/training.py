"""Byte-pair encoding trained with the rules of the Baichuan 2 report (2309.10305, section 2.2)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece

from headwater.artifacts import atomic_write
from headwater.errors import InputError
from headwater.progress import Bar, bar
from headwater.tokenizer.chat import SPECIALS

MAX_LINE = 2000
"""Characters of one training sentence; longer lines are cut, not dropped (SentencePiece would skip them)."""


def training_lines(texts: Iterable[str]) -> Iterator[str]:
    """Texts as the lines the trainer sees: line breaks are a token of their own, NUL cannot pass its interface."""
    for text in texts:
        for line in text.replace("\0", "").split("\n"):
            for start in range(0, len(line), MAX_LINE):
                yield line[start : start + MAX_LINE]


def _counted(texts: Iterable[str], shown: Bar) -> Iterator[str]:
    for text in texts:
        yield text
        shown.advance()


def train_bpe(texts: Iterable[str], path: Path, *, vocab_size: int, character_coverage: float, max_piece_length: int,
              threads: int, total: int | None = None) -> None:
    """Train and write a SentencePiece model atomically; the same texts give the same bytes.

    Every digit is its own piece, rare characters fall back to bytes, nothing is normalised, no dummy prefix is
    added, runs of white space are pieces, "\\n" is a piece. The chat's special tokens are control pieces: text that
    spells them is encoded as text. total: how many texts there are, where it is known. Raises `InputError` when the
    vocabulary is too large or too small for the texts.
    """
    model = io.BytesIO()
    try:
        # The library tells nothing of its progress: the bar counts the texts it reads and stays while it learns.
        with bar("tokenizer: reading texts, then learning", total) as shown:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=training_lines(_counted(texts, shown)), model_writer=model, model_type="bpe",
                vocab_size=vocab_size, character_coverage=character_coverage,
                max_sentencepiece_length=max_piece_length, max_sentence_length=4 * MAX_LINE + 16,
                num_threads=threads, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
                add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
                required_chars="0123456789", user_defined_symbols=["\n"], control_symbols=list(SPECIALS),
                unk_id=0, bos_id=1, eos_id=2, pad_id=3, minloglevel=2)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2] or "SentencePiece refuses it"
        small = "required_chars" in reason  # the characters alone fill the vocabulary
        raise InputError(f"vocab_size {vocab_size} does not fit this corpus ({reason})",
                         fix="raise vocab_size or lower character_coverage" if small
                         else "lower vocab_size or give more text") from None
    with atomic_write(path) as stream:
        stream.write(model.getvalue())
