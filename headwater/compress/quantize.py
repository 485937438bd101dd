"""The quantization stage: weights in 8 bits a row or 4 bits a group, activations left as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from headwater import plan
from headwater.artifacts import write_json
from headwater.compress.awq import smooth
from headwater.compress.calibration import CalibrationSettings
from headwater.compress.cost import Cost, cost_table, speeds_in_turn
from headwater.compress.gptq import compensated, gptq
from headwater.compress.inputs import Inputs, pack_blocks
from headwater.compress.matrices import Matrix, compared, errors_table
from headwater.compress.quality import BenchmarkSettings, Quality
from headwater.compress.scales import searched
from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.adapters import adapted, require_no_prefix
from headwater.model.checkpoint import load_model, packed_matrices, require_sound, save_model
from headwater.model.decoder import Block
from headwater.model.families import family_for
from headwater.model.folder import WeightFolder
from headwater.model.int4 import Group, Int4Linear, joined, nearest
from headwater.model.packed import Base, Form, linear_names, packed_linears, replace_layer
from headwater.model.task_head import require_no_head
from headwater.progress import print_result, say
from headwater.settings import InputPath, OwnDefaults, Seed, Settings
from headwater.tokenizer import Tokenizer
from headwater.train.stage import split_shards

RESULT = "quantize.json"
BEFORE, AFTER = "before", "after"
Method = Literal["rtn", "gptq", "awq", "nf4"]
READ = OwnDefaults({"tokens": 65_536})
"""128 rows of 512 tokens; the papers read 128 rows."""
GROUP: Group = 128
LEAST = 128
"""Tokens that gptq and awq read at least: as many as the columns of a group, which fewer cannot tell apart."""


class SampleSettings(CalibrationSettings):
    """What text gptq and awq read, and which sample of it."""

    seed: Seed = 0


class QuantizeSettings(Settings):
    """What is quantized, and how."""

    model: InputPath = Path("${finetune}")
    bits: Literal[8, 4] = 8
    """8: a scale for each row. 4: a scale and a zero for each group of a row."""
    method: Method = "rtn"
    """rtn: each weight is rounded to the nearest. gptq: the columns behind make up for what each loses. awq: columns
    of large inputs are scaled up first. nf4: levels of the normal distribution, for fine-tuning."""
    group: Group | None = None
    """4 bits: neighbours in a row that share a scale, 128 when not set; where it does not divide a row, the largest
    that does, and where none does the matrix has 8 bits."""
    symmetric: bool = False
    """4 bits: without zeros, which saves 4/group bits a weight."""
    act_order: bool = False
    """gptq: columns of large inputs go first."""
    head: Literal[8, 4] | None = None
    """Bits of the output head, rounded to the nearest; None leaves it, and one tied to the embedding stays as it is."""
    corpus: InputPath | None = None
    """Of its validation split bits per byte are taken before and after; its training split is what gptq and awq
    read."""
    benchmarks: BenchmarkSettings = BenchmarkSettings()
    calibration: Annotated[SampleSettings, READ] = SampleSettings.parse(READ.values)
    """gptq and awq: the text that goes through the model."""

    @model_validator(mode="after")
    def _used(self) -> QuantizeSettings:
        if self.bits == 8 and self.method != "rtn":
            raise ValueError(f"method {self.method} is for bits=4: rounding to 8 leaves nothing to win")
        if (self.bits == 8 or self.method == "nf4") and (self.group, self.symmetric) != (None, False):
            raise ValueError("group and symmetric have an effect with bits=4 alone, and none on nf4")
        if (self.base, self.head) in (("int8", 4), ("nf4", 8)):
            raise ValueError(f"a head of {self.head} bits does not go with {self.base}")
        if self.act_order and self.method != "gptq":
            raise ValueError(f"act_order has no effect with method {self.method}")
        if self.method in ("rtn", "nf4") and self.calibration != SampleSettings.parse(READ.values):
            raise ValueError(f"calibration has no effect with method {self.method}, which reads no text")
        return self

    @property
    def base(self) -> Base:
        return "nf4" if self.method == "nf4" else "int8" if self.bits == 8 else "int4"

    def form(self, name: str, linear: nn.Linear) -> Form:
        base = "int8" if name == "head" and self.head == 8 else self.base
        return Form.fitting(base, linear.in_features, self.group or GROUP, symmetric=self.symmetric)


def check(settings: QuantizeSettings) -> None:
    """Raises `InputError` for a method that reads text, and none."""
    if settings.method in ("gptq", "awq"):
        settings.calibration.source(settings.corpus)


def run(settings: QuantizeSettings, out: Path) -> dict[str, float]:
    """Write a model folder and `quantize.json`. Figures: bytes on disk, what the model says and costs before and after,
    the largest relative errors of a matrix."""
    require_no_prefix(settings.model, "quantized")
    require_no_head(settings.model)
    model = load_model(settings.model)
    _require_floats(model, settings)
    require_sound(model, settings.model)
    tokenizer = Tokenizer.load(settings.model)
    settings.benchmarks.check(tokenizer)
    rows = _calibration(settings, model, tokenizer)
    prompt = torch.arange(32) % model.config.vocab_size
    held_out = None if settings.corpus is None else split_shards(settings.corpus, "validation", tokenizer,
                                                                 settings.model, out)
    quality = Quality(tokenizer, settings.benchmarks, held_out)
    before = Cost.of(model, quality, 0.0)
    if model.dtype == torch.float32:
        say("note: what is not packed is written as bfloat16")
    matrices = quantize(model, settings, rows)
    model.to(torch.bfloat16 if model.dtype == torch.float32 else model.dtype)
    require_sound(model, settings.model)
    save_model(model, out, tokenizer_from=settings.model)
    by_formula = formula_bytes(model)
    del model
    written = load_model(out)
    speeds = speeds_in_turn(load_model(settings.model), written, prompt)
    costs = {BEFORE: before._replace(tokens_per_second=speeds[0]), AFTER: Cost.of(written, quality, speeds[1])}
    on_disk = disk_bytes(out)
    assert on_disk == by_formula
    _tell(settings, matrices, costs, on_disk, out)
    figures = {name: value for when, cost in costs.items() for name, value in cost.figures(when).items()}
    outputs = [one.outputs for one in matrices if one.outputs is not None]
    return {**figures, "bytes_before": float(costs[BEFORE].bytes), "bytes_after": float(on_disk),
            "matrices": float(len(matrices)), "largest_relative_error": max(one.weights for one in matrices),
            **({"largest_output_error": max(outputs)} if outputs else {})}


def _require_floats(model: Decoder, settings: QuantizeSettings) -> None:
    """Raises `InputError`."""
    if any(packed_linears(model)) or any(adapted(model)):
        raise InputError("the model is quantized already", where=settings.model, fix="give a float model")
    if settings.head and (model.config.tie_word_embeddings or "head" not in linear_names(model)):
        raise InputError("the head is tied to the embedding, or normalised, and cannot be quantized alone",
                         where=settings.model, fix="leave quantize.head out")


def _calibration(settings: QuantizeSettings, model: Decoder, tokenizer: Tokenizer) -> Tensor | None:
    if settings.method not in ("gptq", "awq"):
        return None
    rows = settings.calibration.rows(settings.corpus, tokenizer, model.config, settings.calibration.seed)
    widest = max(one.in_features for one in model.modules() if isinstance(one, nn.Linear))
    if rows.numel() < LEAST:
        raise InputError(f"{rows.numel()} tokens are no sample of text: {settings.method} weighs columns, and fewer "
                         f"tokens than the {LEAST} columns of a group cannot tell them apart", where="calibration",
                         fix="give more tokens of a longer text")
    if rows.numel() < widest:
        say(f"note: {rows.numel():,} tokens, fewer than the {widest:,} columns of a matrix: what {settings.method} "
            "learns of them fits this text more than others")
    return rows


def quantize(model: Decoder, settings: QuantizeSettings, rows: Tensor | None = None) -> list[Matrix]:
    """Pack a model in place; rows: ids [N,T] that gptq and awq read."""
    found: list[Matrix] = []
    if rows is not None:
        pack_blocks(model, rows, lambda layer, block, inputs: found.extend(
            _pack_block(layer, block, inputs, settings)), in_turn=settings.method == "gptq")
    return [*found, *(_replaced(model, name, settings, None) for name in linear_names(model)
                      if name != "head" or settings.head)]


def _pack_block(layer: int, block: Block, inputs: dict[str, Inputs], settings: QuantizeSettings) -> Iterator[Matrix]:
    names = list(inputs)
    if settings.method == "awq":
        smooth(block, inputs, {name: settings.form(name, _linear(block, name)) for name in names})
    for name in names:
        found = _replaced(block, name, settings, inputs.pop(name))
        yield found._replace(name=f"blocks.{layer}.{name}")


def _replaced(module: nn.Module, name: str, settings: QuantizeSettings, inputs: Inputs | None) -> Matrix:
    """Put the packed layer in its place."""
    linear = _linear(module, name)
    form = settings.form(name, linear)
    if inputs is not None:
        linear.weight.data = compensated(linear.weight.data, inputs)
    weight = linear.weight.detach().float()
    if form.base != "int4":
        layer = form.pack(linear)
    else:
        layer = Int4Linear.like(linear, form.group, symmetric=form.symmetric)
        layer.bias = linear.bias
        layer.codes, layer.scale, layer.zero = _rounded(weight, form, settings, inputs)
    replace_layer(module, name, layer)
    return compared(name, form, weight, layer, inputs)


def _rounded(weight: Tensor, form: Form, settings: QuantizeSettings, inputs: Inputs | None
             ) -> tuple[Tensor, Tensor, Tensor]:
    if settings.method == "gptq" and inputs is not None:
        return gptq(weight, inputs.hessian, form.group, symmetric=form.symmetric, act_order=settings.act_order)
    scale, zero = searched(weight, form.group, symmetric=form.symmetric,
                           hessian=None if inputs is None else inputs.hessian)
    return joined(nearest(weight, scale, zero)), scale, zero


def _linear(module: nn.Module, name: str) -> nn.Linear:
    found = module.get_submodule(name)
    assert isinstance(found, nn.Linear)
    return found


def formula_bytes(model: Decoder) -> int:
    """Of all tensors on disk, from shapes alone: the packed matrices', as `Form.stored_bytes` has them, and the
    rest's parameters."""
    packed = list(packed_matrices(model))
    floats = plan.parameters(model.config) - sum(rows * columns for _, rows, columns in packed)
    if model.config.tie_word_embeddings and family_for(model.config).WRITES_TIED_HEAD:
        floats += model.embedding.weight.numel()
    return floats * model.dtype.itemsize + sum(form.stored_bytes(rows, columns) for form, rows, columns in packed)


def disk_bytes(folder: Path) -> int:
    """Of all tensors, without the files' headers."""
    with WeightFolder(folder) as weights:
        return sum(one.stop - one.start for one in weights.stored.values())


def _tell(settings: QuantizeSettings, matrices: Sequence[Matrix], costs: dict[str, Cost], on_disk: int, out: Path
          ) -> None:
    say(f"{on_disk:,} bytes of tensors on disk, as the formula has it; the files' headers stand beside")
    print_result(errors_table(matrices))
    print_result(cost_table({"as it was": costs[BEFORE], _named(settings): costs[AFTER]}))
    write_json(out / RESULT, {
        "how": _named(settings), "bytes": on_disk, "matrices": [one._asdict() for one in matrices],
        "costs": {when: cost._asdict() for when, cost in costs.items()}})


def _named(settings: QuantizeSettings) -> str:
    if settings.base != "int4":
        return settings.base.upper()
    kind = f"{settings.method.upper()}{' symmetric' if settings.symmetric else ''}"
    return f"INT4, {kind}, groups of {settings.group or GROUP}"
