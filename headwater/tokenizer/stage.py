"""The tokenizer stage: train on the corpus, report compression on what training never saw."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from headwater.artifacts import write_json, write_text
from headwater.documents import corpus_files, count_texts, read_texts
from headwater.errors import SettingsError
from headwater.folders import GENERATION_CONFIG, TOKENIZER_CONFIG
from headwater.hardware import cores
from headwater.progress import bar, track
from headwater.settings import InputPath
from headwater.tokenizer.chat import END, JINJA, SPECIALS
from headwater.tokenizer.compression import Measured
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.texts import BATCH
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.vocabulary import Tokenizer
from headwater.tokenizer.words import MOST, Words, count_words

MOST_APART = 1e6
"""How many times one share may be another; weights are whole numbers."""


class TokenizerSettings(BpeSettings):
    """How the vocabulary is trained."""

    corpus: InputPath = Path("${corpus}")
    """Folder with train/ and validation/ Parquet files of text."""
    shares: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """What part of the training text each language shall count for, on any scale ({en: 1, zh: 1}); one not named does
    not count. As the corpus has them when not set."""
    max_characters: int = Field(default=2_000_000_000, ge=1000)
    """Documents are sampled down to about this many characters (bounds the time; memory is bounded anyway)."""
    max_words: int = Field(default=MOST, ge=1000)
    """Different words kept of each language; beyond it a sample of the rare ones stands for them all. A word takes some
    240 bytes while counting, a character of it 110 while learning."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Processes that count words, and threads that learn pieces; 0 means all cores. Their number changes no byte."""


def run(settings: TokenizerSettings, out: Path) -> dict[str, float]:
    """Write `tokenizer.model`, `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and
    `compression.json`; returns the compression figures."""
    threads = settings.threads or cores()
    files, held_out = (corpus_files(settings.corpus, split) for split in ("train", "validation"))
    texts = track(read_texts(files), "tokenizer: measuring texts", count_texts(files))
    keep = min(1.0, settings.max_characters / max(1, sum(len(text) for text, _ in texts)))
    with bar("tokenizer: counting words", round(keep * count_texts(files))) as shown:
        words = count_words(_sampled(read_texts(files), keep), most=settings.max_words, processes=threads,
                            shown=shown)
    _check_shares(settings.shares, words)
    train_bpe(words.weighted(settings.shares), out / "tokenizer.model", settings, threads=threads)
    tokenizer = Tokenizer.load(out)
    write_text(out / "tokenizer.json", tokenizer_json(tokenizer.to_bytes()))
    write_json(out / TOKENIZER_CONFIG, tokenizer_config(tokenizer))
    write_json(out / GENERATION_CONFIG, generation_config(tokenizer))
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
    if shares is None:
        return
    given = [share for share in shares.values() if share]
    if not given:
        raise SettingsError("every share is 0", where="shares", fix="give at least one language a share above 0")
    if max(given) / min(given) > MOST_APART:
        raise SettingsError(f"shares {min(given):g} and {max(given):g} are too far apart", where="shares",
                            fix="give 0 to a language that shall not count")


def _sampled(documents: Iterator[tuple[str, str]], keep: float) -> Iterator[tuple[str, str]]:
    """Each document with probability `keep`, the first in any case; the same ones every time."""
    draw = random.Random(0)
    for number, document in enumerate(documents):
        if draw.random() < keep or number == 0:
            yield document


def compression(tokenizer: Tokenizer, documents: Iterator[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Per language: characters, tokens, tokens per Unicode character, UTF-8 bytes per token, share of
    tokens that hold only part of a character."""
    found: dict[str, Measured] = {}
    while batch := list(islice(documents, BATCH)):
        for language in {language for _, language in batch}:
            if language not in found:
                found[language] = Measured(tokenizer)
            found[language].add([text for text, one in batch if one == language])
    rows = [measured.row("", "", language) for language, measured in sorted(found.items())]
    return {row.language: {"documents": row.texts, "characters": row.characters, "tokens": row.tokens,
                           "tokens_per_character": row.tokens_per_character, "bytes_per_token": row.bytes_per_token,
                           "partial_share": row.partial} for row in rows}


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, object]:
    """`tokenizer_config.json` as transformers reads it."""
    return {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "add_eos_token": False,
            "add_prefix_space": False, "clean_up_tokenization_spaces": False, "unk_token": tokenizer.piece(0),
            "bos_token": tokenizer.piece(tokenizer.bos), "eos_token": tokenizer.piece(tokenizer.eos),
            "pad_token": tokenizer.piece(tokenizer.pad), "additional_special_tokens": list(SPECIALS),
            "chat_template": JINJA, "stop_token": END}


def generation_config(tokenizer: Tokenizer) -> dict[str, object]:
    """`generation_config.json`, by which transformers and vLLM know what ends an answer."""
    return {"bos_token_id": tokenizer.bos, "eos_token_id": sorted(tokenizer.stop_ids), "pad_token_id": tokenizer.pad}
