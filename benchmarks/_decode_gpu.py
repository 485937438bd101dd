"""Decoding on a GPU: our captured steps against transformers and torchao, and the tiles of our kernels.

Not measured anywhere yet; written so that one command on a machine with a GPU gives every figure.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _harness import Case, installed, measure_interleaved

from headwater.generate import Engine, SamplingParams
from headwater.model import Decoder, ModelConfig
from headwater.model.int4 import Int4Linear
from headwater.model.linear import Int8Linear
from headwater.model.native.weights import Weights
from headwater.model.packed import pack_linears, replace_layer

SIZES: dict[str, dict[str, Any]] = {
    "0.8B": {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 16,
             "num_attention_heads": 32, "num_key_value_heads": 4},
    "7B": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 32}}
FORMS = ("bfloat16", "int8", "int4")
PROMPT, BATCHES, GROUP = 64, (1, 8), 32
BEYOND = 1 << 28
"""Bytes of matrices that a kernel is timed over, so that none is still in the GPU's cache."""
NONE_HERE = "no CUDA device here"


def drawn(size: str, form: str) -> Decoder:
    """Random weights on the GPU; the head of INT4 is INT8."""
    with torch.device("cuda"), torch.no_grad():
        model = Decoder(ModelConfig(max_position_embeddings=1024, **SIZES[size])).to("cuda", torch.bfloat16).eval()
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.normal_(0, 0.02) if parameter.dim() > 1 else parameter.fill_(1)
        if form == "int4":
            head = Int8Linear.pack(model.head)
            pack_linears(model, head=False, form="int4", group=GROUP)
            replace_layer(model, "head", head)
        elif form == "int8":
            pack_linears(model, head=True, form="int8")
    return model


def weight_bytes(model: Decoder) -> int:
    """What a step reads."""
    return sum(one.nbytes for name, one in model.state_dict().items() if name != "embedding.weight")


def ours(engine: Engine, batch: int, count: int) -> Callable[[], float]:
    """Seconds of decoding so many tokens in each of some rows; the prompts are not counted."""
    def decode() -> float:
        found = [engine.submit(list(range(10, 10 + PROMPT)), SamplingParams(temperature=0, max_tokens=count + 4))
                 for _ in range(batch)]
        for _ in range(3):  # the prompts with a token each, and three more: the second step is captured
            engine.step()
        torch.cuda.synchronize()
        start = time.perf_counter()
        while any(one.finish_reason is None for one in found):
            engine.step()
        return time.perf_counter() - start

    return decode


def theirs(size: str, batch: int, count: int, kind: str) -> Callable[[], float]:
    """The same of a LLaMA of transformers; kind: bfloat16, static (a compiled step over a cache of one shape), or
    torchao's int8 or int4 with that."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("cuda"):
        model: Any = LlamaForCausalLM(LlamaConfig(max_position_embeddings=1024, **SIZES[size])).to(torch.bfloat16)
    if kind in ("int8", "int4"):
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

        quantize_(model, Int4WeightOnlyConfig(group_size=GROUP) if kind == "int4" else Int8WeightOnlyConfig())
    cache = {} if kind == "bfloat16" else {"cache_implementation": "static"}
    ids = torch.arange(10, 10 + PROMPT, device="cuda").expand(batch, -1)

    def seconds(new: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new,
                       min_new_tokens=new, pad_token_id=0, **cache)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    return lambda: seconds(count + 1) - seconds(1)


def median_of(function: Callable[[], float], repeats: int) -> float:
    """Of the seconds that it gives; the first round is not counted."""
    return statistics.median([function() for _ in range(repeats + 1)][1:])


def bandwidth() -> float:
    """Bytes a second that a sum over 2 GiB reads."""
    data = torch.ones(1 << 29, device="cuda")

    def read() -> None:
        data.sum()
        torch.cuda.synchronize()

    return data.nbytes / measure_interleaved({"read": read}, 15)["read"]


def peers() -> list[str]:
    """What our three forms are held against, by kind, where it is installed."""
    kinds = ["bfloat16", "static"] if installed("transformers") else []
    return kinds + (["int8", "int4"] if kinds and installed("torchao") else [])


def compare(size: str, count: int, repeats: int, engine_of: Callable[[Decoder, Path, int], Engine]
            ) -> tuple[list[Case], dict[str, float]]:
    """Tokens a second of every form, row count and peer; one model at a time is on the GPU, and takes its rounds."""
    speeds: dict[tuple[str, int], float] = {}
    ceilings, read = {}, bandwidth()
    with tempfile.TemporaryDirectory() as name:
        for form in FORMS:
            model = drawn(size, form)
            for batch in BATCHES:
                engine = engine_of(model, Path(name), batch)
                speeds[form, batch] = batch * count / median_of(ours(engine, batch, count), repeats)
            weights = weight_bytes(model)
            ceilings[f"GPU {size} {form}, tokens/s"] = read / weights
            ceilings[f"GPU {size} {form}, GB/s read while decoding"] = 1e-9 * weights * speeds[form, 1]
            del model, engine
            torch.cuda.empty_cache()
    found = {(kind, batch): batch * count / median_of(theirs(size, batch, count, kind), repeats)
             for kind, batch in itertools.product(peers(), BATCHES)}
    rows = []
    for form, batch in itertools.product(FORMS, BATCHES):
        case, own = f"GPU {size} decode, batch {batch}, {form}", speeds[form, batch]
        if form != "bfloat16":
            rows.append(Case.compare(case, "tokens/s", own, "our bfloat16", speeds["bfloat16", batch]))
        for kind, name in (("bfloat16", "transformers"), ("static", "transformers, static cache"),
                           (form, f"torchao {form}")):
            if name.startswith("torchao") and form == "bfloat16":
                continue
            known = found.get((kind, batch))
            rows.append(Case(case, "tokens/s", own, f"{name}: not installed") if known is None else
                        Case.compare(case, "tokens/s", own, name, known))
    return rows, {"GPU memory read, GB/s": 1e-9 * read, **ceilings}


def tiles(rows: int, columns: int, form: str, count: int) -> Case:
    """Microseconds of a product with the tile that is taken, against the quickest of some."""
    from headwater.model.gpu.products import Tile, form_of, processors_of, product, tile_of

    linear = torch.nn.Linear(columns, rows, bias=False, device="cuda", dtype=torch.bfloat16)
    one = Int4Linear.pack(linear, GROUP) if form == "int4" else Int8Linear.pack(linear) if form == "int8" else linear
    stored = (Weights(one.codes, one.scale, one.zero) if isinstance(one, Int4Linear) else
              Weights(one.weight, one.scale) if isinstance(one, Int8Linear) else Weights(one.weight.detach()))
    copies = [Weights(*(None if part is None else part.clone() for part in stored))
              for _ in range(max(2, BEYOND // stored.weight.nbytes))]
    x, gain = torch.randn(count, columns, device="cuda"), torch.ones(columns, device="cuda")
    y, processors = torch.empty(count, rows, device="cuda"), processors_of(x.device)

    def microseconds(tile: Tile) -> float:
        def run() -> None:
            for weights in copies:
                product(x, weights, y, dtype=torch.bfloat16, processors=processors, gain=gain, eps=1e-5, tile=tile)

        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()

        def replay() -> None:
            graph.replay()
            torch.cuda.synchronize()

        return 1e6 * measure_interleaved({"replay": replay}, 15)["replay"] / len(copies)

    tall = (2, 4, 8, 16) if count == 1 else (16, 32, 64)
    tried = {Tile(*which): 0.0 for which in itertools.product(tall, (128, 256, 512, 1024, 2048), (2, 4, 8))}
    for tile in tried:
        tried[tile] = microseconds(tile) if tile.rows * tile.columns <= 1 << 15 else float("inf")
    best = min(tried, key=lambda tile: tried[tile])
    taken = microseconds(tile_of(form_of(stored), count, rows, columns, processors))
    return Case.compare(f"GPU {rows} x {columns} {form}, {count} rows", "us", taken,
                        f"{best.rows} x {best.columns}, {best.warps} warps", tried[best], more_is_better=False)


def measure(full: bool, sweep: bool, engine_of: Callable[[Decoder, Path, int], Engine]
            ) -> tuple[list[Case], dict[str, float]]:
    """Rows and ceilings; a row that says so where there is no GPU."""
    if not torch.cuda.is_available():
        return [Case("GPU decode", "tokens/s", None, NONE_HERE)], {}
    with torch.inference_mode():
        if sweep:
            shapes = ((2560, 2048), (2048, 5632), (12288, 4096), (4096, 4096), (4096, 11008), (32000, 4096))
            return [tiles(*shape, form, count) for shape, form, count in itertools.product(shapes, FORMS, (1, 8))], {}
        rows, ceilings = [], {}
        for size in SIZES if full else ("0.8B",):
            more, limits = compare(size, 128, 5 if full else 3, engine_of)
            rows, ceilings = rows + more, {**ceilings, **limits}
    return rows, ceilings
