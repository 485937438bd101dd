"""Attention over intervals against PyTorch's, forward and backward, at LLaMA-like shapes.

    python benchmarks/attention.py [--full] [--threads N]

`native` is the project's own kernel, `pieces` PyTorch's kernel called piece by piece (what runs without a compiler).
Peers: PyTorch's fused causal attention; for packed documents and ALiBi, which it cannot express, the same with a dense
mask; with --full also a plain softmax compiled by Inductor. Operations are counted for the pairs that are seen, two
products forward and five backward; the ceiling is the machine's matrix-product peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from _harness import Case, arguments, measure_interleaved, report
from torch import Tensor
from torch.nn import functional as F

from headwater import hardware
from headwater.model.interval_attention import interval_attention
from headwater.model.intervals import Intervals
from headwater.model.positions import alibi_bias, alibi_slopes

HIDDEN, TOKENS, DOCUMENT = 384, 4096, 300


@dataclass(frozen=True)
class Shape:
    """One row of the table."""

    length: int
    width: int
    kind: str = "one document"
    """one document, packed, alibi."""

    def __str__(self) -> str:
        rows, heads = TOKENS // self.length, HIDDEN // self.width
        return f"{self.kind}, {rows} x {heads} heads, T {self.length}, d {self.width}"


class Inputs:
    """A shape's tensors and what each way makes of them: functions without arguments."""

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        rows, heads = TOKENS // shape.length, HIDDEN // shape.width
        generator = torch.Generator().manual_seed(0)
        self.heads = [torch.randn(rows, shape.length, heads, shape.width, generator=generator).to(dtype).transpose(1, 2)
                      for _ in range(4)]
        size = DOCUMENT if shape.kind == "packed" else shape.length
        documents = (torch.arange(TOKENS) // size).view(rows, shape.length)
        self.intervals = Intervals.causal(documents)
        self.slopes = alibi_slopes(heads) if shape.kind == "alibi" else None
        self.mask = self._mask(shape, dtype) if shape.kind != "one document" else None
        self.operations = 4.0 * int(self.intervals.dense().sum()) * heads * shape.width  # forward

    def _mask(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        if self.slopes is None:
            return self.intervals.dense()
        places = torch.arange(shape.length)[None]
        return alibi_bias(self.slopes, places, places).masked_fill(~self.intervals.dense()[:1], -math.inf).to(dtype)

    def ours(self, way: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda q, k, v: interval_attention(q, k, v, self.intervals, self.slopes, way=way)

    def fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=self.mask, is_causal=self.mask is None)

    def compiled(self) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        mask = self.intervals.dense() if self.mask is None else self.mask

        def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
            return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value

        return torch.compile(plain, dynamic=False)

    def passes(self, attention: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, Callable[[], object]]:
        """The forward pass as training runs it, and the backward pass."""
        *leaves, gradient = self.heads
        leaves = [x.detach().requires_grad_() for x in leaves]
        out = attention(*leaves)
        return {"forward": lambda: attention(*leaves),
                "backward": lambda: torch.autograd.grad(out, leaves, gradient, retain_graph=True)}


def compare(shape: Shape, dtype: torch.dtype, repeats: int, *, full: bool) -> list[Case]:
    inputs = Inputs(shape, dtype)
    ways = {"native": inputs.ours("native"), "pieces": inputs.ours("pieces"), "PyTorch": inputs.fused}
    if not hardware.has_compiler():
        del ways["native"]
    if full and hardware.has_compiler():
        ways["Inductor, plain softmax"] = inputs.compiled()
    functions = {f"{way} {name}": function for way, attention in ways.items()
                 for name, function in inputs.passes(attention).items()}
    seconds = measure_interleaved(functions, repeats)
    rows, case = [], f"{str(dtype).removeprefix('torch.')}, {shape}"
    for own in [way for way in ("native", "pieces") if way in ways]:
        for name, share in (("forward", 1.0), ("backward", 2.5)):
            mine = seconds[f"{own} {name}"]
            speed = inputs.operations * share / mine / 1e9
            rows.append(Case(case, f"{own} {name}, GFLOP/s", speed, "-"))
            rows += [Case.compare(case, f"{own} {name}, ms", mine * 1e3, peer, seconds[f"{peer} {name}"] * 1e3,
                                  more_is_better=False) for peer in ways if peer not in ("native", "pieces")]
    if "native" not in ways:
        rows.append(Case(case, "native", None, "no C++ compiler"))
    return rows


def main() -> None:
    options = arguments(__doc__, ("--threads", {"type": int, "default": hardware.cores(), "help": "threads (all)"}))
    torch.set_num_threads(options.threads)
    shapes = [Shape(512, 64), Shape(2048, 64), Shape(2048, 128), Shape(2048, 64, "packed"), Shape(512, 64, "alibi")]
    if options.full:
        shapes = [Shape(length, width, kind) for kind in ("one document", "packed", "alibi") for length in (512, 2048)
                  for width in (64, 128)]
    rows: list[Case] = []
    for dtype in (torch.bfloat16, torch.float32) if options.full else (torch.bfloat16,):
        for shape in shapes:
            torch._dynamo.reset()
            rows += compare(shape, dtype, 9 if options.full else 5, full=options.full)
    ceilings = {f"{name} matmul, GFLOP/s": flops / 1e9 for name, flops in hardware.matmul_peaks().items()}
    report("attention", rows, ceilings, ("torch",))


if __name__ == "__main__":
    main()
