"""Training and encoding speed of the tokenizer, and its compression, against other libraries on the same text.

    python benchmarks/tokenizer.py [--full] [--text FILE ...]

Without --text the text is the Atlas's pages. Training: the same vocabulary size, one thread each. Encoding: batches of
documents; bytes per token are taken on documents that no trainer saw.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from _harness import Case, arguments, installed, measure_interleaved, report

from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as write_atlas
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

VOCABULARY = 4096


def texts(files: list[Path], size: str) -> list[str]:
    if files:
        return [part for file in files for part in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")) if part]
    with tempfile.TemporaryDirectory() as folder:
        write_atlas(AtlasSettings.parse({"size": size}), Path(folder))
        pages = sorted(Path(folder).glob("pages/*/*.html"))
        return [re.sub(r"<[^>]*>", "", page.read_bytes().decode("utf-8", "ignore")) for page in pages]


def ours(train: list[str], folder: Path) -> Tokenizer:
    words = count_words((text, "") for text in train).weighted()
    train_bpe(words, folder / "tokenizer.model", BpeSettings(vocab_size=VOCABULARY))
    return Tokenizer.load(folder)


def hugging_face(train: list[str]) -> Callable[[list[str]], list[list[int]]]:
    """Byte-level BPE of the `tokenizers` library with single digits."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(train, trainer)
    return lambda batch: [encoding.ids for encoding in tokenizer.encode_batch(batch)]


def main() -> None:
    options = arguments(__doc__, ("--text", {"nargs": "*", "type": Path, "default": []}))
    found = texts(options.text, "small" if options.full else "tiny")
    train, held_out = [t for i, t in enumerate(found) if i % 10], found[::10]
    size = sum(len(text.encode()) for text in train) / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoders: dict[str, Callable[[list[str]], list[list[int]]]] = {"ours": ours(train, folder).encode_batch}
        trainers: dict[str, Callable[[], object]] = {"ours": lambda: ours(train, folder)}
        if installed("tokenizers"):
            trainers["tokenizers"] = lambda: hugging_face(train)
            encoders["tokenizers"] = hugging_face(train)
        repeats = 7 if options.full else 3
        trained = {name: size / seconds for name, seconds in measure_interleaved(trainers, repeats).items()}
        calls: dict[str, Callable[[], object]] = {
            name: lambda encode=encode: encode(train) for name, encode in encoders.items()}  # type: ignore[misc]
        encoded = {name: size / seconds for name, seconds in measure_interleaved(calls, repeats).items()}
        packed = {name: sum(len(text.encode()) for text in held_out) / sum(map(len, encode(held_out)))
                  for name, encode in encoders.items()}
    if "tokenizers" in encoders:
        rows = [Case.compare(f"{size:.1f} MB", metric, figures["ours"], "tokenizers", figures["tokenizers"])
                for metric, figures in [("train MB/s", trained), ("encode MB/s", encoded), ("bytes/token", packed)]]
    else:
        rows = [Case(f"{size:.1f} MB", metric, figures["ours"], "tokenizers: not installed")
                for metric, figures in [("train MB/s", trained), ("encode MB/s", encoded), ("bytes/token", packed)]]
    copy = measure_interleaved({"copy": lambda: "".join(train).encode()}, 3)["copy"]
    report("tokenizer", rows, {"join and UTF-8 encode, MB/s": size / copy}, ("sentencepiece", "tokenizers"))


if __name__ == "__main__":
    main()
