"""The tokenizer stage: train on the corpus, report compression on what training never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from headwater.artifacts import write_json, write_text
from headwater.documents import corpus_files, count_texts, read_texts
from headwater.errors import SettingsError
from headwater.progress import bar, track
from headwater.settings import InputPath
from headwater.tokenizer.chat import END, JINJA, SPECIALS
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.vocabulary import Tokenizer
from headwater.tokenizer.words import MOST, Words, count_words


class TokenizerSettings(BpeSettings):
    """How the vocabulary is trained."""

    corpus: InputPath = Path("${corpus}")
    """Folder with train/ and validation/ Parquet files of text."""
    shares: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """What part of the training text each language shall count for, on any scale ({en: 1, zh: 1}); one not named does
    not count. As the corpus has them when not set."""
    max_characters: int = Field(default=2_000_000_000, ge=1000)
    """Training text is sampled evenly down to this many characters (bounds the time; memory is bounded anyway)."""
    max_words: int = Field(default=MOST, ge=1000)
    """Different words kept of each language, the most frequent; takes some 240 bytes each while counting and 900 while
    learning."""
    threads: int = Field(default=2, ge=1)


def run(settings: TokenizerSettings, out: Path) -> dict[str, float]:
    """Write `tokenizer.model`, `tokenizer.json`, `tokenizer_config.json` and `compression.json`; returns the
    compression figures."""
    files = corpus_files(settings.corpus, "train")
    texts = track(read_texts(files), "tokenizer: measuring texts", count_texts(files))
    keep = min(1.0, settings.max_characters / max(1, sum(len(text) for text, _ in texts)))
    with bar("tokenizer: counting words", round(keep * count_texts(files))) as shown:
        words = count_words(_sampled(read_texts(files), keep), most=settings.max_words, processes=settings.threads,
                            shown=shown)
    _check_shares(settings.shares, words)
    train_bpe(words.weighted(settings.shares), out / "tokenizer.model", settings, threads=settings.threads)
    tokenizer = Tokenizer.load(out)
    write_text(out / "tokenizer.json", tokenizer_json(tokenizer.to_bytes()))
    write_json(out / "tokenizer_config.json", tokenizer_config(tokenizer))
    held_out = corpus_files(settings.corpus, "validation")
    table = compression(tokenizer, read_texts(held_out))
    write_json(out / "compression.json",
               {"split": "validation", "vocab_size": tokenizer.vocab_size, "languages": table})
    figures = {"vocab_size": float(tokenizer.vocab_size)}
    for language, row in table.items():
        figures[f"text.{language}.tokens_per_character"] = row["tokens_per_character"]
        figures[f"text.{language}.bytes_per_token"] = row["bytes_per_token"]
    return figures


def _check_shares(shares: dict[str, float] | None, words: Words) -> None:
    unknown = sorted(set(shares or {}) - set(words.counts))
    if unknown:
        raise SettingsError(f"the corpus has no text in '{unknown[0]}' (there are: {', '.join(sorted(words.counts))})",
                            where="shares", fix="name the corpus's languages")
    if shares is not None and not any(shares.values()):
        raise SettingsError("every share is 0", where="shares", fix="give at least one language a share above 0")


def _sampled(documents: Iterator[tuple[str, str]], keep: float) -> Iterator[tuple[str, str]]:
    """Every document whose turn it is when `keep` of them are taken at even steps."""
    for number, document in enumerate(documents):
        if int((number + 1) * keep) > int(number * keep):
            yield document


def compression(tokenizer: Tokenizer, documents: Iterator[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Per language: characters, tokens, tokens per Unicode character, UTF-8 bytes per token, share of byte pieces."""
    totals: dict[str, list[int]] = {}
    for text, language in documents:
        ids = tokenizer.encode(text)
        row = totals.setdefault(language, [0, 0, 0, 0, 0])
        fallback = sum(tokenizer.piece(i).startswith("<0x") for i in ids)
        for place, value in enumerate((1, len(text), len(ids), len(text.encode()), fallback)):
            row[place] += value
    return {language: {"documents": row[0], "characters": row[1], "tokens": row[2],
                       "tokens_per_character": row[2] / max(1, row[1]), "bytes_per_token": row[3] / max(1, row[2]),
                       "byte_piece_share": row[4] / max(1, row[2])}
            for language, row in sorted(totals.items())}


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, object]:
    """`tokenizer_config.json` as transformers reads it."""
    return {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "add_eos_token": False,
            "add_prefix_space": False, "clean_up_tokenization_spaces": False, "unk_token": tokenizer.piece(0),
            "bos_token": tokenizer.piece(tokenizer.bos), "eos_token": tokenizer.piece(tokenizer.eos),
            "pad_token": tokenizer.piece(tokenizer.pad), "additional_special_tokens": list(SPECIALS),
            "chat_template": JINJA, "stop_token": END}


