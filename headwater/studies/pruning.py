"""Which blocks can a model lose, and what brings it back?

ShortGPT (2403.03853) removes the blocks of the lowest Block Influence at once, without a gradient, and finds that deep
models lose little. Small models of eight blocks, trained until blocks matter: every order of removal at every number of
blocks, against random ones, against random ones that spare the first block (which reads the embedding, and which no
order would take) and against the highest influence first; a block that does nothing, put in by hand; a short training
behind the removal, beside one of the whole model; and what INT8 or four bits cost a model with fewer blocks. Expected,
if the claim holds: the loss without the lowest k is below the median of random removals, and that below the loss
without the highest k; the block that does nothing has influence 0 and goes first; training recovers a part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, islice
from math import comb
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from headwater.compress.influence import Influence, block_influences
from headwater.compress.orders import Order, ascending, removals
from headwater.model import Decoder, initialise
from headwater.model.decoder import Block
from headwater.model.packed import Base, pack_linears
from headwater.model.removal import remove_blocks, without_blocks
from headwater.plots import Line, Panel, panels
from headwater.progress import say
from headwater.settings import Distinct
from headwater.studies.learners import ComparedSettings, ShapedSettings, Text, train
from headwater.studies.trials import Estimate, Verdict, fact, judge, keep, make_table, once, tell
from headwater.train.objective import next_token
from headwater.train.optimizer import OptimizerSettings
from headwater.train.trainer import Trainer

LOWEST, HIGHEST, RANDOM, SPARED = "lowest influence", "highest influence", "random", "random but the first"
HEALED = "healed"
ORDERS: dict[str, Order] = {LOWEST: "influence", "measured anew": "sequential", "relative magnitude": "magnitude",
                            "last first": "last_first"}
"""By the words of table and plot."""
CALIBRATION_SEED = 1 << 20
"""Of the training rows on which influence is measured."""
INSIDE = 3
"""Where the block is put that does nothing: behind so many."""


class PruningSettings(ShapedSettings, ComparedSettings):
    """The models, how many blocks they lose, and the training behind it."""

    quick: bool = False
    """One seed, a third of the steps and of the draws; what else is given stays."""
    hidden_size: Annotated[int, Field(ge=16)] = 128
    layers: Annotated[int, Field(ge=2)] = 8
    heads: Annotated[int, Field(ge=1)] = 4
    steps: Annotated[int, Field(ge=1)] = 900
    learning_rate: Annotated[float, Field(gt=0)] = 6e-3
    """Of Muon, under which all blocks learn in these few steps."""
    most: Annotated[int, Field(ge=1)] = 4
    """Blocks that are removed at most."""
    draws: Annotated[int, Field(ge=1)] = 12
    """Random removals of every number of blocks; all that there are where they are fewer."""
    calibration_rows: Annotated[int, Field(ge=1)] = 64
    """Rows of training text on which influence is measured."""
    healed: Annotated[int, Field(ge=1)] = 2
    """Blocks that are removed before the training goes on."""
    healing_steps: Annotated[int, Field(ge=1)] = 150
    healing_rate: Annotated[float, Field(gt=0)] = 5e-4
    forms: Annotated[tuple[Base, ...], Distinct] = ("int8", "int4", "nf4")
    """Into which the matrices are packed, of the whole model and of what is left of it."""

    def optimizer(self) -> OptimizerSettings:
        return OptimizerSettings(name="muon", learning_rate=self.learning_rate,
                                 warmup_steps=max(1, min(50, self.steps // 5)))

    @model_validator(mode="before")
    @classmethod
    def _quickly(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not values.get("quick"):
            return values
        return {"seeds": 1, "steps": 300, "draws": 4, "healing_steps": 50, **values}

    @model_validator(mode="after")
    def _leaves_one(self) -> PruningSettings:
        if self.most >= self.layers - 1:
            raise ValueError(f"{self.most} of {self.layers} blocks are to be removed; leave one, beside the first")
        if self.healed > self.most:
            raise ValueError(f"{self.healed} blocks are removed before a training, and {self.most} at most")
        return self


class Result(NamedTuple):
    """One model; losses are of unseen text, in nats a token."""

    seed: int
    influences: list[float]
    whole: float
    orders: dict[str, list[float]]
    """Without 1, 2, ... blocks."""
    random: list[list[float]]
    """The same, of every draw."""
    spared: list[list[float]]
    """Of draws that spare the first block."""
    identity: float
    """Influence of the block that does nothing."""
    identity_first: bool
    healed: float
    longer: float
    """The whole model trained on as long as the healed one."""
    packed: dict[str, list[float]]
    """By form: without 0, 1, ... blocks of the lowest influence."""


def run(out: Path, settings: PruningSettings) -> list[Result]:
    """Train, remove and heal; print the table, write `pruning.json` and `pruning.svg` into `out`. What is done already
    is not done again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    text = settings.text(out / "text")
    found = [_result(seed, settings, text, out) for seed in settings.each_seed()]
    columns = ["", *(f"without {count}" for count in range(1, settings.most + 1))]
    table = make_table(f"{settings.seeds} models of {settings.layers} blocks, loss above the whole model's "
                       f"{Estimate.of(one.whole for one in found).words()}, nats a token", columns,
                       [*((name, *(one.words() for one in row)) for name, row in rows_of(found).items()),
                        (f"{LOWEST}, {HEALED}", *(_healed(found).words() if count == settings.healed else ""
                                                  for count in range(1, settings.most + 1)))])
    tell(out, "pruning", [one._asdict() for one in found], table, verdicts(found, settings), _plot(found, settings))
    return found


def rows_of(found: list[Result]) -> dict[str, list[Estimate]]:
    """By order and, of the lowest influence, by form: how far the loss without 1, 2, ... blocks is above the same
    model's whole. Of random removals the median."""
    def over(of: Callable[[Result], Iterable[float]]) -> list[Estimate]:
        above = [[loss - one.whole for loss in of(one)] for one in found]
        return [Estimate.of(values) for values in zip(*above)]

    return {**{name: over(partial(_of_order, name)) for name in found[0].orders},
            RANDOM: over(lambda one: map(median, one.random)), SPARED: over(lambda one: map(median, one.spared)),
            **{f"{LOWEST}, {form}": over(partial(_of_form, form)) for form in found[0].packed}}


def _healed(found: list[Result]) -> Estimate:
    """How far a healed model is above the whole one after the same training."""
    return Estimate.of(one.healed - one.longer for one in found)


def _of_order(name: str, one: Result) -> list[float]:
    return one.orders[name]


def _of_form(form: str, one: Result) -> list[float]:
    return one.packed[form][1:]


def verdicts(found: list[Result], settings: PruningSettings) -> list[Verdict]:
    """Every model is compared with itself, and gives a margin."""
    told = []
    for count in range(1, settings.most + 1):
        for words, draws in (("random removals", [one.random for one in found]),
                             ("random removals that spare the first block", [one.spared for one in found])):
            below = [beaten(one.orders[LOWEST][count - 1], own[count - 1]) for one, own in zip(found, draws)]
            told.append(judge(f"the lowest {count} in influence cost less than half of the {words} "
                              f"(less than {Estimate.of(below).words('.0%')} of them)", [one - 0.5 for one in below]))
        told.append(judge(f"the highest {count} cost more than the median of random removals",
                          [one.orders[HIGHEST][count - 1] - median(one.random[count - 1]) for one in found]))
    return [*told, *_control(found), *_healing(found, settings), *_packing(found, settings)]


def beaten(loss: float, draws: Sequence[float]) -> float:
    """The share of other removals whose loss is higher; the removal itself may be among the draws."""
    others = [one for one in draws if one != loss]
    return mean(loss < one for one in others) if others else 0.5


def _control(found: list[Result]) -> Iterator[Verdict]:
    yield fact("a block that does nothing has influence 0, exactly", -max(abs(one.identity) for one in found))
    yield fact("and is removed first", 0.0 if all(one.identity_first for one in found) else -1.0)


def _healing(found: list[Result], settings: PruningSettings) -> Iterator[Verdict]:
    cost = [one.orders[LOWEST][settings.healed - 1] - one.whole for one in found]
    left = [one.healed - one.longer for one in found]
    back = Estimate.of(1 - after / before for before, after in zip(cost, left))
    yield judge(f"{settings.healing_steps} steps of training recover a part of what {settings.healed} blocks cost, "
                f"against the whole model after as many ({back.words('.0%')})",
                [before - after for before, after in zip(cost, left)])
    yield judge("what is left stays behind that whole model", left)


def _packing(found: list[Result], settings: PruningSettings) -> Iterator[Verdict]:
    for form in settings.forms:
        costs = [[packed / loss - 1 for packed, loss in zip(one.packed[form], (one.whole, *one.orders[LOWEST]))]
                 for one in found]
        most = max(abs(cost) for own in costs for cost in own)
        yield judge(f"{form} costs a model of fewer blocks no more than 1 % more of its loss than the whole one (most "
                    f"{most:.2%})", [0.01 - (max(own[1:]) - own[0]) for own in costs])


def _result(seed: int, settings: PruningSettings, text: Text, out: Path) -> Result:
    def measure() -> Any:
        say(f"pruning: model {seed}")
        model = train(out / f"model-{seed}", settings.shaped(text.vocabulary), settings.stream(text, seed),
                      settings.trainer(optimizer=settings.optimizer()), seed).eval()
        return _measured(model, seed, settings, text, out)._asdict()

    return Result(**once(out / f"model-{seed}.json", measure))


def _measured(model: Decoder, seed: int, settings: PruningSettings, text: Text, out: Path) -> Result:
    def loss(model: Decoder) -> float:
        return settings.losses(model, text).cross_entropy

    def without(layers: list[int]) -> float:
        with without_blocks(model, layers):
            return loss(model)

    rows = _calibration(settings, text)
    found = block_influences(model, rows)
    lowest = ascending([one.influence for one in found])
    counts = range(1, settings.most + 1)
    ranked = {name: [one.layer for one in islice(removals(order, found, model, rows, seed), settings.most)]
              for name, order in ORDERS.items()} | {HIGHEST: lowest[::-1]}
    say(f"pruning: removals from model {seed}")
    orders = {name: [without(layers[:count]) for count in counts] for name, layers in ranked.items()}
    random, spared = ([[without(list(layers)) for layers in drawn(places, count, settings.draws, seed)]
                       for count in counts] for places in (range(settings.layers), range(1, settings.layers)))
    packed: dict[str, list[float]] = {
        form: [_packed_loss(model, lowest[:count], form, loss) for count in (0, *counts)] for form in settings.forms}
    identity, first = _identity(model, rows)
    healed, longer = (loss(_trained_on(copy.deepcopy(model), layers, seed, settings, text, out / f"{name}-{seed}"))
                      for name, layers in (("healed", lowest[: settings.healed]), ("longer", [])))
    return Result(seed, [one.influence for one in found], loss(model), orders, random, spared, identity, first, healed,
                  longer, packed)


def _calibration(settings: PruningSettings, text: Text) -> Tensor:
    """Rows of training text, the same for every model, [N,T]."""
    stream = settings.stream(text, CALIBRATION_SEED)
    steps = -(-settings.calibration_rows // settings.rows)
    return torch.cat([stream.batch(step).tokens for step in range(steps)])[: settings.calibration_rows]


def drawn(layers: Sequence[int], count: int, draws: int, seed: int) -> list[tuple[int, ...]]:
    """Different removals of so many of these blocks at random; all of them where there are no more than `draws`."""
    if comb(len(layers), count) <= draws:
        return list(combinations(layers, count))
    draw, found = np.random.default_rng((seed, count)), dict[tuple[int, ...], None]()
    while len(found) < draws:
        found[tuple(sorted(draw.choice(layers, count, replace=False).tolist()))] = None
    return list(found)


def _packed_loss(model: Decoder, layers: list[int], form: Base, loss: Callable[[Decoder], float]) -> float:
    packed = remove_blocks(copy.deepcopy(model), layers)
    pack_linears(packed, head=False, form=form)
    return loss(packed)


def _identity(model: Decoder, rows: Tensor) -> tuple[float, bool]:
    """The influence of a block that adds nothing, put behind `INSIDE` others, and whether it would go first."""
    model, place = copy.deepcopy(model), min(INSIDE, len(model.blocks))
    block = initialise(Decoder(model.config), 0).blocks[place - 1]
    assert isinstance(block, Block)
    with torch.no_grad():
        block.attention.out.weight.zero_()
        block.feedforward.down.weight.zero_()
    model.blocks.insert(place, block.eval())
    found: list[Influence] = block_influences(model, rows)
    return found[place].influence, ascending([one.influence for one in found])[0] == place


def _trained_on(model: Decoder, layers: list[int], seed: int, settings: PruningSettings, text: Text, folder: Path
                ) -> Decoder:
    """Without these blocks, on text in another order than before."""
    trainer = settings.trainer_of(settings.healing_steps, learning_rate=settings.healing_rate)
    folder.mkdir(parents=True, exist_ok=True)
    remove_blocks(model, layers)
    Trainer(model, next_token, settings.stream(text, settings.seed + settings.seeds + seed), trainer).fit(folder)
    return model


def _plot(found: list[Result], settings: PruningSettings) -> str:
    counts = list(range(1, settings.most + 1))
    losses = [Line(name, counts, [row.mean for row in rows], [2 * row.error for row in rows])
              for name, rows in rows_of(found).items() if not name.startswith(f"{LOWEST},")]
    losses.append(Line(HEALED, [settings.healed], [_healed(found).mean], [2 * _healed(found).error]))
    layers = list(range(settings.layers))
    influences = [Line(f"model {one.seed}", layers, one.influences) for one in found]
    return panels([Panel(losses, "blocks removed", "nats a token above the whole model", "by order of removal",
                         log_y=True, ticks=counts),
                   Panel(influences, "block", "influence", "1 - cos of what goes in and what comes out", log_y=True,
                         ticks=layers)])
