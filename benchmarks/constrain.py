"""Constrained decoding: what masks cost a step, and how many answers fit, with and without them.

    python benchmarks/constrain.py [--full] [--threads N]

A tokenizer of 125,000 pieces over invented text, a decoder of random weights: steps with and without a constraint,
alternating, of eight rows whose answers go on to their limit. Beside them what making the masks alone takes, which is
what would be paid without a thread of their own.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, measure_interleaved, report

from headwater.generate import Engine, SamplingParams
from headwater.generate.constraint import Constraint
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe

VOCABULARY = 125_696
SHAPES: dict[str, dict[str, Any]] = {
    "30M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8},
    "420M": {"hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 14, "num_attention_heads": 12}}
CALL = {"type": "object", "additionalProperties": False, "required": ["query", "steps", "places"], "properties": {
    "query": {"type": "string", "minLength": 20}, "steps": {"type": "integer", "minimum": 1, "maximum": 99},
    "places": {"type": "array", "minItems": 20, "items": {"type": "object", "additionalProperties": False, "required": [
        "name", "length"], "properties": {"name": {"type": "string"}, "length": {"type": "number"}}}}}}
ROWS, TOKENS, LIMIT = 8, 48, 900


def invented(folder: Path) -> Tokenizer:
    """Pieces of two to four syllables, as many as a large model has."""
    syllables = [first + second for first in "bcdfghjklmnprstvwz" for second in ("a", "e", "i", "o", "u", "an", "er")]
    words = {f" {one}{two}{three}": 1 + 1_000_000 // (1 + a * b + c) for a, one in enumerate(syllables, 1)
             for b, two in enumerate(syllables, 1) for c, three in enumerate(syllables[:12])}
    train_bpe(words.items(), folder / "tokenizer.model", BpeSettings(vocab_size=VOCABULARY))
    return Tokenizer.load(folder)


def stepping(engine: Engine, constraint: Constraint | None) -> Callable[[], None]:
    params = [SamplingParams(temperature=1.0, seed=seed, max_tokens=LIMIT, constraint=constraint,
                             logit_bias={} if constraint else dict.fromkeys(engine.stop_ids, -100.0))
              for seed in range(ROWS)]

    def run() -> None:
        for own in params:
            engine.submit([5] * 16, own)
        for _ in range(TOKENS):
            engine.step()
        assert engine.active == ROWS, "an answer ended: its steps would be cheaper"
        engine.reset()
    return run


def masks(engine: Engine, constraint: Constraint) -> float:
    """Seconds for one, following a random answer."""
    engine.submit([5] * 16, SamplingParams(temperature=1.0, seed=1, max_tokens=LIMIT, constraint=constraint))
    spent = 0.0
    for _ in range(TOKENS):
        engine.step()
        matcher = engine._active[0].matcher
        assert matcher is not None
        matcher.mask()
        state = matcher._state.deep_copy()
        began = time.perf_counter()
        state.compute_bitmask()
        spent += time.perf_counter() - began
    engine.reset()
    return spent / TOKENS


def fitting(engine: Engine, constraint: Constraint | None, count: int) -> float:
    import jsonschema

    params = [SamplingParams(temperature=1.0, seed=seed, max_tokens=700, constraint=constraint)
              for seed in range(count)]
    fit = 0
    for answer in engine.generate([[5] * 16] * count, params):
        try:
            jsonschema.validate(json.loads(answer.text), CALL)
            fit += 1
        except (json.JSONDecodeError, jsonschema.ValidationError):
            pass
    return 100 * fit / count


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": 1, "help": "threads of the model (1)"}))
    torch.set_num_threads(options.threads)
    shapes = SHAPES if options.full else {"30M": SHAPES["30M"]}
    constraint = Constraint(kind="json_schema", text=json.dumps(CALL))
    rows: list[Case] = []
    ceilings: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        tokenizer = invented(Path(name))
    for size, shape in shapes.items():
        config = ModelConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=1024, initializer_range=0.1,
                             tie_word_embeddings=True, **shape)
        engine = Engine(initialise(Decoder(config), seed=0).eval(), tokenizer, max_batch=ROWS)
        seconds = measure_interleaved({"held": stepping(engine, constraint), "free": stepping(engine, None)},
                                      5 if options.full else 3)
        case = f"{size}, {ROWS} rows, {tokenizer.vocab_size:,} pieces"
        rows.append(Case.compare(case, "steps/s", TOKENS / seconds["held"], "without a constraint",
                                 TOKENS / seconds["free"]))
        ceilings[f"{size}, one mask, microseconds"] = 1e6 * masks(engine, constraint)
        if size == "30M":
            count = 64 if options.full else 16
            rows.append(Case(f"{case}, answers that fit", "%", fitting(engine, constraint, count), "", None))
    report("constrain", rows, ceilings, ("torch", "llguidance"))


if __name__ == "__main__":
    main()
