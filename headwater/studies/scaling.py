"""Can the loss of a larger model be told from a ladder of small ones?

The Baichuan 2 report (2309.10305, section 2.8) trains models of 10 M to 3 B parameters, fits L(C) = a C^b + L_inf to
their losses and reads from it the loss of its 7 B and 13 B models. The same here on a tiny ladder by the rule of the
report's Table 10: feed-forward layers of three times the hidden size, parameters counted without embeddings,
N = layers (4 h^2 + 3 h 3h + 2h) + h, each size trained on tokens in proportion to N with a schedule of its own,
C = 6 N D. Expected, if the claim holds: the loss of a size that the fit has not seen, of at least three times the
largest compute in it, falls into the interval that the fit predicts, and within 3 % of the prediction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from headwater.model import ModelConfig
from headwater.plots import Line, Panel, panels
from headwater.progress import say
from headwater.settings import Settings
from headwater.studies.learners import ComparedSettings, Text, train
from headwater.studies.power_law import PowerLaw, Prediction, fit
from headwater.studies.trials import Verdict, fact, keep, make_table, once, tell

FARTHER = 3.0
"""The size to be predicted takes at least so many times the compute of the largest in the fit."""
NEAR = 0.03
"""Share of the loss by which a prediction may be off."""


class Size(Settings):
    """A rung of the ladder."""

    hidden_size: Annotated[int, Field(ge=16)]
    layers: Annotated[int, Field(ge=1)]
    heads: Annotated[int, Field(ge=1)]

    @property
    def parameters(self) -> int:
        """Without embeddings, by the report's rule."""
        h = self.hidden_size
        return self.layers * (4 * h**2 + 3 * h * 3 * h + 2 * h) + h


def _sizes(*chosen: tuple[int, int, int]) -> tuple[Size, ...]:
    return tuple(Size(hidden_size=hidden, layers=layers, heads=heads) for hidden, layers, heads in chosen)


class ScalingSettings(ComparedSettings):
    """The ladder and how it is climbed."""

    ladder: Annotated[tuple[Size, ...], Field(min_length=4)] = _sizes(
        (48, 2, 2), (64, 2, 2), (64, 3, 2), (80, 4, 2), (96, 5, 3))
    """Sizes that the law is fitted to, the smallest first."""
    beyond: Size = Size(hidden_size=128, layers=5, heads=4)
    """The size to be predicted; one model of it is trained."""
    tokens_per_parameter: Annotated[float, Field(gt=0)] = 2.0
    """Tokens read for each parameter; Chinchilla's rule is 20, far more than minutes allow."""
    seeds: Annotated[int, Field(ge=1)] = 2
    """Models trained of each size of the ladder."""

    @model_validator(mode="after")
    def _farther(self) -> ScalingSettings:
        largest = max(size.parameters for size in self.ladder)
        if (self.beyond.parameters / largest) ** 2 < FARTHER:
            raise ValueError(f"the size beyond has {self.beyond.parameters / largest:.2f} times the parameters of the "
                             f"ladder's largest; {FARTHER:g} times the compute takes {FARTHER**0.5:.2f}")
        return self

    def steps_of(self, size: Size) -> int:
        return max(10, round(self.tokens_per_parameter * size.parameters / (self.rows * self.length)))

    def compute(self, size: Size) -> float:
        """6 N D, in FLOPs."""
        return 6.0 * size.parameters * self.steps_of(size) * self.rows * self.length

    def shape(self, size: Size, vocabulary: int) -> ModelConfig:
        return self.config(vocabulary, size.hidden_size, size.layers, size.heads,
                           intermediate_size=3 * size.hidden_size)


class Rung(NamedTuple):
    """One trained size: losses on unseen text in nats a token, a model each."""

    size: Size
    compute: float
    losses: list[float]


def run(out: Path, settings: ScalingSettings) -> None:
    """Train the ladder, predict, train the size beyond; write `scaling.json` and `scaling.svg` into `out`.

    A model that is trained already is not trained again. Raises `InputError` for a folder of other settings, and
    where the losses do not fall.
    """
    keep(out, settings)
    text = settings.text(out / "text")
    rungs = [_climb(size, settings.each_seed(), settings, text, out) for size in settings.ladder]
    law = fit([rung.compute for rung in rungs for _ in rung.losses], [loss for rung in rungs for loss in rung.losses])
    prediction = law.predict(settings.compute(settings.beyond))
    say(f"scaling: {prediction.loss:.4f} is predicted, in [{prediction.low:.4f}, {prediction.high:.4f}]")
    last = _climb(settings.beyond, settings.each_seed()[:1], settings, text, out)
    results = {"ladder": [_plain(rung) for rung in rungs], "beyond": _plain(last),
               "law": {"a": law.scale, "b": law.b, "L_inf": law.floor}, "prediction": prediction._asdict()}
    rows = [_row(rung, float(law.at(rung.compute))) for rung in rungs]
    table = make_table(f"L(C) = {law.scale:.4g} C^{law.b:.4f} + {law.floor:.4f}",
                       ["hidden x layers", "N", "tokens", "C", "loss", "by the law"],
                       [*rows, _row(last, prediction.loss)])
    tell(out, "scaling", results, table, verdicts(last, prediction), plot(rungs, last, law, prediction))


def _climb(size: Size, seeds: range, settings: ScalingSettings, text: Text, out: Path) -> Rung:
    return Rung(size, settings.compute(size), [_loss(size, seed, settings, text, out) for seed in seeds])


def _loss(size: Size, seed: int, settings: ScalingSettings, text: Text, out: Path) -> float:
    name = f"{size.hidden_size}x{size.layers}-{seed}"

    def measure() -> dict[str, float]:
        trainer = settings.trainer_of(settings.steps_of(size))
        say(f"scaling: {name}, {trainer.steps} steps")
        model = train(out / name, settings.shape(size, text.vocabulary), settings.stream(text, seed), trainer, seed)
        return {"loss": settings.losses(model, text).cross_entropy}

    return float(once(out / f"{name}.json", measure)["loss"])


def verdicts(last: Rung, prediction: Prediction) -> list[Verdict]:
    """Whether the size beyond is where it was predicted."""
    found = float(np.mean(last.losses))
    inside = min(prediction.high - found, found - prediction.low)
    return [fact(f"the loss {found:.4f} falls into the predicted [{prediction.low:.4f}, {prediction.high:.4f}]",
                 inside),
            fact(f"the prediction {prediction.loss:.4f} is within {NEAR:.0%} of it (off by "
                 f"{prediction.loss / found - 1:+.2%})", NEAR - abs(prediction.loss / found - 1))]


def _plain(rung: Rung) -> dict[str, Any]:
    return {**rung.size.model_dump(), "parameters": rung.size.parameters, "compute": rung.compute,
            "losses": rung.losses}


def _row(rung: Rung, told: float) -> tuple[str, ...]:
    tokens = rung.compute / 6 / rung.size.parameters
    return (f"{rung.size.hidden_size} x {rung.size.layers}", f"{rung.size.parameters:,}", f"{tokens:,.0f}",
            f"{rung.compute:.3g}", " ".join(f"{loss:.4f}" for loss in rung.losses), f"{told:.4f}")


def plot(rungs: list[Rung], last: Rung, law: PowerLaw, prediction: Prediction) -> str:
    """Losses over compute, the law, and its interval as far as the size beyond."""
    line = np.geomspace(rungs[0].compute / 1.3, last.compute * 1.3, 80)
    told = [law.predict(compute) for compute in line]
    flat = [(rung.compute, loss) for rung in rungs for loss in rung.losses]
    ahead = [(last.compute, loss) for loss in last.losses]
    drawn = [Line("fitted law, 95 % of new models", line.tolist(), [one.loss for one in told], points=False),
             Line("models of the fit", [x for x, _ in flat], [y for _, y in flat], joined=False),
             Line("size not in the fit", [x for x, _ in ahead], [y for _, y in ahead], joined=False)]
    return panels([Panel(drawn, "compute 6 N D, FLOPs", "loss on unseen text, nats a token",
                         f"L = {law.scale:.3g} C^{law.b:.3f} + {law.floor:.2f}", log_x=True,
                         band=(line.tolist(), [one.low for one in told], [one.high for one in told]))])
