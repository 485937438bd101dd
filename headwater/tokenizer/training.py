"""Byte-pair encoding trained with the rules of the Baichuan 2 report (2309.10305, section 2.2)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from headwater.artifacts import atomic_write, make_folder, says_full
from headwater.errors import InputError
from headwater.progress import bar
from headwater.settings import Settings
from headwater.tokenizer.chat import SPECIALS
from headwater.tokenizer.piece_model import CONTROL, Piece, renamed, with_pieces, without_threads

_TAB = "\ufdd0"
"""Stands for the tab while the vocabulary is learnt: the trainer's interface parts words from weights with one. It is a
noncharacter, which no text should hold."""
_LONGEST_LINE = 4096
_WORDS, _MODEL = "words.tsv", "pieces"
_LEARN = """
import json, signal, sys, sentencepiece
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # so that it ends when nobody hears how far it is
sentencepiece.SentencePieceTrainer.train(**json.loads(sys.argv[1]))
"""
"""The trainer has a process of its own: it tells how far it is only on standard error, cannot be interrupted, and may
want more memory than there is."""
_SPECIALS = 4 + len(SPECIALS)
SMALLEST = 256 + 10 + 1 + _SPECIALS
"""Pieces that every vocabulary has."""
_MERGED = re.compile(r"Merged: .* merges=(\d+) ")
_REFUSED = re.compile(r"(?:RuntimeError|OSError): (.+)$")


class BpeSettings(Settings):
    """What the vocabulary is to be."""

    vocab_size: int = 4096
    """Pieces, special and byte pieces included (with the digits these alone are 283)."""
    character_coverage: float = Field(default=0.9999, ge=0.98, le=1.0)
    """Share of the characters that have a piece of their own; the rarest fall back to bytes."""
    max_piece_length: int = Field(default=32, ge=1, le=512)
    """Longest piece, in characters."""
    pad_to: int = Field(default=1, ge=1)
    """Pieces that stand for nothing are added until the vocabulary is a multiple of this (64 or 128 suit a GPU)."""

    @field_validator("vocab_size")
    @classmethod
    def _holds_every_byte(cls, value: int) -> int:
        if value < SMALLEST:
            raise ValueError(f"{value} pieces are too few: 256 bytes, ten digits, the line break and {_SPECIALS} "
                             f"special pieces take {SMALLEST}, characters come on top")
        return value


def train_bpe(words: Iterable[tuple[str, int]], path: Path, settings: BpeSettings, *, threads: int = 1) -> None:
    """Train on (word, weight) pairs and write a SentencePiece model atomically; the same words give the same bytes.

    Every digit is its own piece, rare characters fall back to bytes, nothing is normalised, no dummy prefix is
    added, runs of white space are pieces, "\\n" is a piece. The chat's special tokens are control pieces: text that
    spells them is encoded as text. Takes about 110 bytes per character of the words, in a process of its own. Raises
    `InputError` when the vocabulary is too large or too small for the words, or the memory for them.
    """
    make_folder(path.parent, fix="give another target")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as name:
        folder = Path(name)
        if not _write_words(words, folder / _WORDS):
            raise InputError("there is no text to train a tokenizer on", fix="give a corpus with documents")
        _learn(folder, settings, threads)
        model = without_threads((folder / f"{_MODEL}.model").read_bytes())
    missing = -settings.vocab_size % settings.pad_to
    reserved = [Piece(f"<|reserved_{number}|>", 0.0, CONTROL) for number in range(missing)]
    with atomic_write(path) as stream:
        stream.write(with_pieces(renamed(model, lambda piece: piece.replace(_TAB, "\t")), reserved))


def _write_words(words: Iterable[tuple[str, int]], path: Path) -> int:
    """A line for each word; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for word, weight in words:
            if _TAB not in word:
                stream.write(f"{word.replace(chr(9), _TAB)}\t{weight}\n")
                count += 1
    return count


def _learn(folder: Path, settings: BpeSettings, threads: int) -> None:
    """Run the trainer inside `folder`, so that its model names no path. Raises `InputError` for what it refuses."""
    said: list[str] = []
    command = [sys.executable, "-c", _LEARN, json.dumps(_options(settings, threads))]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, errors="replace") as learner, \
            bar("tokenizer: learning pieces", settings.vocab_size) as shown:
        try:
            for line in learner.stderr or ():
                if merged := _MERGED.search(line):
                    shown.advance(int(merged.group(1)) - shown.done)
                elif reason := _REFUSED.match(line):
                    said.append(reason.group(1))
        except BaseException:
            learner.kill()
            raise
    if learner.returncode:
        raise _refused(settings, said, learner.returncode)


def _options(settings: BpeSettings, threads: int) -> dict[str, Any]:
    return {"input": _WORDS, "model_prefix": _MODEL, "input_format": "tsv", "model_type": "bpe",
            "vocab_size": settings.vocab_size, "character_coverage": settings.character_coverage,
            "max_sentencepiece_length": settings.max_piece_length, "max_sentence_length": _LONGEST_LINE,
            "num_threads": threads, "byte_fallback": True, "split_digits": True, "normalization_rule_name": "identity",
            "add_dummy_prefix": False, "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True,
            "required_chars": "0123456789", "user_defined_symbols": ["\n"], "control_symbols": list(SPECIALS),
            "unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}


def _refused(settings: BpeSettings, said: list[str], code: int) -> InputError:
    if not said:
        return InputError(f"the trainer ended without a word (exit code {code}); most often the memory was too small",
                          fix="lower max_words or max_characters")
    reason = said[-1].rpartition("] ")[2] or said[-1]
    if not any(word in reason.lower() for word in ("vocab", "required_chars")):
        full = says_full(reason) or "write" in reason.lower()
        return InputError(f"the trainer failed: {reason}", fix="see whether the disk of the target is full" if full else
                          "correct the setting that it names")
    small = "required_chars" in reason  # the characters alone fill the vocabulary
    return InputError(f"vocab_size {settings.vocab_size} does not fit this corpus ({reason})",
                      fix="raise vocab_size or lower character_coverage" if small
                      else "lower vocab_size or give more text")
