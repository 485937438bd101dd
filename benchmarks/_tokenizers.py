"""One trainer on one file of texts, run as a program of its own so that its memory is its own.

    python benchmarks/_tokenizers.py NAME TEXTS.jsonl VOCABULARY OUT

Everyone gets the same documents, two threads where the trainer takes any, and is asked for single digits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

THREADS = 2
PATTERN = r" ?[\p{Han}]{1,16}| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""For the trainers that cut by an expression: what our words are."""


def documents(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield row["text"], row["language"]


def ours(path: Path, vocabulary: int, out: Path) -> None:
    from headwater.tokenizer.training import BpeSettings, train_bpe
    from headwater.tokenizer.words import count_words

    words = count_words(documents(path), processes=THREADS)
    train_bpe(words.weighted(), out / "tokenizer.model", BpeSettings(vocab_size=vocabulary), threads=THREADS)


def sentencepiece(path: Path, vocabulary: int, out: Path) -> None:
    import sentencepiece as library

    lines = (line[start:start + 2000] for text, _ in documents(path) for line in text.replace("\0", "").split("\n")
             for start in range(0, len(line), 2000))
    library.SentencePieceTrainer.train(
        sentence_iterator=lines, model_prefix=str(out / "tokenizer"), model_type="bpe", vocab_size=vocabulary,
        character_coverage=0.9999, max_sentencepiece_length=32, max_sentence_length=8016, num_threads=THREADS,
        byte_fallback=True, split_digits=True, normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, user_defined_symbols=["\n"], minloglevel=2)


def tokenizers(path: Path, vocabulary: int, out: Path) -> None:
    import tokenizers as library
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                                                use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((text for text, _ in documents(path)), trainer)
    tokenizer.save(str(out / "tokenizer.json"))


def rustbpe(path: Path, vocabulary: int, out: Path) -> None:
    import base64

    import rustbpe as library

    trainer = library.Tokenizer()
    trainer.train_from_iterator((text for text, _ in documents(path)), vocabulary, pattern=PATTERN)
    lines = [f"{base64.b64encode(bytes(token)).decode()} {rank}" for token, rank in trainer.get_mergeable_ranks()]
    (out / "ranks.tiktoken").write_text("\n".join(lines) + "\n")


TRAINERS = {"ours": ours, "sentencepiece": sentencepiece, "tokenizers": tokenizers, "rustbpe": rustbpe}

if __name__ == "__main__":
    TRAINERS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
