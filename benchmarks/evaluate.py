"""Questions a second: official benchmarks through our engine against lm-evaluation-harness with transformers.

    python benchmarks/evaluate.py [--full] [--threads N] [--data FOLDER] [--batch N]

The same random weights (float32), tokenizer, questions and prompts for both: those of the harness's own definitions,
and of the official ones where the harness draws other examples for every question. Each side's time is from the
harness's task to judged answers; answers are compared one by one. A ceiling is what reading every prompt whole, once,
takes at the measured speed of matrix products: who shares what prompts begin with can be faster.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, installed, measure_interleaved, report

from headwater.artifacts import write_json, write_text
from headwater.evaluate.answers import Answer
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.definition import Rules
from headwater.evaluate.benchmarks.reading import Part
from headwater.generate.engine import Engine
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.stage import tokenizer_config
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

DATA = Path(__file__).resolve().parents[2] / "shared/data/benchmarks"
FOLDERS = {"mmlu": "mmlu/data", "cmmlu": "cmmlu/data", "gsm8k": "gsm8k", "bbh": "bbh"}
SHAPE: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
                         "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 4096}
VOCABULARY = 8192
RULES: dict[str, tuple[Rules, ...]] = {"gsm8k": ("harness", "official")}
Ask = Callable[[Part], list[Answer]]


def parts_of(name: str, data: Path, questions: int, subjects: int) -> list[Part]:
    """The first questions of the first subjects that have solved examples."""
    reading = BENCHMARKS[name].read(data / FOLDERS[name])
    parts = [part for part in reading.parts if part.shots][:subjects]
    return [replace(part, questions=part.questions[:questions]) for part in parts]


def make_model(folder: Path, texts: list[str]) -> None:
    """A model folder that both sides read: a tokenizer of the questions' own words, weights at random."""
    words = count_words([(text, "") for text in texts]).weighted()
    train_bpe(words, folder / "tokenizer.model", BpeSettings(vocab_size=VOCABULARY))
    tokenizer = Tokenizer.load(folder)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, initializer_range=0.1, **SHAPE)
    save_model(initialise(Decoder(config), seed=0).eval(), folder)
    write_text(folder / "tokenizer.json", tokenizer_json(tokenizer.to_bytes()))
    write_json(folder / "tokenizer_config.json", tokenizer_config(tokenizer))


def theirs_of(folder: Path, name: str, rules: Rules, batch: int) -> Ask | None:
    if installed("transformers") is None or installed("accelerate") is None:
        return None
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    from headwater.evaluate.harness.run import answers_of
    from headwater.evaluate.harness.tasks import quiet, task_of

    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=batch)

    def ask(part: Part) -> list[Answer]:
        task = task_of(BENCHMARKS[name], part, rules, None)
        with quiet():
            found = evaluator.evaluate(model, {"tasks": {part.subject: task}, "groups": {}}, bootstrap_iters=0)
        return answers_of(task, BENCHMARKS[name], part.subject, found["samples"][part.subject])

    return ask


def ours_of(folder: Path, name: str, rules: Rules, batch: int) -> Ask:
    from headwater.evaluate.harness.language_model import EngineLM
    from headwater.evaluate.harness.run import ask

    model = EngineLM(Engine.load(folder, max_batch=batch))
    return lambda part: ask(model, BENCHMARKS[name], part, rules)


def compare(name: str, rules: Rules, folder: Path, parts: list[Part], batch: int, repeats: int) -> list[Case]:
    asked = sum(len(part.questions) for part in parts)
    sides = {"ours": ours_of(folder, name, rules, batch), "theirs": theirs_of(folder, name, rules, batch)}
    last: dict[str, list[Answer]] = {}

    def run(side: str, ask: Ask) -> Callable[[], None]:
        def once() -> None:
            last[side] = [answer for part in parts for answer in ask(part)]
        return once

    functions: dict[str, Callable[[], object]] = {side: run(side, ask) for side, ask in sides.items() if ask}
    seconds = measure_interleaved(functions, repeats)
    title = f"{name} by {rules} rules"
    case, peer = f"{title}, {asked} questions", f"lm-eval hf, batch {batch}"
    if "theirs" not in seconds:
        return [Case(case, "questions/s", asked / seconds["ours"], "transformers, accelerate: not installed")]
    same = [(one.given, one.metrics) == (other.given, other.metrics)
            for one, other in zip(last["ours"], last["theirs"], strict=True)]
    return [Case.compare(case, "questions/s", asked / seconds["ours"], peer, asked / seconds["theirs"]),
            Case(f"{title}, answers given alike", "%", 100 * sum(same) / asked, peer)]


def tokens_of(folder: Path, name: str, parts: list[Part]) -> float:
    """Mean of a prompt, by the harness's rules."""
    from headwater.evaluate.harness.language_model import EngineLM
    from headwater.evaluate.harness.tasks import quiet, task_of

    model, lengths = EngineLM(Engine.load(folder)), []
    for part in parts:
        task = task_of(BENCHMARKS[name], part, "harness", None)
        with quiet():
            task.build_all_requests()
        lengths += [model.length(prompt) for prompt in {request.args[0] for request in task.instances}]
    return sum(lengths) / len(lengths)


def matrix_speed() -> float:
    """Operations a second of a float32 product."""
    one = torch.randn(1024, 1024)
    return 2 * 1024**3 / measure_interleaved({"product": lambda: one @ one}, 7)["product"]


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": 1, "help": "threads of both sides (1)"}),
                        ("--data", {"type": Path, "default": DATA, "help": "folder of the official benchmarks"}),
                        ("--batch", {"type": int, "default": 8, "help": "prompts at once (8)"}))
    torch.set_num_threads(options.threads)
    sizes = {"mmlu": (24, 3), "cmmlu": (24, 3), "gsm8k": (16, 1), "bbh": (8, 2)} if options.full else {
        "mmlu": (6, 2), "cmmlu": (6, 2), "gsm8k": (4, 1)}
    parts = {name: parts_of(name, options.data, *size) for name, size in sizes.items()}
    rows: list[Case] = []
    speed = matrix_speed()
    ceilings = {"matrix products, GFLOP/s": speed / 1e9}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder, [str(value) for found in parts.values() for part in found for row in
                            (*part.shots[:200], *part.questions) for value in row.values()])
        weights = sum(one.numel() for one in Engine.load(folder).model.blocks.parameters())
        for benchmark, found in parts.items():
            for rules in RULES.get(benchmark, ("harness",)):
                rows += compare(benchmark, rules, folder, found, options.batch, 3 if options.full else 1)
            tokens = tokens_of(folder, benchmark, found)
            ceilings[f"{benchmark}, prompts of {tokens:.0f} tokens read whole, questions/s"] = speed / (
                2 * weights * tokens)
    report("evaluate", rows, ceilings, ("torch", "transformers", "lm_eval"))


if __name__ == "__main__":
    main()
