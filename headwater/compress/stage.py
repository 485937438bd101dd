"""The quantization stage: INT8 weights, one scale per output row, activations in bfloat16."""

from __future__ import annotations

from pathlib import Path

import torch

from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.adapters import require_no_prefix
from headwater.model.checkpoint import load_model, save_model
from headwater.model.linear import Int8Linear
from headwater.model.packed import pack_linears, packed_linears
from headwater.model.task_head import require_no_head
from headwater.settings import InputPath, Settings


class QuantizeSettings(Settings):
    """What is quantized."""

    model: InputPath = Path("${finetune}")
    head: bool = False
    """The output head too; a head tied to the embedding stays as it is."""


def run(settings: QuantizeSettings, out: Path) -> dict[str, float]:
    """Write an INT8 model folder. Figures: bytes before and after, largest relative error of a weight matrix."""
    require_no_prefix(settings.model, "quantized")
    require_no_head(settings.model)
    original = load_model(settings.model)
    if any(packed_linears(original)):
        raise InputError("the model is quantized already", where=settings.model, fix="give a float model")
    if settings.head and original.config.tie_word_embeddings:
        raise InputError("the head is tied to the embedding and cannot be quantized alone", where=settings.model,
                         fix="set quantize.head=false")
    quantized = load_model(settings.model)
    names = pack_linears(quantized, head=settings.head)
    error = max(_relative_error(original, quantized, name) for name in names)
    quantized.to(torch.bfloat16)
    save_model(quantized, out, tokenizer_from=settings.model)
    return {"bytes_before": _bytes(original), "bytes_after": _bytes(quantized), "matrices": float(len(names)),
            "largest_relative_error": error}


def _bytes(model: Decoder) -> float:
    """Of the weights, a tied head counted once."""
    own = {id(one): one for one in model.state_dict(keep_vars=True).values()}
    return float(sum(one.nbytes for one in own.values()))


def _relative_error(original: Decoder, quantized: Decoder, name: str) -> float:
    """|W - W_q| / |W| in the Frobenius norm."""
    packed = quantized.get_submodule(name)
    weight = original.get_parameter(f"{name}.weight").detach().float()
    assert isinstance(packed, Int8Linear)
    return float((weight - packed.weight.float() * packed.scale[:, None]).norm() / weight.norm())
