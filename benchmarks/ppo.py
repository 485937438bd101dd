"""PPO beside TRL: the same policy, prompts, reward and number of answers a step; answers per second and peak memory.

    python benchmarks/ppo.py [--full] [--threads N] [--shape NAME]

A LLaMA-shaped model of random weights is written once and read by both sides; its last layer is set so that a text goes
on for some 16 tokens on average. The reward is a function of the text. Ours is the PPO of the stage: sampling by the
batched engine, policy, reference and a critic of its own, one step on all answers. TRL's PPO is no longer part of it,
so the peer is its RLOO, which has no critic to read and to train: two answers to each prompt, a reference, one step. A
side lives in a process of its own, and their iterations take turns. Ours leaves out answers that are empty or do not
end, the peer learns from them too: tokens learned from are counted beside answers sampled. Peak memory is the largest
resident one above what the process held with its libraries imported and nothing loaded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, measure_interleaved, report
from _ppo_sides import ANSWERS, SIDES, Setup
from _workers import Worker, serve

from headwater import hardware
from headwater.align.prompts import read_prompts
from headwater.artifacts import write_json, write_jsonl, write_text
from headwater.atlas.dialogues import split
from headwater.atlas.world import build_world
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.chat import END
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.stage import tokenizer_config
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

SHAPES = {"quick": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4},
          "middle": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12}}
VOCABULARY, LENGTH = 2048, 256
ENDS = 1 / 20
"""How likely a text ends with every token."""
ALWAYS = 0.1
"""What every token has in one dimension, from which the end of a text gets its likelihood."""
NEVER = 30.0
"""A logit so far below the others."""


def write(folder: Path, shape: str) -> None:
    """What both sides read: the model with its tokenizer, and the prompts."""
    train, _ = split(build_world("tiny", 0))
    first = [next(message["content"] for message in one["messages"] if message["role"] == "user") for one in train]
    model = folder / "model"
    model.mkdir()
    words = count_words((message["content"], "") for one in train for message in one["messages"]).weighted()
    train_bpe(words, model / "tokenizer.model", BpeSettings(vocab_size=VOCABULARY))
    tokenizer = Tokenizer.load(model)
    write_text(model / "tokenizer.json", tokenizer_json(tokenizer.to_bytes()))
    write_json(model / "tokenizer_config.json", tokenizer_config(tokenizer))
    write_jsonl(folder / "prompts.jsonl", [{"messages": [{"role": "user", "content": text}]} for text in first[:256]])
    config = ModelConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=LENGTH, **SHAPES[shape])
    save_model(ending(initialise(Decoder(config), 0), tokenizer, folder / "prompts.jsonl"), model)


@torch.no_grad()
def ending(model: Decoder, tokenizer: Tokenizer, prompts: Path) -> Decoder:
    """The model with its end mark as likely as `ENDS` says, after any text, and nothing else that is no text: answers
    that are empty would be learned from by one side alone."""
    model.embedding.weight[:, 0], model.head.weight[:, 0] = ALWAYS, 0.0
    ids = torch.tensor([read_prompts([prompts], tokenizer, LENGTH)[0].ids])
    hidden = model.hidden(ids)[0]
    others = model.head(hidden).logsumexp(-1).mean() + torch.tensor(ENDS).logit()
    model.head.weight[tokenizer.specials[END]] = 0.0
    always = hidden[:, 0].mean()
    blank = [index for index in range(tokenizer.vocab_size) if not tokenizer.decode([index]).strip()]
    model.head.weight[blank, 0] = -NEVER / always
    model.head.weight[tokenizer.specials[END], 0] = others / always
    return model


def compare(shape: str, folder: Path, options: Any) -> list[Case]:
    workers = {side: Worker("--worker", side, str(folder), "--threads", str(options.threads)) for side in SIDES}
    here = {side: worker for side, worker in workers.items() if worker.installed}
    seconds = measure_interleaved({side: worker.step for side, worker in here.items()}, 7 if options.full else 3)
    told = {side: {name: worker.ask(name) for name in ("peak", "length", "answers")} for side, worker in here.items()}
    for worker in workers.values():
        worker.end()
    speed = {side: ANSWERS / value for side, value in seconds.items()}
    if "TRL" not in here:
        return [Case(shape, "answers/s", speed["ours"], "TRL is not installed")]
    own, other = told["ours"], told["TRL"]
    tokens = {side: speed[side] / ANSWERS * one["answers"] * one["length"] for side, one in told.items()}
    return [Case.compare(shape, "answers/s", speed["ours"], "TRL", speed["TRL"]),
            Case.compare(shape, "tokens learned from/s", tokens["ours"], "TRL", tokens["TRL"]),
            Case.compare(shape, "peak memory, MB", own["peak"] / 1e6, "TRL", other["peak"] / 1e6, more_is_better=False),
            Case(shape, "mean tokens of an answer", own["length"], "TRL", other["length"]),
            Case(shape, "answers learned from, of a step", own["answers"], "TRL", other["answers"])]


def main() -> None:
    options = arguments(
        __doc__, ("--threads", {"type": int, "default": hardware.cores(), "help": "threads (all)"}),
        ("--shape", {"choices": list(SHAPES)}),
        ("--worker", {"nargs": 2, "metavar": ("SIDE", "DIR"), "help": "be one side (for itself)"}))
    torch.set_num_threads(options.threads)
    if options.worker:
        side, folder = options.worker
        serve(lambda: SIDES[side](Setup(Path(folder), options.threads)))
        return
    peak, rows = hardware.matmul_flops(torch.float32, "cpu", size=2048), list[Case]()
    for shape in [options.shape] if options.shape else list(SHAPES) if options.full else ["quick"]:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), shape)
            rows += compare(shape, Path(name), options)
    report("ppo", rows, {"float32 matmul, TFLOP/s": peak / 1e12}, ("torch", "transformers", "trl"))


if __name__ == "__main__":
    main()
