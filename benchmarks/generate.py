"""Generation: decoding and prefill speed against a loop without a cache and transformers' generate.

    python benchmarks/generate.py [--full] [--threads N]

Greedy, float32, random weights, the same weights and prompts for everyone. Decoding is the whole call, prompt
included, per new token and row. The ceiling of decoding is how often a second the weights can be read from memory;
a model that fits the processor's cache can be faster. What few-shot prompts begin with is shared by the engine's
`generate` alone: submitted one by one each is read whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _harness import Case, arguments, installed, measure_interleaved, report

from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

SIZES: dict[str, dict[str, Any]] = {
    "7M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4},
    "57M": {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 10, "num_attention_heads": 10}}
VOCABULARY, PROMPT, PREFILL = 8192, 64, 512
FEW_SHOT = {"prompts": 32, "shared": 900, "own": 60, "out": 32}
Answers = list[list[int]]
Generate = Callable[[Answers, int], Answers]


def make_model(size: str) -> Decoder:
    config = ModelConfig(vocab_size=VOCABULARY, max_position_embeddings=1024, initializer_range=0.1, **SIZES[size])
    return initialise(Decoder(config), seed=0).eval()


def make_engine(model: Decoder, folder: Path) -> Engine:
    """An engine that never meets an end mark, so that everyone makes the same number of tokens."""
    words = count_words([("A river runs to the sea. 河流入海。" * 9, "")]).weighted()
    train_bpe(words, folder / "tokenizer.model", BpeSettings(vocab_size=320, max_piece_length=8))
    engine = Engine(model, Tokenizer.load(folder), max_batch=8)
    engine.vocabulary, engine.stop_ids = VOCABULARY, frozenset()
    return engine


def make_prompts(rows: int, length: int) -> Answers:
    return torch.randint(10, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(rows)).tolist()


@torch.inference_mode()
def without_cache(model: Decoder, prompts: Answers, count: int) -> Answers:
    tokens = torch.tensor(prompts)
    for _ in range(count):
        last = model.head(model.hidden(tokens)[:, -1])
        tokens = torch.cat((tokens, last.argmax(-1, keepdim=True)), dim=1)
    return tokens[:, len(prompts[0]):].tolist()


def transformers_generate(model: Decoder, folder: Path) -> Generate | None:
    """transformers' greedy generate over the exported folder, or None where it is not installed."""
    if installed("transformers") is None:
        return None
    from transformers import AutoModelForCausalLM

    save_model(model, folder / "export")
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder / "export", dtype=torch.float32)

    def generate(prompts: Answers, count: int) -> Answers:
        ids = torch.tensor(prompts)
        out = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                              min_new_tokens=count, pad_token_id=0)
        return out[:, ids.shape[1]:].tolist()

    return generate


def bandwidth() -> float:
    """Bytes a second that a sum over 256 MiB reads."""
    data = torch.ones(1 << 26)
    seconds = measure_interleaved({"read": lambda: data.sum()}, 7)["read"]
    return data.nbytes / seconds


def compare(size: str, count: int, repeats: int) -> tuple[list[Case], int]:
    """The rows of one model size, and the bytes of its weights that a decoding step reads."""
    model = make_model(size)
    with tempfile.TemporaryDirectory() as name:
        engine = make_engine(model, Path(name))
        peers = {"transformers": transformers_generate(model, Path(name)),
                 # A 57M model without a cache takes minutes.
                 "no cache": partial(without_cache, model) if size == "7M" else None}
        rows: list[Case] = []
        for batch in (1, 8):
            rows += cases(f"{size} decode, batch {batch}, {PROMPT} in, {count} out", make_prompts(batch, PROMPT), count,
                          batch * count, repeats, engine, peers)
        rows += cases(f"{size} prefill, {PREFILL} in, 1 out", make_prompts(1, PREFILL), 1, PREFILL, repeats, engine,
                      peers)
    weights = sum(parameter.nbytes for name, parameter in model.named_parameters() if name != "embedding.weight")
    return rows, weights


def cases(case: str, prompts: Answers, count: int, tokens: int, repeats: int, engine: Engine,
          peers: dict[str, Generate | None]) -> list[Case]:
    params = SamplingParams(temperature=0, max_tokens=count)

    def ours() -> Answers:
        return [answer.tokens for answer in engine.generate(prompts, params)]

    functions: dict[str, Callable[[], object]] = {"ours": ours}
    functions.update({name: partial(peer, prompts, count) for name, peer in peers.items() if peer is not None})
    expected = ours()
    for name, function in functions.items():
        assert function() == expected, f"{name} gives other tokens"
    speed = {name: tokens / seconds for name, seconds in measure_interleaved(functions, repeats).items()}
    rows = [Case.compare(case, "tokens/s", speed["ours"], peer, speed[peer]) for peer in functions if peer != "ours"]
    if peers["transformers"] is None:
        rows.append(Case(case, "tokens/s", speed["ours"], "transformers: not installed"))
    return rows


def few_shot(size: str, repeats: int) -> list[Case]:
    """Questions behind the same examples, in batches of eight for everyone."""
    count, out, model = FEW_SHOT["prompts"], FEW_SHOT["out"], make_model(size)
    examples = make_prompts(1, FEW_SHOT["shared"])[0]
    prompts = [examples + question for question in make_prompts(count, FEW_SHOT["own"])]
    with tempfile.TemporaryDirectory() as name:
        engine = make_engine(model, Path(name))
        theirs = transformers_generate(model, Path(name))

        def each_whole(prompts: Answers, count: int) -> Answers:
            sequences = [engine.submit(prompt, SamplingParams(temperature=0, max_tokens=count)) for prompt in prompts]
            while engine.busy:
                engine.step()
            return [sequence.tokens for sequence in sequences]

        def batches(prompts: Answers, count: int) -> Answers:
            assert theirs is not None
            return [answer for start in range(0, len(prompts), 8)
                    for answer in theirs(prompts[start : start + 8], count)]

        return cases(f"{size} few-shot, {count} prompts, {FEW_SHOT['shared']} shared, {FEW_SHOT['own']} own, {out} out",
                     prompts, out, count * out, repeats, engine,
                     {"transformers": None if theirs is None else batches, "each read whole": each_whole})


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": 1, "help": "threads of every engine (1)"}))
    torch.set_num_threads(options.threads)
    read = bandwidth()
    ceilings = {"memory read, GB/s": read / 1e9}
    rows: list[Case] = []
    for size in SIZES if options.full else ("7M",):
        found, weights = compare(size, 64 if options.full else 32, 5 if options.full else 3)
        rows += found + few_shot(size, 3)
        ceilings[f"{size} decode, batch 1, tokens/s"] = read / weights
    report("generate", rows, ceilings, ("torch", "transformers"))


if __name__ == "__main__":
    main()
