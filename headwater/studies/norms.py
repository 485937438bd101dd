"""Is RMSNorm faster than LayerNorm, and as good?

RMSNorm (1910.07467) leaves out the mean and the bias; its authors measured 7 to 64 % less time for whole models, and
LLaMA took it for that. Expected, if the claim holds: LayerNorm takes longer, alone (forward and backward) and in a
training step of a small decoder, and the loss on unseen text is within 1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from headwater.hardware import cores
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.norms import make_norm
from headwater.plots import bars
from headwater.progress import say
from headwater.studies.learners import ComparedSettings, ShapedSettings, Text, train, training_step
from headwater.studies.trials import Estimate, Verdict, interleaved, judge, keep, make_table, once, ratio, tell

Norm = Literal["rmsnorm", "layernorm"]
NORMS: tuple[Norm, ...] = ("rmsnorm", "layernorm")
NEAR = 0.01
"""Share by which the losses may differ."""
SMALL = ModelConfig(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1)


class NormsSettings(ShapedSettings, ComparedSettings):
    """What is timed, and the models whose losses are compared."""

    widths: Annotated[tuple[int, ...], Field(min_length=1)] = (256, 1024, 4096)
    """Hidden sizes at which a norm is timed alone."""
    tokens: Annotated[int, Field(ge=1)] = 1024
    """Normalised at once there."""
    compiled: bool = False
    """Time the norms alone also as torch.compile makes them; needs a compiler."""
    rounds: Annotated[int, Field(ge=3)] = 20
    """Times that both are timed, in turn."""


class Timing(NamedTuple):
    """LayerNorm's seconds over RMSNorm's."""

    what: str
    seconds: float
    """RMSNorm's median."""
    ratio: Estimate


def run(out: Path, settings: NormsSettings) -> None:
    """Time both norms and train with both; print the table, write `norms.json` and `norms.svg` into `out`. What is
    timed or trained already is not again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    torch.set_num_threads(settings.threads or cores())
    timings = _timed(out, settings)
    text = settings.text(out / "text")
    found = {norm: [_loss(norm, seed, settings, text, out) for seed in settings.each_seed()] for norm in NORMS}
    rows = [(timing.what, f"{timing.seconds * 1e3:.3f} ms", timing.ratio.words()) for timing in timings]
    loss = {norm: Estimate.of(values) for norm, values in found.items()}
    rows.append(("loss, nats a token", loss["rmsnorm"].words(), f"layernorm {loss['layernorm'].words()}"))
    table = make_table("LayerNorm against RMSNorm", ["", "rmsnorm", "layernorm / rmsnorm"], rows)
    times = {timing.what.replace(" ", "\n"): (timing.ratio.mean, 2 * timing.ratio.error) for timing in timings}
    heights = {str(norm): (one.mean, 2 * one.error) for norm, one in loss.items()}
    results = {"timings": [{**timing._asdict(), "ratio": timing.ratio._asdict()} for timing in timings],
               "losses": found}
    plot = bars({"seconds, LayerNorm / RMSNorm": times, "loss, nats a token": heights}, title="RMSNorm and LayerNorm",
                width=4.4)
    tell(out, "norms", results, table, verdicts(timings, found), plot)


def verdicts(timings: list[Timing], found: dict[Norm, list[float]]) -> list[Verdict]:
    """One for each timing, and one of the losses, by pairs of a seed."""
    off = Estimate.of(one / two - 1 for one, two in zip(found["rmsnorm"], found["layernorm"]))
    return [*(judge(f"LayerNorm takes longer than RMSNorm: {timing.what}",
                    timing.ratio.minus(Estimate(1.0, 0.0, timing.ratio.number))) for timing in timings),
            judge(f"RMSNorm's loss is within {NEAR:.0%} of LayerNorm's ({off.words('+.2%')})",
                  Estimate(NEAR - abs(off.mean), off.error, off.number))]


def _timed(out: Path, settings: NormsSettings) -> list[Timing]:
    def one(what: str, tasks: Callable[[], dict[str, Callable[[], object]]]) -> Timing:
        say(f"norms: {what}")
        path = out / f"{what.replace(',', '').replace(' ', '-')}.json"
        seconds = once(path, lambda: interleaved(tasks(), settings.rounds))
        middle = sorted(seconds["rmsnorm"])[settings.rounds // 2]
        return Timing(what, middle, ratio(seconds["layernorm"], seconds["rmsnorm"]))

    forms = {"": False, ", compiled": True} if settings.compiled else {"": False}
    return [*(one(f"width {width}{words}", partial(_alone, width, settings.tokens, compiled))
              for width in settings.widths for words, compiled in forms.items()),
            one("training step", partial(_steps, settings))]


def _alone(width: int, tokens: int, compiled: bool) -> dict[str, Callable[[], object]]:
    """Forward and backward through a norm, float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, width, generator=generator).requires_grad_()
    upstream = torch.randn(tokens, width, generator=generator)

    def task(norm: Norm) -> Callable[[], object]:
        layer: Callable[[Tensor], Tensor] = make_norm(SMALL.model_copy(update={"hidden_size": width, "norm": norm}))
        called = torch.compile(layer, dynamic=False) if compiled else layer
        return lambda: called(x).backward(upstream)

    return {norm: task(norm) for norm in NORMS}


def _steps(settings: NormsSettings) -> dict[str, Callable[[], object]]:
    return {norm: training_step(initialise(Decoder(settings.shaped(4096, norm=norm)), 0), settings)
            for norm in NORMS}


def _loss(norm: Norm, seed: int, settings: NormsSettings, text: Text, out: Path) -> float:
    def measure() -> float:
        say(f"norms: {norm}, model {seed}")
        model = train(out / f"{norm}-{seed}", settings.shaped(text.vocabulary, norm=norm),
                      settings.stream(text, seed), settings.trainer(), seed)
        return settings.losses(model, text).cross_entropy

    return float(once(out / f"{norm}-{seed}.json", measure))
