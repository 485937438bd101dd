"""Tokenizers on the same text: training time and memory, encoding speed, compression of text that no trainer saw.

    python benchmarks/tokenizer.py [--full] [--corpus FOLDER] [--vocabulary N]

Without --corpus the text is the Atlas's pages. Training: every trainer in a process of its own with two threads, asked
for the same vocabulary; memory is that of all its processes. Encoding: the same documents in one call, one thread and
all of them, medians of interleaved repeats; each library encodes with the vocabulary named, and its ids are compared
with those of the library that the vocabulary was made for. Every tenth document is held out for compression.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Case, arguments, installed, measure_interleaved, report
from _processes import run_measured
from _tokenizers import PATTERN, TRAINERS

from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as invent
from headwater.corpus.stage import CorpusSettings
from headwater.corpus.stage import run as clean
from headwater.documents import corpus_files, read_texts
from headwater.tokenizer import Tokenizer

HERE = Path(__file__).parent
Encode = Callable[[list[str]], Any]


def documents(corpus: Path | None) -> list[tuple[str, str]]:
    if corpus is not None:
        return list(dict.fromkeys(read_texts(corpus_files(corpus, "train"))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        invent(AtlasSettings(), folder / "atlas")
        pages = {"path": folder / "atlas/pages", "format": "html"}
        clean(CorpusSettings.parse({"sources": [pages]}), folder / "corpus")
        return list(read_texts(corpus_files(folder / "corpus", "train")))


def training(rows: list[tuple[str, str]], vocabulary: int, folder: Path, rounds: int) -> list[Case]:
    """Seconds and memory of every trainer, medians of interleaved rounds; what was made last stays in `folder`."""
    texts = folder / "texts.jsonl"
    with texts.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text, "language": language}) + "\n" for text, language in rows)
    megabytes = sum(len(text.encode()) for text, _ in rows) / 1e6
    names = [name for name in TRAINERS if name == "ours" or installed(name)]
    costs: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            out = folder / name
            out.mkdir(exist_ok=True)
            costs[name].append(run_measured([sys.executable, str(HERE / "_tokenizers.py"), name, str(texts),
                                             str(vocabulary), str(out)]))

    def median(name: str, what: str) -> float:
        return float(np.median([getattr(cost, what) for cost in costs[name]]))

    case = f"training, {megabytes:.1f} MB, {vocabulary:,} pieces"
    cases = [Case(case, "seconds", median("ours", "seconds"), "none")]
    for peer in names[1:]:
        cases += [Case.compare(case, metric, median("ours", what), peer, median(peer, what), more_is_better=False)
                  for metric, what in (("seconds", "seconds"), ("CPU seconds", "cpu_seconds"),
                                       ("peak memory GB", "peak_gb"))]
    return cases + [Case(case, "seconds", None, f"{peer}: not installed") for peer in TRAINERS if peer not in names]


def spoken(folder: Path) -> dict[str, Encode]:
    """What each trainer made, as an encoder."""
    found: dict[str, Encode] = {"ours": Tokenizer.load(folder / "ours").encode_batch}
    if (folder / "sentencepiece/tokenizer.model").exists():
        import sentencepiece

        found["sentencepiece"] = sentencepiece.SentencePieceProcessor(
            model_file=str(folder / "sentencepiece/tokenizer.model")).Encode
    if (folder / "tokenizers/tokenizer.json").exists():
        import tokenizers

        byte_level = tokenizers.Tokenizer.from_file(str(folder / "tokenizers/tokenizer.json"))
        found["tokenizers"] = lambda texts: [row.ids for row in byte_level.encode_batch(texts)]
    if (folder / "rustbpe/ranks.tiktoken").exists() and installed("tiktoken"):
        found["rustbpe"] = tiktoken_of(folder / "rustbpe/ranks.tiktoken").encode_ordinary_batch
    return found


def tiktoken_of(ranks: Path) -> Any:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    return tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=load_tiktoken_bpe(str(ranks)), special_tokens={})


def compression(rows: list[tuple[str, str]], encoders: dict[str, Encode]) -> list[Case]:
    cases = []
    for language in sorted({language for _, language in rows}):
        texts = [text for text, one in rows if one == language]
        size = sum(len(text.encode()) for text in texts)
        packed = {name: size / max(1, sum(map(len, encode(texts)))) for name, encode in encoders.items()}
        cases += [Case.compare(f"compression, {language}, {len(texts)} unseen documents", "bytes/token", packed["ours"],
                               peer, packed[peer]) for peer in packed if peer != "ours"]
    return cases


def encoding(texts: list[str], folder: Path, repeats: int) -> list[Case]:
    """MB/s on our vocabulary: our encoder beside the libraries that read the same file."""
    import sentencepiece
    import tokenizers

    tokenizer = Tokenizer.load(folder / "ours")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "ours/tokenizer.model"))
    from headwater.tokenizer.export import tokenizer_json

    merges = tokenizers.Tokenizer.from_str(tokenizer_json(tokenizer.to_bytes()))
    merges.encode_special_tokens = True
    one: dict[str, Encode] = {
        "ours": lambda batch: tokenizer.encode_packed(batch, threads=1),
        "ours, lists": lambda batch: tokenizer.encode_batch(batch, threads=1),
        "sentencepiece": lambda batch: pieces.Encode(batch, num_threads=1),
        "tokenizers": lambda batch: [merges.encode(text, add_special_tokens=False).ids for text in batch]}
    every: dict[str, Encode] = {
        "ours": lambda batch: tokenizer.encode_packed(batch, threads=2),
        "sentencepiece": lambda batch: pieces.Encode(batch, num_threads=2),
        "tokenizers": lambda batch: [row.ids for row in merges.encode_batch_fast(batch, add_special_tokens=False)]}
    if installed("gigatoken"):
        import gigatoken

        quick = gigatoken.Tokenizer.from_sentencepiece(str(folder / "ours/tokenizer.model"))
        one["gigatoken"] = lambda batch: quick.encode_batch(batch, parallel=False)
        every["gigatoken"] = lambda batch: quick.encode_batch(batch, parallel=True)
    if (folder / "rustbpe/ranks.tiktoken").exists() and installed("tiktoken"):
        other = tiktoken_of(folder / "rustbpe/ranks.tiktoken")
        one["tiktoken (rustbpe's vocabulary)"] = lambda batch: other.encode_ordinary_batch(batch, num_threads=1)
        every["tiktoken (rustbpe's vocabulary)"] = lambda batch: other.encode_ordinary_batch(batch, num_threads=2)
    exact = [row.tolist() for row in tokenizer.encode_packed(texts).rows()]
    reference = [[] if "▁" in text else ids for text, ids in zip(texts, pieces.Encode(texts))]
    same = float(np.mean([not ids or ids == own for ids, own in zip(reference, exact)]))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    cases = [Case(f"encoding {megabytes:.1f} MB", "share of documents with SentencePiece's ids", same, "none")]
    for threads, encoders in (("one thread", one), ("all threads", every)):
        calls: dict[str, Callable[[], object]] = {
            name: lambda encode=encode: encode(texts) for name, encode in encoders.items()}  # type: ignore[misc]
        speeds = {name: megabytes / seconds for name, seconds in measure_interleaved(calls, repeats).items()}
        cases += [Case.compare(f"encoding {megabytes:.1f} MB, {threads}", "MB/s", speeds["ours"], peer, speeds[peer])
                  for peer in speeds if peer != "ours"]
    return cases


def main() -> None:
    options = arguments(__doc__, ("--corpus", {"type": Path, "help": "a folder that a corpus stage wrote"}),
                        ("--vocabulary", {"type": int, "help": "pieces"}))
    found = documents(options.corpus)
    train, held_out = [row for i, row in enumerate(found) if i % 10], found[::10]
    vocabulary = options.vocabulary or (65_536 if options.corpus else 8192)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = training(train, vocabulary, folder, 3 if options.full else 1)
        cases += compression(held_out, spoken(folder))
        texts = [text for text, _ in (train if options.full else train[: len(train) // 4])]
        cases += encoding(texts, folder, 5 if options.full else 3)
    report("tokenizer", cases, {}, ("sentencepiece", "tokenizers", "rustbpe", "tiktoken", "gigatoken"))


if __name__ == "__main__":
    main()
