"""Memory of training a vocabulary on more and more text of which half is words that never come again.

    python benchmarks/tokenizer_memory.py [--full] [--vocabulary N] [--sizes MB ... --words N]

Such text is the worst for a table of words: it never stops growing. Each size runs in a process of its own; memory is
that of all its processes. --full goes to 2 GB with a quarter of the words that the stage keeps by default; other sizes
and words can be asked for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _harness import Case, arguments, report
from _processes import run_measured

HERE = Path(__file__)
CHARACTERS = 1 << 16
"""Of a document."""
QUICK = ([10, 20, 40], 20_000)
FULL = ([250, 500, 1000, 2000], 250_000)
"""Sizes in MB, and words kept of each language."""


def documents(megabytes: int) -> Iterator[tuple[str, str]]:
    """English and Chinese in turn: a stretch that every document has, a stretch of its own."""
    draw = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", np.uint8)
    han = np.append(np.arange(0x4E00, 0x4E00 + 3000, dtype=np.uint16), [0xFF0C, 0x3002]).astype(np.uint16)
    steps = np.cumsum(1 / np.arange(1, len(han) + 1))
    order = draw.permutation(len(han))

    def english() -> str:
        return letters[draw.integers(0, len(letters), CHARACTERS // 2)].tobytes().decode()

    def chinese() -> str:
        ranks = np.searchsorted(steps, draw.random(CHARACTERS // 2) * steps[-1])
        return han[order[ranks]].astype("<u2").tobytes().decode("utf-16-le")

    common = {"en": english(), "zh": chinese()}
    read = 0
    while read < megabytes * 1_000_000:
        for language, own in (("en", english()), ("zh", chinese())):
            text = common[language] + own
            read += len(text.encode())
            yield text, language


def train(megabytes: int, most: int, vocabulary: int) -> None:
    """What one size does in its process; prints how many different words were kept."""
    import tempfile

    from headwater.tokenizer.training import BpeSettings, train_bpe
    from headwater.tokenizer.words import count_words

    words = count_words(documents(megabytes), most=most, processes=2)
    with tempfile.TemporaryDirectory() as name:
        train_bpe(words.weighted(), Path(name) / "tokenizer.model", BpeSettings(vocab_size=vocabulary), threads=2)
    print(json.dumps(sum(map(len, words.counts.values()))))


def main() -> None:
    options = arguments(__doc__, ("--vocabulary", {"type": int, "default": 8192, "help": "pieces"}),
                        ("--sizes", {"type": int, "nargs": "*", "help": "MB"}),
                        ("--words", {"type": int, "help": "words kept of each language"}),
                        ("--here", {"action": "store_true", "help": "one size in this process, unmeasured"}))
    sizes, most = FULL if options.full else QUICK
    sizes, most = options.sizes or sizes, options.words or most
    if options.here:
        train(sizes[0], most, options.vocabulary)
        return
    cases = []
    for size in sizes:
        cost = run_measured([sys.executable, str(HERE), "--here", "--sizes", str(size), "--words", str(most),
                             "--vocabulary", str(options.vocabulary)])
        words = int(cost.output.splitlines()[-1])
        case = f"{size} MB, at most {most:,} words of each language"
        cases += [Case(case, "peak memory GB", cost.peak_gb, "none"), Case(case, "words kept", words, "none"),
                  Case(case, "seconds", cost.seconds, "none")]
    report("tokenizer_memory", cases, {}, ("sentencepiece",))


if __name__ == "__main__":
    main()
