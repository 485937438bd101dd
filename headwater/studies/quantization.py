"""What do a weight's bits cost?

One trained model in every form: INT8 rows; INT4 groups of three sizes, rounded to the nearest with and without zeros,
by GPTQ (2210.17323) and by AWQ (2306.00978), which read other samples of text for every seed; NF4 (2305.14314).
Expected, if what is published holds: INT8 costs next to nothing; smaller groups cost less; GPTQ and AWQ cost less than
rounding to the nearest; NF4 less than symmetric INT4 with a scale for as many weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from headwater.compress.calibration import LONGEST, CalibrationSettings
from headwater.compress.quantize import Method, QuantizeSettings, quantize
from headwater.context.perplexity import losses
from headwater.context.texts import corpus_texts, pieces
from headwater.errors import InputError
from headwater.generate.run_folder import find_model
from headwater.model import Decoder
from headwater.model.checkpoint import load_model, packed_matrices
from headwater.model.int4 import Group
from headwater.plots import Line, Panel, panels
from headwater.progress import say
from headwater.settings import Distinct, InputPath, Seed, Settings
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, once, tell
from headwater.tokenizer import Tokenizer

INT8_BAR, INT4_BAR = 0.001, 0.03
"""Of the perplexity."""
SYMMETRIC = "rtn, symmetric"
READ = ("gptq", "awq")


class QuantizationSettings(Settings):
    """The model, the text, and the forms."""

    model: InputPath
    """A run's folder, or a model's; of floats."""
    text: InputPath
    """A file of text that the calibration is drawn from, or a corpus folder, of which it is the training split."""
    held_out: InputPath | None = None
    """Another file, on which losses are taken; the corpus's validation split when not set."""
    groups: Annotated[list[Group], Field(min_length=1), Distinct] = [32, 64, 128]
    tokens: Annotated[int, Field(ge=64)] = 16_384
    """Read by gptq and awq."""
    measured: Annotated[int, Field(ge=64)] = 65_536
    """Tokens on which losses are taken."""
    length: Annotated[int, Field(ge=8)] | None = None
    """Of a row; as many as the model was trained to read, 1,024 at most, when not set."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Samples of calibration text."""
    seed: Seed = 0


class Case(NamedTuple):
    """One form of the model."""

    name: str
    group: int
    bits: float
    """A weight of the packed matrices."""
    losses: list[float]
    """Nats a token, of each sample of calibration text; one where none is read."""


def run(out: Path, settings: QuantizationSettings) -> list[Case]:
    """Pack and measure; print the table, write `quantization.json` and `quantization.svg` into `out`. What is done
    already is not done again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    folder = find_model(settings.model)
    model, tokenizer = load_model(folder, dtype=torch.float32), Tokenizer.load(folder)
    held_out = _held_out(settings, model, tokenizer)
    found = [_case(out, name, group, model, tokenizer, held_out, settings) for name, group in _forms(settings)]
    table = make_table(f"{len(held_out)} rows of {held_out.shape[1]} tokens, {settings.seeds} samples of calibration "
                       f"text; perplexity of the floats {math.exp(found[0].losses[0]):,.3f}",
                       ["", "bits a weight", "perplexity", "more than the floats", "bits per byte more"],
                       [_cells(one, found[0], _bytes(held_out, tokenizer)) for one in found])
    tell(out, "quantization", [one._asdict() for one in found], table, verdicts(found, settings),
         _plot(found, _bytes(held_out, tokenizer)))
    return found


def _forms(settings: QuantizationSettings) -> Iterator[tuple[str, int]]:
    yield from (("float32", 0), ("int8", 0), ("nf4", 64))
    for group in settings.groups:
        yield from ((name, group) for name in (SYMMETRIC, "rtn", *READ))


def _rows(settings: QuantizationSettings, text: Path, tokens: int, model: Decoder, tokenizer: Tokenizer, seed: int
          ) -> Tensor:
    own = CalibrationSettings(text=text, tokens=tokens, length=settings.length)
    return own.rows(None, tokenizer, model.config, seed)


def _held_out(settings: QuantizationSettings, model: Decoder, tokenizer: Tokenizer) -> Tensor:
    """Raises `InputError` where a file of text has no other beside it."""
    if settings.held_out is not None:
        return _rows(settings, settings.held_out, settings.measured, model, tokenizer, settings.seed)
    if not settings.text.is_dir():
        raise InputError("a file of text has no split to take losses on", where="held_out", fix="give another file")
    length = settings.length or min(model.config.max_position_embeddings, LONGEST)
    return pieces(corpus_texts(settings.text), tokenizer, length, settings.measured // length, settings.seed,
                  where=settings.text)


def _case(out: Path, name: str, group: int, model: Decoder, tokenizer: Tokenizer, held_out: Tensor,
          settings: QuantizationSettings) -> Case:
    def measure(seed: int) -> dict[str, float]:
        say(f"quantization: {name}{f', {group}' if group else ''}, sample {seed}")
        packed = copy.deepcopy(model)
        if name != "float32":
            rows = None if name not in READ else _rows(settings, settings.text, settings.tokens, model, tokenizer,
                                                       settings.seed + seed)
            quantize(packed, _as_stage(name, group), rows)
        loss = float(losses(packed, held_out).double().mean())
        return {"bits": _bits(packed), "loss": loss}

    seeds = settings.seeds if name in READ else 1
    done: list[dict[str, Any]] = [once(out / f"{name.replace(', ', '-')}-{group}-{seed}.json",
                                       partial(measure, seed)) for seed in range(seeds)]
    return Case(name, group, done[0]["bits"], [one["loss"] for one in done])


def _as_stage(name: str, group: int) -> QuantizeSettings:
    if name in ("int8", "nf4"):
        return QuantizeSettings.parse({"model": ".", **({"bits": 4, "method": "nf4"} if name == "nf4" else {})})
    method: Method = "gptq" if name == "gptq" else "awq" if name == "awq" else "rtn"
    return QuantizeSettings.parse({"model": ".", "bits": 4, "method": method, "group": group,
                                   "symmetric": name == SYMMETRIC})


def _bits(model: Decoder) -> float:
    """A weight, on disk; 32 where nothing is packed."""
    each = list(packed_matrices(model))
    weights = sum(rows * columns for _, rows, columns in each)
    return 8 * sum(form.stored_bytes(rows, columns) for form, rows, columns in each) / weights if each else 32.0


def _bytes(rows: Tensor, tokenizer: Tokenizer) -> float:
    """Of text, a token."""
    return sum(len(tokenizer.decode_bytes(row.tolist()[1:])) for row in rows) / rows[:, 1:].numel()


def more(one: Case, floats: Case) -> Estimate:
    """Share by which the perplexity is higher."""
    return Estimate.of(math.expm1(loss - floats.losses[0]) for loss in one.losses)


def _cells(one: Case, floats: Case, bytes_: float) -> list[str]:
    lost = Estimate.of((loss - floats.losses[0]) / math.log(2) / bytes_ for loss in one.losses)
    return [f"{one.name}{f', {one.group}' if one.group else ''}", f"{one.bits:.2f}",
            Estimate.of(math.exp(loss) for loss in one.losses).words(".3f"),
            *(["", ""] if one is floats else [more(one, floats).words(".2%"), lost.words(".4f")])]


def verdicts(found: list[Case], settings: QuantizationSettings) -> list[Verdict]:
    """Samples of calibration text are the chance; of forms that read none one model shows nothing but itself."""
    by = {(one.name, one.group): one for one in found}
    floats = by["float32", 0]
    eight = more(by["int8", 0], floats).mean
    told = [_here(f"int8 raises the perplexity by no more than {INT8_BAR:.1%} ({eight:+.3%})", INT8_BAR - eight)]
    for group in settings.groups:
        plain = by["rtn", group]
        told.append(_here(f"rtn in groups of {group} by no more than {INT4_BAR:.0%} ({more(plain, floats).mean:+.2%})",
                         INT4_BAR - more(plain, floats).mean))
        for name in READ:
            own = by[name, group]
            told += [judge(f"{name} in groups of {group} by no more than {INT4_BAR:.0%} ("
                           f"{more(own, floats).words('+.2%')})",
                           [INT4_BAR - math.expm1(loss - floats.losses[0]) for loss in own.losses]),
                     judge(f"{name} costs less than rtn in groups of {group}",
                           [plain.losses[0] - loss for loss in own.losses])]
        told.append(_here(f"zeros cost less than they save in groups of {group}: the loss with them is lower",
                         by[SYMMETRIC, group].losses[0] - plain.losses[0]))
    told += [_here(f"rtn in groups of {small} costs less than in groups of {large}",
                  by["rtn", large].losses[0] - by["rtn", small].losses[0])
             for small, large in zip(settings.groups, settings.groups[1:], strict=False)]
    if 64 in settings.groups:
        told.append(_here("nf4 costs less than symmetric int4 in groups of 64",
                         by[SYMMETRIC, 64].losses[0] - by["nf4", 64].losses[0]))
    return told


def _here(claim: str, margin: float) -> Verdict:
    found = "so" if margin >= 0 else "not so"
    return Verdict(claim, margin, 0.0, f"{found} with this model, which shows nothing of others")


def _plot(found: list[Case], bytes_: float) -> str:
    floats, lines = found[0].losses[0] / math.log(2) / bytes_, []
    for name in dict.fromkeys(one.name for one in found[1:]):
        own = sorted((one for one in found if one.name == name), key=lambda one: one.bits)
        lost = [Estimate.of(loss / math.log(2) / bytes_ - floats for loss in one.losses) for one in own]
        lines.append(Line(name, [one.bits for one in own], [one.mean for one in lost], [2 * one.error for one in lost]))
    return panels([Panel(lines, "bits a weight", "bits per byte more than of the floats", "what the bits of a weight "
                         "cost")])
