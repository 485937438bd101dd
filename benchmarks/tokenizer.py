"""Tokenizers on the same text: training time and memory, encoding speed, compression of text that no trainer saw.

    python benchmarks/tokenizer.py [--full] [--corpus FOLDER] [--vocabulary N] [--tokenizers PATH ...]

Without --corpus the text is the Atlas's pages. Training: every trainer in a process of its own with two threads, asked
for the same vocabulary; memory is that of all its processes. Encoding: the same documents in one call, one thread and
all of them, medians over parts of the text that no encoder has met before; each library encodes with the vocabulary
named, and its ids are compared with those of the library that the vocabulary was made for. Every tenth document is held
out for compression, where the tokenizers named are compared too.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Case, arguments, installed, report
from _processes import run_measured
from _tokenizers import PATTERN, TRAINERS

from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as invent
from headwater.corpus.stage import CorpusSettings
from headwater.corpus.stage import run as clean
from headwater.documents import corpus_files, read_texts
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.ranks import CL100K_SPLIT

HERE = Path(__file__).parent
Encode = Callable[[list[str]], Any]


def documents(corpus: Path | None) -> list[tuple[str, str]]:
    if corpus is not None:
        return list(dict.fromkeys(read_texts(corpus_files(corpus, "train"))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        invent(AtlasSettings(), folder / "atlas")
        pages = {"path": folder / "atlas/pages", "format": "html"}
        clean(CorpusSettings.parse({"sources": [pages], "repeated_sentences": None}), folder / "corpus")
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


def spoken(folder: Path, others: list[Path]) -> dict[str, Encode]:
    """What each trainer made, and other tokenizers, as encoders."""
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
    return found | {path.name: Tokenizer.load(path).encode_batch for path in others}


def tiktoken_of(ranks: Path, pattern: str = PATTERN) -> Any:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    return tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(str(ranks)), special_tokens={})


def compression(rows: list[tuple[str, str]], encoders: dict[str, Encode]) -> list[Case]:
    cases = []
    for language in sorted({language for _, language in rows}):
        texts = [text for text, one in rows if one == language]
        size = sum(len(text.encode()) for text in texts)
        packed = {name: size / max(1, sum(map(len, encode(texts)))) for name, encode in encoders.items()}
        cases += [Case.compare(f"compression, {language}, {len(texts)} unseen documents", "bytes/token", packed["ours"],
                               peer, packed[peer]) for peer in packed if peer != "ours"]
    return cases


def unseen_speeds(encoders: dict[str, Encode], texts: list[str], repeats: int) -> dict[str, float]:
    """Median MB/s of each encoder over parts of the text that it has not met: some keep the words they saw."""
    parts = [texts[start::repeats + 1] for start in range(repeats + 1)]
    found: dict[str, list[float]] = {name: [] for name in encoders}
    for number, part in enumerate(parts):
        megabytes = sum(len(text.encode()) for text in part) / 1e6
        for name, encode in encoders.items():
            gc.collect()
            start = time.perf_counter()
            encode(part)
            if number:  # the first call starts what is started once
                found[name].append(megabytes / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in found.items()}


def encoding(texts: list[str], folder: Path, repeats: int) -> list[Case]:
    """MB/s on our vocabulary: our encoder beside the libraries that read the same file."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "ours/tokenizer.model"))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    cases = []
    for name, threads in (("one thread", 1), ("all threads", 2)):
        speeds = unseen_speeds(readers(folder, pieces, threads), texts, repeats)
        cases += [Case.compare(f"encoding {megabytes:.1f} MB, {name}", "MB/s", speeds["ours"], peer, speeds[peer])
                  for peer in speeds if peer != "ours"]
    exact = [row.tolist() for row in Tokenizer.load(folder / "ours").encode_packed(texts).rows()]
    reference = [[] if "▁" in text else ids for text, ids in zip(texts, pieces.Encode(texts))]
    same = float(np.mean([not ids or ids == own for ids, own in zip(reference, exact)]))
    return [*cases, Case(f"encoding {megabytes:.1f} MB", "share of documents with SentencePiece's ids", same, "none")]


def readers(folder: Path, pieces: Any, threads: int) -> dict[str, Encode]:
    """Encoders of our vocabulary that have met no text yet."""
    import tokenizers

    from headwater.tokenizer.export import tokenizer_json

    own, lists = Tokenizer.load(folder / "ours"), Tokenizer.load(folder / "ours")
    merges = tokenizers.Tokenizer.from_str(tokenizer_json(own.to_bytes()))
    merges.encode_special_tokens = True
    found: dict[str, Encode] = {
        "ours": partial(own.encode_packed, threads=threads),
        "ours, lists": partial(lists.encode_batch, threads=threads),
        "sentencepiece": partial(pieces.Encode, num_threads=threads),
        "tokenizers": (lambda batch: merges.encode_batch_fast(batch, add_special_tokens=False)) if threads > 1 else
        (lambda batch: [merges.encode(text, add_special_tokens=False).ids for text in batch])}
    if installed("gigatoken"):
        import gigatoken

        quick = gigatoken.Tokenizer.from_sentencepiece(str(folder / "ours/tokenizer.model"))
        found["gigatoken"] = partial(quick.encode_batch, parallel=threads > 1)
    if (folder / "rustbpe/ranks.tiktoken").exists() and installed("tiktoken"):
        other = tiktoken_of(folder / "rustbpe/ranks.tiktoken")
        found["tiktoken (rustbpe's vocabulary)"] = partial(other.encode_ordinary_batch, num_threads=threads)
    return found


def byte_level(texts: list[str], folder: Path, repeats: int) -> list[Case]:
    """MB/s on the ranks that rustbpe made, read as GLM-4's are: our encoder beside tiktoken."""
    ranks = folder / "rustbpe/ranks.tiktoken"
    if not ranks.exists() or not installed("tiktoken"):
        return [Case("encoding, byte-level", "MB/s", None, "rustbpe or tiktoken: not installed")]
    (folder / "glm").mkdir()
    shutil.copy(ranks, folder / "glm/tokenizer.model")
    other = tiktoken_of(ranks, CL100K_SPLIT)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    cases = []
    for name, threads in (("one thread", 1), ("all threads", 2)):
        own = Tokenizer.load(folder / "glm")
        speeds = unseen_speeds({
            "ours": partial(own.encode_packed, threads=threads),
            "tiktoken": partial(other.encode_ordinary_batch, num_threads=threads)}, texts, repeats)
        cases.append(Case.compare(f"encoding {megabytes:.1f} MB, byte-level, {name}", "MB/s", speeds["ours"],
                                  "tiktoken", speeds["tiktoken"]))
    found = Tokenizer.load(folder / "glm").encode_packed(texts).rows()
    same = float(np.mean([row.tolist() == ids for row, ids in zip(found, other.encode_ordinary_batch(texts))]))
    return [*cases, Case(f"encoding {megabytes:.1f} MB, byte-level", "share of documents with tiktoken's ids", same,
                         "none")]


def main() -> None:
    options = arguments(__doc__, ("--corpus", {"type": Path, "help": "a folder that a corpus stage wrote"}),
                        ("--vocabulary", {"type": int, "help": "pieces"}),
                        ("--tokenizers", {"type": Path, "nargs": "*", "default": [], "help": "folders or files"}))
    found = documents(options.corpus)
    train, held_out = [row for i, row in enumerate(found) if i % 10], found[::10]
    vocabulary = options.vocabulary or (65_536 if options.corpus else 8192)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = training(train, vocabulary, folder, 3 if options.full else 1)
        cases += compression(held_out, spoken(folder, options.tokenizers))
        texts = [text for text, _ in (train if options.full else train[: len(train) // 4])]
        cases += encoding(texts, folder, 5 if options.full else 3)
        cases += byte_level(texts, folder, 5 if options.full else 3)
    report("tokenizer", cases, {}, ("sentencepiece", "tokenizers", "rustbpe", "tiktoken", "gigatoken"))


if __name__ == "__main__":
    main()
