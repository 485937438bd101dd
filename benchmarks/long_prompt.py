"""A needle in a long prompt: memory and time by the prompt's length, each in a process of its own.

    python benchmarks/long_prompt.py [--full]

A small LLaMA-shaped model of random weights in bfloat16 reads the prompt and answers; the text is the invented world's.
Three readers: ours with all tokens seen, ours with a window of 1,020 and four sinks, and transformers' LLaMA of the
same weights as its `generate` reads by itself, the prompt at once. The memory is the largest resident one above what
the process held before its cache was made.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _harness import Case, arguments, report

MODEL = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2}
ANSWER = 4


def measure(folder: Path, reader: str, length: int) -> None:
    """In a process of its own."""
    from headwater import hardware
    from headwater.context.retrieval import Haystack, questions
    from headwater.context.texts import corpus_texts
    from headwater.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder / "model")
    haystack = Haystack([one for tongue, one in corpus_texts(folder / "corpus") if tongue == "en"], tokenizer, "en")
    prompt = next(questions("needle", haystack, lengths=[length], depths=[0.5], each=1, seed=0)).prompt
    answer = READERS[reader](folder / "model", length)
    hardware.forget_peak_memory()
    before, start = hardware.memory_bytes(), time.perf_counter()
    answer(prompt)
    print(json.dumps({"seconds": time.perf_counter() - start, "tokens": len(prompt),
                      "bytes": hardware.peak_memory_bytes() - before}))


def ours(model: Path, length: int, *, window: bool = False) -> Callable[[list[int]], object]:
    from headwater.generate import Engine, SamplingParams
    from headwater.model.extension import ContextSettings

    context = ContextSettings(length=length, window=1020, sinks=4) if window else None
    engine = Engine.load(model, max_batch=1, max_length=length, context=context)
    return lambda prompt: engine.generate([prompt], SamplingParams(max_tokens=ANSWER, temperature=0))


def theirs(model: Path, length: int) -> Callable[[list[int]], object]:
    import torch
    import transformers

    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    return lambda prompt: loaded.generate(torch.tensor([prompt]), max_new_tokens=ANSWER, min_new_tokens=ANSWER,
                                          do_sample=False)


READERS: dict[str, Callable[[Path, int], Callable[[list[int]], object]]] = {
    "all": ours, "window": lambda model, length: ours(model, length, window=True), "transformers": theirs}


def write_model(folder: Path, length: int) -> None:
    from headwater.model import Decoder, ModelConfig, initialise
    from headwater.model.checkpoint import save_model
    from headwater.tokenizer import Tokenizer

    vocabulary = -(-Tokenizer.load(folder / "tokenizer").vocab_size // 64) * 64
    config = ModelConfig.parse({**MODEL, "vocab_size": vocabulary, "max_position_embeddings": length})
    save_model(initialise(Decoder(config), 0).bfloat16(), folder / "model", tokenizer_from=folder / "tokenizer")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        measure(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    from headwater.studies.learners import TextSettings

    options = arguments(__doc__)
    lengths = (8192, 16384, 32768, 65536, 131072) if options.full else (8192, 16384)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        TextSettings(world="tiny", vocab_size=2048, threads=2).text(Path(folder))
        write_model(Path(folder), lengths[-1])
        for length in lengths:
            found = {reader: _in_a_process(folder, reader, length) for reader in READERS}
            peer = found.pop("transformers")
            for reader, one in found.items():
                case = f"{one['tokens']:,} tokens, {reader}"
                rows += [Case.compare(case, "memory, MiB", one["bytes"] / 2**20, "transformers", peer["bytes"] / 2**20,
                                      more_is_better=False),
                         Case.compare(case, "seconds", one["seconds"], "transformers", peer["seconds"],
                                      more_is_better=False)]
    report("long_prompt", rows, {}, ("torch", "transformers"))


def _in_a_process(folder: str, reader: str, length: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--child", folder, reader, str(length)], stdout=subprocess.PIPE,
                          text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
