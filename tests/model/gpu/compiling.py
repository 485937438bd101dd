"""Compiles what decoding launches for GPUs that are not here, in a process of its own: python compiling.py."""

from __future__ import annotations

import functools
import sys
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.captured import Step, Workspace
from headwater.model.gpu import attention, products
from headwater.model.native import weights
from headwater.model.packed import pack_linears
from headwater.model.stepper import parts_of

SMALL = {"vocab_size": 64, "hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 1,
         "num_attention_heads": 4, "num_key_value_heads": 1}


def pretend(capability: int) -> None:
    """A GPU of this compute capability is the current one; kernels are compiled for it and not launched."""
    triton.runtime.driver.set_active(SimpleNamespace(
        get_current_device=lambda: capability, get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", capability, 32)))


def compile_step(form: str, rows: int, dtype: torch.dtype, cache: str | None, **changed: Any) -> None:
    """All kernels of a step, for tensors that lie on the CPU."""
    model = initialise(Decoder(ModelConfig(**{**SMALL, **changed})), 0).to(dtype).eval()
    if form != "float":
        pack_linears(model, head=True, form=form, group=64)
    parts = parts_of(model)
    assert parts is not None
    Step(model.config, model.cache(rows, 64, form=cache), parts, Workspace.empty(model.config, model.device))()


def main() -> None:
    compiled: list[str] = []
    whole = JITFunction.run

    @functools.wraps(whole)
    def run(self: Any, *arguments: Any, **settings: Any) -> Any:
        found = whole(self, *arguments, **{**settings, "warmup": True})
        compiled.append(f"{self.__name__} {found.metadata.target.arch} shared {found.metadata.shared}")
        return found

    JITFunction.run = run
    weights.MULTIPLIED["cpu"] = weights.MULTIPLIED["cuda"]
    products.taken = attention.taken = lambda dtype, device: products.ROUNDED[dtype]
    products.processors_of = lambda device: 132
    with torch.inference_mode():
        pretend(90)
        for form, rows in (("float", 1), ("int8", 1), ("int4", 1), ("float", 3), ("int4", 3)):
            compile_step(form, rows, torch.bfloat16, None)
        compile_step("int8", 2, torch.float16, "int8", norm_placement="sandwich", log_n_length=16, mlp_bias=True)
        pretend(80)
        compile_step("int4", 1, torch.float32, "int8", position="alibi", head="normalized")
    print("\n".join(sorted(set(compiled))))


if __name__ == "__main__":
    sys.exit(main())
