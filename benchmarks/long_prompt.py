"""A needle in a long prompt: memory and time by the prompt's length, each in a process of its own.

    python benchmarks/long_prompt.py [--full]

A small LLaMA-shaped model of random weights in bfloat16 reads the prompt in pieces and answers; the text is the
invented world's. The memory is the largest resident one above what the process held before the cache was made; the
ratio is that of the length before, byte for byte of a token: 1 where memory is linear in the length.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _harness import Case, arguments, report

MODEL = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2}


def measure(text: Path, length: int) -> None:
    """In a process of its own."""
    from headwater import hardware
    from headwater.context.retrieval import Haystack, questions
    from headwater.context.texts import corpus_texts
    from headwater.generate import Engine, SamplingParams
    from headwater.model import Decoder, ModelConfig, initialise
    from headwater.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(text / "tokenizer")
    haystack = Haystack([one for language, one in corpus_texts(text / "corpus") if language == "en"], tokenizer, "en")
    asked = next(questions("needle", haystack, lengths=[length], depths=[0.5], each=1, seed=0))
    config = ModelConfig.parse({**MODEL, "vocab_size": -(-tokenizer.vocab_size // 64) * 64,
                                "max_position_embeddings": length})
    engine = Engine(initialise(Decoder(config), 0).bfloat16(), tokenizer, max_batch=1)
    hardware.forget_peak_memory()
    before, start = hardware.memory_bytes(), time.perf_counter()
    engine.generate([asked.prompt], SamplingParams(max_tokens=4, temperature=0))
    print(json.dumps({"seconds": time.perf_counter() - start, "tokens": len(asked.prompt),
                      "bytes": hardware.peak_memory_bytes() - before}))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        measure(Path(sys.argv[2]), int(sys.argv[3]))
        return
    from headwater.studies.learners import TextSettings

    options = arguments(__doc__)
    rows, previous = [], None
    with tempfile.TemporaryDirectory() as folder:
        TextSettings(world="tiny", vocab_size=2048, threads=2).text(Path(folder))
        for length in (8192, 16384, 32768, 65536, 131072) if options.full else (8192, 16384):
            done = subprocess.run([sys.executable, __file__, "--child", folder, str(length)], stdout=subprocess.PIPE,
                                  text=True, check=True)
            found = json.loads(done.stdout)
            each = found["bytes"] / found["tokens"]
            rows += [Case(f"{found['tokens']:,} tokens", "memory, MiB", found["bytes"] / 2**20, "the length before",
                          previous and previous * found["tokens"] / 2**20, previous and previous / each),
                     Case(f"{found['tokens']:,} tokens", "seconds", found["seconds"], "-")]
            previous = each
    report("long_prompt", rows, {}, ("torch",))


if __name__ == "__main__":
    main()
