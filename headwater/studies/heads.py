"""What do shared key and value heads save, and what do they cost?

Multi-query attention (1911.02150) keeps one key and value head for all query heads, grouped-query attention
(2305.13245) one for each group: the cache shrinks by the ratio, and decoding, which is bound by reading it, gets
faster. The three with the same number of parameters, the feed-forward layers made wider for what attention gives up, as
in LLaMA 2's comparison. Expected, if the claims hold: cache bytes are exactly in the ratio of the heads; a decoding
step with a long cache, and a training step, are faster with fewer heads; losses rise from MHA to GQA to MQA.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, model_validator

from headwater import plan
from headwater.hardware import cores
from headwater.model import Decoder, KVCache, ModelConfig, initialise
from headwater.plots import bars
from headwater.progress import say
from headwater.studies.learners import ComparedSettings, ShapedSettings, Text, train, training_step
from headwater.studies.trials import Estimate, Verdict, fact, interleaved, judge, keep, make_table, once, ratio, tell

PARITY = 0.01
"""Share by which the numbers of parameters may differ."""


class HeadsSettings(ShapedSettings, ComparedSettings):
    """The models, and what is timed."""

    hidden_size: Annotated[int, Field(ge=16)] = 128
    heads: Annotated[int, Field(ge=2)] = 8
    groups: Annotated[int, Field(ge=2)] = 2
    """Key and value heads of GQA."""
    decoded_rows: Annotated[int, Field(ge=1)] = 8
    """Texts decoded together."""
    cached: Annotated[int, Field(ge=1)] = 1024
    """Tokens of each that were read before."""
    rounds: Annotated[int, Field(ge=3)] = 20
    """Times that all are timed, in turn."""

    @model_validator(mode="after")
    def _grouped(self) -> HeadsSettings:
        if self.heads % self.groups or self.groups == self.heads:
            raise ValueError(f"{self.groups} groups must divide the {self.heads} heads, and be fewer")
        return self

    def kinds(self) -> dict[str, int]:
        """Key and value heads by kind."""
        return {"MHA": self.heads, "GQA": self.groups, "MQA": 1}

    def shape(self, kind: str, vocabulary: int) -> ModelConfig:
        """With a feed-forward width, a multiple of 4, that brings the parameters nearest to MHA's."""
        whole = self.shaped(vocabulary)
        spared = plan.block_parameters(whole) - plan.block_parameters(
            whole.model_copy(update={"num_key_value_heads": self.kinds()[kind]}))
        wider = whole.intermediate_size + 4 * round(spared / (3 * self.hidden_size) / 4)
        return self.shaped(vocabulary, num_key_value_heads=self.kinds()[kind], intermediate_size=wider)


class Kind(NamedTuple):
    """What was measured of one."""

    name: str
    parameters: int
    feed: int
    """Width of the feed-forward layers."""
    cache_bytes: int
    """Of a token, in bfloat16."""
    step: list[float]
    """Seconds of training steps."""
    decode: list[float]
    """Seconds of decoding steps."""
    losses: list[float]
    """On unseen text, in nats a token, a model each."""


def run(out: Path, settings: HeadsSettings) -> list[Kind]:
    """Time, count and train the three; print the table, write `heads.json` and `heads.svg` into `out`. What is timed
    or trained already is not again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    torch.set_num_threads(settings.threads or cores())
    text = settings.text(out / "text")
    models = {name: initialise(Decoder(settings.shape(name, text.vocabulary)), 0) for name in settings.kinds()}
    say("heads: decoding steps")
    decode = once(out / "decode.json", lambda: interleaved(
        {name: _decoding(model.eval(), settings) for name, model in models.items()}, settings.rounds))
    say("heads: training steps")
    step = once(out / "step.json", lambda: interleaved(
        {name: training_step(model, settings) for name, model in models.items()}, settings.rounds))
    found = [Kind(name, plan.parameters(model.config), model.config.intermediate_size,
                  KVCache(model.config, 1, 1, dtype=torch.bfloat16).bytes, step[name], decode[name],
                  [_loss(name, seed, settings, text, out) for seed in settings.each_seed()])
             for name, model in models.items()]
    table = make_table(f"{settings.heads} query heads, decoding {settings.decoded_rows} x {settings.cached} tokens",
                       ["", "parameters", "feed-forward", "cache, bytes a token", "training step / MHA",
                        "decoding step / MHA", "loss, nats a token"], [_row(one, found[0]) for one in found])
    tell(out, "heads", [one._asdict() for one in found], table, verdicts(found, settings), _plot(found))
    return found


def verdicts(found: list[Kind], settings: HeadsSettings) -> list[Verdict]:
    """Losses are compared by pairs of a seed, times by the round."""
    whole, grouped, single = found
    off = max(abs(one.parameters / whole.parameters - 1) for one in found)
    told = [fact(f"parameters are equal within {PARITY:.0%} (off by {off:.2%})", PARITY - off)]
    for one in (grouped, single):
        shared = settings.heads // settings.kinds()[one.name]
        exact = one.cache_bytes * shared == whole.cache_bytes
        told += [fact(f"{one.name}'s cache is {shared} times smaller than MHA's", 0.0 if exact else -1.0),
                 judge(f"{one.name}'s decoding step is faster than MHA's", _faster(one.decode, whole.decode)),
                 judge(f"{one.name}'s training step is faster than MHA's", _faster(one.step, whole.step)),
                 judge(f"MHA's loss is below {one.name}'s", [b - a for a, b in zip(whole.losses, one.losses)])]
    return [*told, judge("GQA's loss is below MQA's", [b - a for a, b in zip(grouped.losses, single.losses)])]


def _faster(own: list[float], other: list[float]) -> Estimate:
    share = ratio(own, other)
    return Estimate(1.0, 0.0, share.number).minus(share)


@torch.inference_mode()
def _filled(model: Decoder, settings: HeadsSettings) -> KVCache:
    cache = KVCache(model.config, settings.decoded_rows, settings.cached + 1)
    cache.filled = settings.cached
    return cache


def _decoding(model: Decoder, settings: HeadsSettings) -> Callable[[], object]:
    """A step of decoding: one token of every row over what is cached, in float32."""
    cache, token = _filled(model, settings), torch.ones(settings.decoded_rows, 1, dtype=torch.int64)

    @torch.inference_mode()
    def step() -> None:
        cache.filled = settings.cached
        model(token, cache=cache)

    return step


def _loss(name: str, seed: int, settings: HeadsSettings, text: Text, out: Path) -> float:
    def measure() -> float:
        say(f"heads: {name}, model {seed}")
        model = train(out / f"{name}-{seed}", settings.shape(name, text.vocabulary), settings.stream(text, seed),
                      settings.trainer(), seed)
        return settings.losses(model, text).cross_entropy

    return float(once(out / f"{name}-{seed}.json", measure))


def _row(one: Kind, whole: Kind) -> tuple[str, ...]:
    return (one.name, f"{one.parameters:,}", f"{one.feed}", f"{one.cache_bytes:,}", ratio(one.step, whole.step).words(),
            ratio(one.decode, whole.decode).words(), Estimate.of(one.losses).words())


def _plot(found: list[Kind]) -> str:
    def drawn(of: Callable[[Kind], Estimate]) -> dict[str, tuple[float, float]]:
        return {one.name: (of(one).mean, 2 * of(one).error) for one in found}

    whole = found[0]
    quantities: dict[str, Any] = {
        "cache, bytes a token": drawn(lambda one: Estimate(one.cache_bytes, 0.0)),
        "decoding step / MHA": drawn(lambda one: ratio(one.decode, whole.decode)),
        "training step / MHA": drawn(lambda one: ratio(one.step, whole.step)),
        "loss, nats a token": drawn(lambda one: Estimate.of(one.losses))}
    return bars(quantities, title="Key and value heads, at equal parameters")
